//! Measures the CPU time that a guest takes.
//!
//! A guest runs on the thread that polls its call, so the time of that thread is read before and after each poll. It includes
//! the host's work for the guest in the same polls, and not what other threads do for it, such as sending its requests.

use std::{future::poll_fn, pin::pin, time::Duration};

/// Runs work to its end, and returns the CPU time that it took.
pub(crate) async fn measured<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let mut work = pin!(work);
    let mut used = Duration::ZERO;
    let result = poll_fn(|context| {
        let before = of_thread();
        let polled = work.as_mut().poll(context);
        used += of_thread().saturating_sub(before);
        polled
    });
    let result = result.await;
    (result, used)
}

/// The CPU time that this thread has used so far; zero if the system does not say.
fn of_thread() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "no safe function of our dependencies reads the time of a thread")]
    // SAFETY: The pointer is to a value that lives during the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if status != 0 {
        return Duration::ZERO;
    }
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::{hint::black_box, time::Instant};

    use super::*;

    #[tokio::test]
    async fn computing_counts_and_waiting_does_not() {
        let (sum, used) = measured(async {
            let started = Instant::now();
            let mut sum = 0_u64;
            while of_thread() < Duration::from_millis(20) && started.elapsed() < Duration::from_secs(20) {
                sum = black_box(sum.wrapping_add(1));
            }
            sum
        })
        .await;
        assert!(sum > 0 && used > Duration::from_millis(5), "{used:?}");
        let ((), waited) = measured(tokio::time::sleep(Duration::from_millis(100))).await;
        assert!(waited < Duration::from_millis(50), "{waited:?}");
    }
}

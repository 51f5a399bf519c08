//! A recurring time in cron form.

use flow::{Cron, Timestamp};

/// The number of times that are computed one after the other.
const TIMES: usize = 4;

/// The input is a line in cron form, a time zone, and a time in microseconds.
pub fn run(input: &[u8]) {
    let Some([line, zone, micros]) = crate::parts(input) else { return };
    let zone = if zone.is_empty() { "UTC" } else { zone };
    let cron = match Cron::new(line, zone) {
        Ok(cron) => cron,
        Err(refused) => return assert!(!refused.to_string().is_empty()),
    };
    assert_eq!(Cron::new(cron.line(), cron.zone()).as_ref(), Ok(&cron), "what is shown can be read");
    let _ = cron.is_interval();
    let mut time = Timestamp::from_micros(micros.trim().parse().unwrap_or_default());
    for _ in 0..TIMES {
        let Some(next) = cron.after(time) else { return };
        assert!(next > time, "{cron:?} fires at {next:?}, which is not after {time:?}");
        time = next;
    }
}

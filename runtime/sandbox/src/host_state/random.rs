//! Randomness that depends only on the attempt: the same on every machine, and different for each attempt. A call that is granted
//! the randomness of the machine gets that instead.

use flow::Size;
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use super::{HostState, Seed};

/// The maximum number of random bytes that a guest gets at once. They are made without a pause, so other calls wait meanwhile. Libraries
/// ask for some hundred.
const MAX_BYTES: u64 = 1 << 20;

/// Three independent streams of bytes, from one hash with extendable output.
pub(crate) struct Randomness {
    secure: blake3::OutputReader,
    insecure: blake3::OutputReader,
    seed: (u64, u64),
}

impl Randomness {
    /// The randomness of the machine.
    pub(super) fn of_machine() -> Self {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Self::from(&blake3::Hasher::new_keyed(&key))
    }

    /// The randomness of an attempt.
    pub(super) fn of_attempt(seed: &Seed<'_>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("waft 1: randomness of an attempt");
        match seed {
            Seed::Attempt { run, task, firing, attempt } => {
                // A name contains no zero byte, so no two attempts feed the same bytes.
                hasher.update(run.as_str().as_bytes()).update(&[0]).update(task.as_str().as_bytes()).update(&[0]);
                hasher.update(&firing.to_le_bytes()).update(&attempt.to_le_bytes());
            }
            Seed::Describe => {}
        }
        Self::from(&hasher)
    }

    fn from(hasher: &blake3::Hasher) -> Self {
        let stream = |name: &str| hasher.clone().update(name.as_bytes()).finalize_xof();
        let mut seeds = stream("insecure seed");
        Self {
            secure: stream("secure"),
            insecure: stream("insecure"),
            seed: (next_u64(&mut seeds), next_u64(&mut seeds)),
        }
    }
}

fn next_u64(stream: &mut blake3::OutputReader) -> u64 {
    let mut bytes = [0; 8];
    stream.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// The next bytes.
///
/// # Errors
/// When they are more than [`MAX_BYTES`]: the guest is stopped.
fn next_bytes(stream: &mut blake3::OutputReader, count: u64) -> wasmtime::Result<Vec<u8>> {
    if count > MAX_BYTES {
        let limit = Size(MAX_BYTES);
        return Err(wasmtime::Error::msg(format!(
            "it requested {count} random bytes at once, the limit is {limit}: request them in several calls"
        )));
    }
    let mut bytes = vec![0; usize::try_from(count)?];
    stream.fill(&mut bytes);
    Ok(bytes)
}

impl random::Host for HostState {
    fn get_random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        next_bytes(&mut self.randomness.secure, count)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(next_u64(&mut self.randomness.secure))
    }
}

impl insecure::Host for HostState {
    fn get_insecure_random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        next_bytes(&mut self.randomness.insecure, count)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(next_u64(&mut self.randomness.insecure))
    }
}

impl insecure_seed::Host for HostState {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok(self.randomness.seed)
    }
}

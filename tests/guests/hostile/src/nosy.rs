//! Tasks that look for denied capabilities, and for differences between calls.

use std::{
    collections::hash_map::RandomState,
    env, fs,
    hash::{BuildHasher, Hasher},
    hint::black_box,
    net::TcpStream,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use waft_guest::prelude::*;

/// Observations of time, randomness and arithmetic: the same in every execution of the same job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Observed {
    /// The wall clock, in nanoseconds since 1970.
    pub(crate) wall_clock: u64,
    /// The differences between readings of the monotonic clock, in nanoseconds.
    pub(crate) ticks: Vec<u64>,
    /// Its difference over a sleep of five milliseconds.
    pub(crate) slept: u64,
    /// Random numbers.
    pub(crate) random: Vec<u64>,
    /// The bits of not-a-numbers, from different operations.
    pub(crate) nan_bits: Vec<u64>,
    /// The attempt of the call.
    pub(crate) attempt: u32,
}

/// The findings of a guest where nothing should be accessible.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Found {
    /// Variables of the environment.
    pub(crate) variables: Vec<String>,
    /// Arguments after the program's name.
    pub(crate) arguments: Vec<String>,
    /// Entries of the root folder, or why there are none.
    pub(crate) root: String,
    /// The content of a file that every Unix has, or why not.
    pub(crate) passwords: String,
    /// Whether a file could be written, or why not.
    pub(crate) written: String,
    /// Whether a port of the host could be reached, or why not.
    pub(crate) reached: String,
    /// The number of bytes of standard input, or why not.
    pub(crate) standard_input: String,
}

/// Reads clocks, random numbers and not-a-numbers.
#[task(provides = "observed")]
pub(crate) fn observe(call: &Call) -> Observed {
    let wall_clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanoseconds);
    let ticks = (0..3).map(|_| nanoseconds(Instant::now().elapsed())).collect();
    let before = Instant::now();
    thread::sleep(Duration::from_millis(5));
    let slept = nanoseconds(before.elapsed());
    // The keys of a new hash map are random numbers of the standard library.
    let random = (0..2).map(|_| RandomState::new().build_hasher().finish()).collect();
    // Opaque to the compiler, which would otherwise compute the results itself.
    let zero = || black_box(0.0_f64);
    let odd = black_box(f64::from_bits(0x7ff8_dead_beef_0001));
    let nans = [zero() / zero(), -(zero() / zero()), (-1.0 - zero()).sqrt(), odd + zero()];
    let nan_bits = nans.map(|nan| black_box(nan).to_bits()).to_vec();
    Observed { wall_clock, ticks, slept, random, nan_bits, attempt: call.attempt }
}

/// Looks for variables, arguments, files, sockets and input.
#[task(provides = "found")]
pub(crate) fn rummage() -> Found {
    let entries = fs::read_dir("/").map(|entries| format!("{} entries", entries.count()));
    Found {
        variables: env::vars().map(|(name, _)| name).collect(),
        arguments: env::args().skip(1).collect(),
        root: describe(entries),
        passwords: describe(fs::read_to_string("/etc/passwd")),
        written: describe(fs::write("/tmp/hostile", "was here").map(|()| "written".into())),
        reached: describe(TcpStream::connect("127.0.0.1:5672").map(|_| "reached".into())),
        standard_input: describe(std::io::read_to_string(std::io::stdin()).map(|text| format!("{} bytes", text.len()))),
    }
}

/// Opens a connection, and fails with the error.
#[task]
pub(crate) fn connect() -> Result<(), Failure> {
    TcpStream::connect("127.0.0.1:5672")?;
    Ok(())
}

/// Opens a connection, and panics with the error.
#[task]
pub(crate) fn connect_or_panic() {
    TcpStream::connect("127.0.0.1:5672").unwrap();
}

/// Opens a file that every Unix has, and fails with the error.
#[task]
pub(crate) fn open_file() -> Result<(), Failure> {
    fs::read_to_string("/etc/passwd")?;
    Ok(())
}

fn describe(result: std::io::Result<String>) -> String {
    result.unwrap_or_else(|error| format!("no: {}", error.kind()))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

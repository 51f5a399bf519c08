//! Tasks that look for what they were not granted, and for what differs from one call to the next.

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

/// What a guest sees of time, chance and arithmetic: the same in every run of the same job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Observed {
    /// The wall clock, in nanoseconds since 1970.
    pub(crate) wall_clock: u64,
    /// How far the monotonic clock came from one reading to the next, in nanoseconds.
    pub(crate) ticks: Vec<u64>,
    /// How far it came during a sleep of five milliseconds.
    pub(crate) slept: u64,
    /// Random numbers.
    pub(crate) random: Vec<u64>,
    /// The bits of not-a-numbers, from different operations.
    pub(crate) nan_bits: Vec<u64>,
    /// The call's own words.
    pub(crate) attempt: u32,
}

/// What a guest found where nothing should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Found {
    /// Variables of the environment.
    pub(crate) variables: Vec<String>,
    /// Arguments after the program's name.
    pub(crate) arguments: Vec<String>,
    /// Entries of the root folder, or why there are none.
    pub(crate) root: String,
    /// The content of a file that every Unix has, or why it has none.
    pub(crate) passwords: String,
    /// Whether a file could be written, or why not.
    pub(crate) written: String,
    /// Whether a port of the host could be reached, or why not.
    pub(crate) reached: String,
    /// How many bytes standard input holds, or why none.
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
    // The keys of a new hash map are the standard library's own use of randomness.
    let random = (0..2).map(|_| RandomState::new().build_hasher().finish()).collect();
    // Unknown to the compiler, which would do the sums itself otherwise.
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
        root: told(entries),
        passwords: told(fs::read_to_string("/etc/passwd")),
        written: told(fs::write("/tmp/hostile", "was here").map(|()| "written".into())),
        reached: told(TcpStream::connect("127.0.0.1:5672").map(|_| "reached".into())),
        standard_input: told(std::io::read_to_string(std::io::stdin()).map(|text| format!("{} bytes", text.len()))),
    }
}

/// Opens a connection, and fails with what that comes to.
#[task]
pub(crate) fn connect() -> Result<(), Failure> {
    TcpStream::connect("127.0.0.1:5672")?;
    Ok(())
}

/// Opens a connection, and panics with what that comes to.
#[task]
pub(crate) fn connect_or_panic() {
    TcpStream::connect("127.0.0.1:5672").unwrap();
}

/// Opens a file that every Unix has, and fails with what that comes to.
#[task]
pub(crate) fn open_file() -> Result<(), Failure> {
    fs::read_to_string("/etc/passwd")?;
    Ok(())
}

fn told(found: std::io::Result<String>) -> String {
    found.unwrap_or_else(|error| format!("no: {}", error.kind()))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

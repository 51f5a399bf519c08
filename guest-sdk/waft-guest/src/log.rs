//! Log lines that are recorded with the call: `log::info!("{count} words")`.
//!
//! Outside waft they go to standard error.

use std::fmt;

pub use crate::{debug, error, info, trace, warn};

/// The importance of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For following every step.
    Trace,
    /// For finding errors.
    Debug,
    /// For users who run the flow.
    Info,
    /// Something is unexpected.
    Warn,
    /// Something failed.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

/// Records a line with the call. The macros of this module are shorter.
pub fn log(level: Level, message: impl AsRef<str>) {
    #[cfg(target_family = "wasm")]
    crate::wasm::log(level, message.as_ref());
    #[cfg(not(target_family = "wasm"))]
    eprintln!("[{level}] {}", message.as_ref());
}

/// Logs a line at trace level, written as for [`format!`].
#[macro_export]
macro_rules! trace {
    ($($line:tt)+) => { $crate::log::log($crate::log::Level::Trace, ::std::format!($($line)+)) };
}

/// Logs a line at debug level, written as for [`format!`].
#[macro_export]
macro_rules! debug {
    ($($line:tt)+) => { $crate::log::log($crate::log::Level::Debug, ::std::format!($($line)+)) };
}

/// Logs a line at info level, written as for [`format!`].
#[macro_export]
macro_rules! info {
    ($($line:tt)+) => { $crate::log::log($crate::log::Level::Info, ::std::format!($($line)+)) };
}

/// Logs a line at warn level, written as for [`format!`].
#[macro_export]
macro_rules! warn {
    ($($line:tt)+) => { $crate::log::log($crate::log::Level::Warn, ::std::format!($($line)+)) };
}

/// Logs a line at error level, written as for [`format!`].
#[macro_export]
macro_rules! error {
    ($($line:tt)+) => { $crate::log::log($crate::log::Level::Error, ::std::format!($($line)+)) };
}

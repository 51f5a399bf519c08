//! The resource limits of one call. There is no unlimited value.

use std::{fmt, time::Duration};

use crate::{Failure, FailureKind, Size, time::format_duration};

/// The largest allowed [`Limits::stack`]: sandboxes have engines up to this size.
pub const MAX_STACK_BYTES: u64 = 8 << 20;

/// Defines the limits: for each its key in flow files and settings, its type, its default, and its maximum where an operator
/// sets no other. Everything that treats each limit alike is generated here.
macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $key:ident: $kind:ident($type:ty) = $default:expr, at most $maximum:expr;)+) => {
        /// The limits of one call; each one is set.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $key: $type,)+
        }

        /// Limits that a module or a flow file sets; the others keep their values.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct LimitOverrides {
            $(#[doc = concat!("See [`Limits::", stringify!($key), "`].")] pub $key: Option<$type>,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl Limits {
            /// The maximum of each limit, where an operator sets no other.
            #[must_use]
            pub const fn maximum() -> Self {
                Self { $($key: $maximum,)+ }
            }

            /// The limits that are above a maximum.
            #[must_use]
            pub fn exceeding(&self, maximum: &Self) -> Vec<ExceededLimit> {
                let is_above = [$(self.$key > maximum.$key),+];
                let (mut asked, mut allowed) = (LimitOverrides::from(*self), LimitOverrides::from(*maximum));
                let limits = asked.entries().zip(allowed.entries()).zip(is_above);
                let exceeded = limits.filter(|(_, is_above)| *is_above).map(|(((name, asked), (_, allowed)), _)| {
                    ExceededLimit { name, asked: asked.to_string(), allowed: allowed.to_string() }
                });
                exceeded.collect()
            }

            /// These limits, each at most as high as a maximum.
            #[must_use]
            pub fn at_most(&self, maximum: &Self) -> Self {
                Self { $($key: self.$key.min(maximum.$key),)+ }
            }

            /// These limits, with the set overrides applied.
            #[must_use]
            pub fn with(self, overrides: &LimitOverrides) -> Self {
                Self { $($key: overrides.$key.unwrap_or(self.$key),)+ }
            }
        }

        impl LimitOverrides {
            /// These limits, and those of `lower` that are not set here.
            #[must_use]
            pub fn or(self, lower: Self) -> Self {
                Self { $($key: self.$key.or(lower.$key),)+ }
            }

            /// Each limit with its key, to read or to write it.
            pub fn entries(&mut self) -> impl Iterator<Item = (&'static str, LimitEntry<'_>)> {
                [$((stringify!($key), LimitEntry::$kind(&mut self.$key)),)+].into_iter()
            }
        }

        impl From<Limits> for LimitOverrides {
            fn from(limits: Limits) -> Self {
                Self { $($key: Some(limits.$key),)+ }
            }
        }
    };
}

limits! {
    /// The maximum wall-clock time from the start of the call, including waits.
    timeout: Time(Duration) = Duration::from_secs(300), at most Duration::from_secs(3_600);
    /// The maximum number of bytes of all linear memories of the call together.
    memory: Bytes(u64) = 64 << 20, at most 1 << 30;
    /// The maximum bytes of WebAssembly stack, at most [`MAX_STACK_BYTES`]. A sandbox may round it up to the next class that
    /// it has an engine for.
    stack: Bytes(u64) = 512 << 10, at most MAX_STACK_BYTES;
    /// The maximum bytes of all values that the call provides, including names.
    output: Bytes(u64) = 16 << 20, at most 256 << 20;
    /// The maximum bytes of log lines, standard output and standard error together.
    log: Bytes(u64) = 1 << 20, at most 64 << 20;
    /// The maximum number of elements of all tables of the call together.
    table_elements: Count(u64) = 100_000, at most 10_000_000;
    /// The maximum number each of core instances, memories and tables of the component.
    instances: SmallCount(u32) = 32, at most 100;
    /// The maximum bytes of all HTTP requests and responses of the call together, with their headers.
    http_bytes: Bytes(u64) = 16 << 20, at most 256 << 20;
}

impl Limits {
    /// Checks the bytes of the values that a call provides, including their names.
    ///
    /// # Errors
    /// The failure of the call when they are more than [`Limits::output`].
    pub fn check_output(&self, used: u64) -> Result<(), Failure> {
        if used <= self.output {
            return Ok(());
        }
        let limit = Size(self.output);
        let message = format!("it returned {used} bytes of values and names, the limit is {limit}");
        Err(Failure::new(FailureKind::OutputLimit, message))
    }
}

/// One limit, which may be set.
#[derive(Debug)]
pub enum LimitEntry<'a> {
    /// A time.
    Time(&'a mut Option<Duration>),
    /// A number of bytes.
    Bytes(&'a mut Option<u64>),
    /// A number of things.
    Count(&'a mut Option<u64>),
    /// A number of things with 32 bits.
    SmallCount(&'a mut Option<u32>),
}

impl LimitEntry<'_> {
    /// The type of the limit in a flow file.
    pub(crate) fn form(&self) -> &'static str {
        match self {
            Self::Time(_) => "duration",
            Self::Bytes(_) => "size",
            Self::Count(_) | Self::SmallCount(_) => "whole number",
        }
    }

    /// Whether the limit is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        match self {
            Self::Time(time) => time.is_some(),
            Self::Bytes(number) | Self::Count(number) => number.is_some(),
            Self::SmallCount(number) => number.is_some(),
        }
    }

    /// Whether a flow file has the limit in quotes.
    pub(crate) fn is_text(&self) -> bool {
        match self {
            Self::Time(_) | Self::Bytes(_) => true,
            Self::Count(_) | Self::SmallCount(_) => false,
        }
    }
}

/// The limit as a flow file has it; nothing if it is not set.
impl fmt::Display for LimitEntry<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(Some(time)) => out.write_str(&format_duration(*time).unwrap_or_else(|| format!("{time:?}"))),
            Self::Bytes(Some(bytes)) => write!(out, "{}", Size(*bytes)),
            Self::Count(Some(count)) => write!(out, "{count}"),
            Self::SmallCount(Some(count)) => write!(out, "{count}"),
            Self::Time(None) | Self::Bytes(None) | Self::Count(None) | Self::SmallCount(None) => Ok(()),
        }
    }
}

/// A limit that is set above the maximum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its {name} of {asked} is above the maximum here, {allowed}")]
pub struct ExceededLimit {
    /// The key of the limit in a flow file.
    pub name: &'static str,
    /// Its value, as a flow file has it.
    pub asked: String,
    /// The maximum.
    pub allowed: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_above_the_maximum_is_reported() {
        let maximum = Limits::maximum();
        assert_eq!(maximum.exceeding(&maximum), []);
        assert_eq!(Limits::default().exceeding(&maximum), [], "the defaults are allowed");
        let above = Limits {
            timeout: maximum.timeout + Duration::from_secs(1),
            memory: maximum.memory + 1,
            stack: maximum.stack + 1,
            output: maximum.output + 1,
            log: maximum.log + 1,
            table_elements: maximum.table_elements + 1,
            instances: maximum.instances + 1,
            http_bytes: maximum.http_bytes + 1,
        };
        let names: Vec<&str> = above.exceeding(&maximum).iter().map(|exceeded| exceeded.name).collect();
        assert_eq!(names, ["timeout", "memory", "stack", "output", "log", "table_elements", "instances", "http_bytes"]);
        assert_eq!(above.at_most(&maximum), maximum);
        assert_eq!(Limits::default().at_most(&maximum), Limits::default());
        let memory = Limits { memory: 8 << 30, ..maximum };
        let texts: Vec<String> = memory.exceeding(&maximum).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["its memory of 8GiB is above the maximum here, 1GiB"]);
    }
}

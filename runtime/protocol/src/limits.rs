//! The limits of a call and of a run in messages: numbers with values, so that a new limit changes no message that does not
//! set it.

use std::time::Duration;

use flow::{Limits, RunLimits};

use crate::{
    codec,
    wire::{Invalid, micros},
};

/// The limits that are not left out, in the order of their numbers.
pub(crate) type WireLimits = Vec<(u8, u64)>;

/// Numbers the limits. A message leaves out a limit with the value here, which is not the default: defaults may change, and
/// the value here never does. A number is never reused.
macro_rules! numbered_limits {
    ($limits:ident, $left_out:ident, $to_wire:ident, $from_wire:ident; $($number:literal $key:ident = $value:expr;)+) => {
        /// The limits that a message leaves out.
        const $left_out: $limits = $limits { $($key: $value,)+ };

        /// The limits as a message contains them.
        pub(crate) fn $to_wire(limits: &$limits) -> WireLimits {
            let all = [$(($number, limits.$key.to_number(), $left_out.$key.to_number()),)+];
            all.into_iter().filter(|(_, value, left_out)| value != left_out).map(|(number, value, _)| (number, value)).collect()
        }

        /// The limits of a message.
        ///
        /// # Errors
        /// Why they are invalid. Nothing must run without a limit that only a later waft knows.
        pub(crate) fn $from_wire(wire: WireLimits) -> Result<$limits, Invalid> {
            let mut limits = $left_out;
            for (number, value) in wire {
                match number {
                    $($number => limits.$key = Number::from_number(value).ok_or_else(|| format!("{} of {value}", stringify!($key)))?,)+
                    unknown => return Err(codec::later(format!("limit {unknown}"))),
                }
            }
            Ok(limits)
        }
    };
}

numbered_limits! {
    Limits, LEFT_OUT, limits_to_wire, limits_from_wire;
    1 timeout = Duration::from_secs(300);
    2 memory = 64 << 20;
    3 stack = 512 << 10;
    4 output = 16 << 20;
    5 log = 1 << 20;
    6 table_elements = 100_000;
    7 instances = 32;
    8 http_bytes = 16 << 20;
}

numbered_limits! {
    RunLimits, LEFT_OUT_OF_RUNS, run_limits_to_wire, run_limits_from_wire;
    1 elements = 1_000_000;
    2 attempts = 100;
    3 firings = 10_000;
    4 value = 256 << 20;
}

/// A limit as a number. A time is in microseconds.
trait Number: Sized {
    fn to_number(&self) -> u64;
    fn from_number(number: u64) -> Option<Self>;
}

impl Number for Duration {
    fn to_number(&self) -> u64 {
        micros(*self)
    }

    fn from_number(number: u64) -> Option<Self> {
        Some(Self::from_micros(number))
    }
}

impl Number for u64 {
    fn to_number(&self) -> u64 {
        *self
    }

    fn from_number(number: u64) -> Option<Self> {
        Some(number)
    }
}

impl Number for u32 {
    fn to_number(&self) -> u64 {
        (*self).into()
    }

    fn from_number(number: u64) -> Option<Self> {
        number.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_limits_with_another_value_are_written() {
        assert_eq!(limits_to_wire(&LEFT_OUT), []);
        assert_eq!(limits_from_wire(Vec::new()).unwrap(), LEFT_OUT);
        let limits = Limits { memory: 1, instances: 0, ..LEFT_OUT };
        assert_eq!(limits_to_wire(&limits), [(2, 1), (7, 0)]);
        assert_eq!(limits_from_wire(vec![(2, 1), (7, 0)]).unwrap(), limits);
    }

    #[test]
    fn the_limits_of_a_run_have_their_own_numbers() {
        assert_eq!(run_limits_to_wire(&LEFT_OUT_OF_RUNS), []);
        let limits = RunLimits { elements: 7, attempts: 8, firings: 9, value: 1 << 40 };
        assert_eq!(run_limits_to_wire(&limits), [(1, 7), (2, 8), (3, 9), (4, 1 << 40)]);
        assert_eq!(run_limits_from_wire(run_limits_to_wire(&limits)).unwrap(), limits);
        let error = run_limits_from_wire(vec![(5, 1)]).unwrap_err();
        assert_eq!(error, "limit 5 is not known here: a later waft wrote it, so upgrade this one");
    }

    #[test]
    fn an_unknown_limit_is_refused() {
        let error = limits_from_wire(vec![(1, 5), (200, 1)]).unwrap_err();
        assert_eq!(error, "limit 200 is not known here: a later waft wrote it, so upgrade this one");
        assert!(limits_from_wire(vec![(7, 1 << 40)]).is_err());
    }
}

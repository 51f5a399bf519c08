//! What one attempt used, as facts of its log.

use std::time::Duration;

use crate::wire::micros;

/// What one attempt used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallUsage {
    /// The time from its start to its end.
    pub wall: Duration,
    /// The CPU time of the threads that ran the guest, while they ran it.
    pub cpu: Duration,
    /// The most bytes of all its linear memories together: a guest cannot give memory back.
    pub memory: u64,
    /// The bytes of its inputs; of a rollback, also of the values that the apply had provided.
    pub input_bytes: u64,
    /// The bytes of the values that it returned.
    pub output_bytes: u64,
    /// The number of HTTP requests that it tried, denied ones included.
    pub http_requests: u64,
    /// The bytes of its HTTP requests: addresses, headers and bodies.
    pub http_request_bytes: u64,
    /// The bytes of the responses: headers and bodies.
    pub http_response_bytes: u64,
}

/// The number of the fact that each attempt with a usage has.
const WALL: u8 = 2;

impl CallUsage {
    /// The numbers are part of the format, and never reused.
    pub(super) fn facts(&self) -> impl Iterator<Item = (u8, u64)> + use<> {
        let all = [
            (WALL, micros(self.wall)),
            (3, micros(self.cpu)),
            (4, self.memory),
            (5, self.input_bytes),
            (6, self.output_bytes),
            (7, self.http_requests),
            (8, self.http_request_bytes),
            (9, self.http_response_bytes),
        ];
        all.into_iter().filter(|(number, value)| *number == WALL || *value != 0)
    }

    /// The usage in the facts of a log; `None` if they have none.
    pub(super) fn of_facts(fact: impl Fn(u8) -> Option<u64>) -> Option<Self> {
        let wall = Duration::from_micros(fact(WALL)?);
        let of = |number| fact(number).unwrap_or_default();
        Some(Self {
            wall,
            cpu: Duration::from_micros(of(3)),
            memory: of(4),
            input_bytes: of(5),
            output_bytes: of(6),
            http_requests: of(7),
            http_request_bytes: of(8),
            http_response_bytes: of(9),
        })
    }

    /// Encodes the usage alone, as a logbook stores it beside the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        super::CallLog { usage: Some(*self), ..super::CallLog::default() }.encode()
    }
}

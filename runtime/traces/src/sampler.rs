//! Decides which traces are recorded.

use crate::{SpanContext, TraceId};

/// The samplers of OpenTelemetry. Each decides by the trace alone, so that all engines decide alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampler {
    /// Records every trace.
    AlwaysOn,
    /// Records none. The context is still passed on.
    AlwaysOff,
    /// Records this part of all traces, from 0 to 1.
    Ratio(f64),
    /// Decides as the submitter of the run has; without one, records this part of all traces.
    ParentOrRatio(f64),
}

impl Default for Sampler {
    fn default() -> Self {
        Self::ParentOrRatio(1.0)
    }
}

impl Sampler {
    /// Whether a trace is recorded. `parent` is the span of the submitter.
    pub(crate) fn samples(self, trace: TraceId, parent: Option<SpanContext>) -> bool {
        match (self, parent) {
            (Self::AlwaysOn, _) => true,
            (Self::AlwaysOff, _) => false,
            (Self::ParentOrRatio(_), Some(parent)) => parent.sampled,
            (Self::Ratio(ratio) | Self::ParentOrRatio(ratio), _) => is_in(trace, ratio),
        }
    }
}

/// Whether a trace is in this part of all. It uses the bits that other programs with OpenTelemetry use.
fn is_in(trace: TraceId, ratio: f64) -> bool {
    let mut low = [0; 8];
    low.copy_from_slice(&trace.as_bytes()[8..]);
    // A conversion to integers saturates: with 1, all are in it.
    let bound = (ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
    u64::from_be_bytes(low) >> 1 < bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_samples_about_that_part_and_always_the_same_traces() {
        let traces: Vec<TraceId> = (0..1_000).map(|number| TraceId::of_run(&number.to_string())).collect();
        let sampled = |ratio| traces.iter().filter(|trace| Sampler::Ratio(ratio).samples(**trace, None)).count();
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 1_000));
        assert!((400..600).contains(&sampled(0.5)), "{}", sampled(0.5));
        assert!(
            traces.iter().all(|trace| {
                !Sampler::Ratio(0.25).samples(*trace, None) || Sampler::Ratio(0.5).samples(*trace, None)
            })
        );
    }

    #[test]
    fn the_submitter_decides_unless_the_operator_does() {
        let sampled: SpanContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        let unsampled = SpanContext { sampled: false, ..sampled };
        let decide = |sampler: Sampler, parent| sampler.samples(sampled.trace, Some(parent));
        assert!(decide(Sampler::ParentOrRatio(0.0), sampled));
        assert!(!decide(Sampler::ParentOrRatio(1.0), unsampled));
        assert!(decide(Sampler::AlwaysOn, unsampled));
        assert!(!decide(Sampler::AlwaysOff, sampled));
        assert!(!decide(Sampler::Ratio(0.0), sampled));
    }
}

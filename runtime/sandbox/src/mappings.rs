//! Bounds the memory mappings of the calls in this process.
//!
//! Linux allows a process some number of mappings (`vm.max_map_count`). A process that has them all can allocate nothing any more,
//! and aborts with all its calls. A component of a few kilobytes may have hundreds of instances, each with mappings.

use flow::Limits;

use crate::engines::Allocation;

/// The mappings that Linux allows, unless it says another number.
const DEFAULT_MAX_MAPPINGS: u64 = 65_530;

/// The mappings of a process besides those of calls: the code of modules, stacks of threads, large allocations.
const OTHER_MAPPINGS: u64 = 16_384;

/// The mappings of a call in the pools of the engines. They stay when the call ends.
const MAPPINGS_PER_CALL: u64 = 64;

/// The mappings of a call for each of the instances that it may have: four of a memory with data in its middle, and one each of a
/// table and of the instance.
const MAPPINGS_PER_INSTANCE: u64 = 6;

/// The mappings that a call may have.
pub(crate) fn of_call(allocation: Allocation, limits: &Limits) -> u64 {
    match allocation {
        Allocation::Pooled => MAPPINGS_PER_CALL,
        Allocation::OnDemand => of_instances(limits.instances),
    }
}

const fn of_instances(instances: u32) -> u64 {
    MAPPINGS_PER_CALL + instances as u64 * MAPPINGS_PER_INSTANCE
}

/// The mappings that so many concurrent calls leave for calls that wait beside them.
pub(crate) fn left_by(max_limits: &Limits, calls: u32) -> u64 {
    max_mappings().map_or(u64::MAX, |max_mappings| left(max_mappings, max_limits, calls))
}

fn left(max_mappings: u64, max_limits: &Limits, calls: u32) -> u64 {
    let of_calls = of_instances(max_limits.instances).saturating_mul(calls.into());
    max_mappings.saturating_sub(OTHER_MAPPINGS).saturating_sub(of_calls)
}

/// The number of calls of the pools that may wait with so many mappings, while one call for each slot changes places with a waiting one.
pub(crate) fn waiting_calls(wanted: u16, slots: u32, mappings: u64) -> u16 {
    let for_swaps = MAPPINGS_PER_CALL.saturating_mul(slots.into());
    let calls = u16::try_from(mappings.saturating_sub(for_swaps) / MAPPINGS_PER_CALL).unwrap_or(u16::MAX).min(wanted);
    if calls < wanted {
        tracing::warn!(
            wanted,
            calls,
            "fewer calls than `waiting` lend their slots while they wait: more could use up the memory mappings of this process; \
             use fewer slots, lower the maximum of `instances`, or raise vm.max_map_count"
        );
    }
    calls
}

/// The limits with a maximum of instances with which so many concurrent calls cannot exhaust the mappings of this process.
pub(crate) fn limit_instances(max_limits: Limits, calls: u32) -> Limits {
    let Some(max_mappings) = max_mappings() else { return max_limits };
    let instances = max_instances(max_mappings, calls);
    if instances >= max_limits.instances {
        return max_limits;
    }
    // Flows that set no limit run in any case.
    let lowered = instances.max(Limits::default().instances).min(max_limits.instances);
    tracing::warn!(
        calls,
        max_mappings,
        from = max_limits.instances,
        to = lowered,
        "the maximum of `instances` is lowered: so many concurrent calls with as many instances could use up the memory mappings of \
         this process, which would end it; use fewer slots, isolate guests in processes of their own, or raise vm.max_map_count"
    );
    Limits { instances: lowered, ..max_limits }
}

/// The mappings that this system allows a process; `None` for a system without such a maximum.
fn max_mappings() -> Option<u64> {
    let read = || std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok();
    cfg!(target_os = "linux").then(|| read().unwrap_or(DEFAULT_MAX_MAPPINGS))
}

/// The number of instances that each of some concurrent calls may have.
fn max_instances(max_mappings: u64, calls: u32) -> u32 {
    let calls = u64::from(calls.max(1));
    let of_calls = max_mappings.saturating_sub(OTHER_MAPPINGS) / calls;
    u32::try_from(of_calls.saturating_sub(MAPPINGS_PER_CALL) / MAPPINGS_PER_INSTANCE).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::MAX_CONCURRENT_DESCRIBES;

    #[test]
    fn the_mappings_of_all_calls_are_fewer_than_allowed() {
        for calls in [1, 19, 64, 1_000] {
            let instances = u64::from(max_instances(DEFAULT_MAX_MAPPINGS, calls));
            let each = MAPPINGS_PER_CALL + instances * MAPPINGS_PER_INSTANCE;
            assert!(instances == 0 || each * u64::from(calls) + OTHER_MAPPINGS <= DEFAULT_MAX_MAPPINGS, "{calls}");
        }
        assert_eq!([1, 19, 64, 10_000].map(|calls| max_instances(DEFAULT_MAX_MAPPINGS, calls)), [8_180, 420, 117, 0]);
        assert_eq!(max_instances(0, 0), 0);
    }

    #[test]
    fn calls_that_wait_have_the_mappings_that_the_others_leave() {
        let limits = Limits { instances: 100, ..Limits::default() };
        let waiting =
            |slots| waiting_calls(256, slots, left(DEFAULT_MAX_MAPPINGS, &limits, slots + MAX_CONCURRENT_DESCRIBES));
        assert_eq!([1, 42, 43, 64, 65].map(waiting), [256, 256, 247, 8, 0]);
        assert_eq!(waiting_calls(0, 1, u64::MAX), 0);
        assert_eq!(of_call(Allocation::Pooled, &limits), MAPPINGS_PER_CALL);
        assert_eq!(of_call(Allocation::OnDemand, &limits), 664, "all instances that it may have");
    }

    #[test]
    fn only_what_is_too_much_is_lowered() {
        let maximum = Limits::maximum();
        assert_eq!(limit_instances(maximum, 1), maximum);
        let many = Limits { instances: u32::MAX, ..maximum };
        let lowered = limit_instances(many, 19);
        assert!(lowered.instances < many.instances && lowered.instances >= Limits::default().instances);
        assert_eq!(Limits { instances: many.instances, ..lowered }, many);
        let few = Limits { instances: 1, ..maximum };
        assert_eq!(limit_instances(few, u32::MAX), few, "an operator may allow less than the default");
    }
}

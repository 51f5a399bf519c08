//! Bounds what a guest passes to the host at once: the outputs of its call, and the arguments of one call of an import. The host copies and
//! checks them without a pause.

use flow::{Failure, FailureKind, Limits, Size};
use wasmtime::{CallHook, Store, StoreContextMut, WasmBacktrace};

use crate::host_state::HostState;

/// What the outputs of a call may need in memory beyond twice their limit, in bytes: lists of many small values take more memory than the
/// values.
const SLACK: u64 = 1 << 20;

/// The maximum size of the arguments of an import beside [`SLACK`], in bytes, unless the log of the call may have more. Outputs may be
/// larger, and are passed once; a guest may call an import again and again.
const MAX_ARGUMENT_BYTES: u64 = 32 << 20;

/// The maximum size of all outputs together while they are copied.
fn max_outputs(limits: &Limits) -> u64 {
    limits.output.saturating_mul(2).saturating_add(SLACK)
}

/// The maximum size of the arguments of an import.
fn max_arguments(limits: &Limits) -> u64 {
    limits.log.max(MAX_ARGUMENT_BYTES).saturating_add(SLACK).min(max_outputs(limits))
}

/// Bounds what the guest in a store passes.
pub(crate) fn bound(store: &mut Store<HostState>, limits: &Limits) {
    let [arguments, outputs] = [max_arguments(limits), max_outputs(limits)].map(in_memory);
    store.set_hostcall_fuel(arguments);
    if arguments == outputs {
        return;
    }
    // The guest is called, and may be called again while an import has its results written into the guest's memory. Outputs are passed
    // when it has returned from all of these calls.
    let mut calls = 0_u32;
    store.call_hook(move |mut context: StoreContextMut<'_, HostState>, hook| {
        calls = match hook {
            CallHook::CallingWasm => calls.saturating_add(1),
            CallHook::ReturningFromWasm => calls.saturating_sub(1),
            CallHook::CallingHost | CallHook::ReturningFromHost => return Ok(()),
        };
        context.set_hostcall_fuel(if calls == 0 { outputs } else { arguments });
        Ok(())
    });
}

fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The failure of a guest that has passed too much.
pub(crate) fn exceeded(error: &wasmtime::Error, limits: &Limits) -> Failure {
    let arguments = max_arguments(limits);
    // Outputs are passed when no function of the guest is on the stack any more.
    let in_import = error.downcast_ref::<WasmBacktrace>().is_some();
    let message = if in_import && arguments < max_outputs(limits) {
        format!("it passed more data at once to a function of the host than its limit of {}", Size(arguments))
    } else {
        let limit = Size(limits.output);
        format!("it passed more data at once than values of {limit} need, the limit is {limit}")
    };
    Failure::new(FailureKind::OutputLimit, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_gets_less_at_once_than_large_outputs_may_have() {
        let maxima = |output, log| {
            let limits = Limits { output, log, ..Limits::default() };
            (max_arguments(&limits), max_outputs(&limits))
        };
        let default = Limits::default();
        assert_eq!(max_arguments(&default), max_outputs(&default), "most calls need no hook");
        assert_eq!(maxima(1 << 10, 64 << 20), ((1 << 20) + (2 << 10), (1 << 20) + (2 << 10)));
        assert_eq!(maxima(256 << 20, 1 << 20), (33 << 20, 513 << 20));
        assert_eq!(maxima(256 << 20, 64 << 20), (65 << 20, 513 << 20), "a line may be as long as the log");
    }
}

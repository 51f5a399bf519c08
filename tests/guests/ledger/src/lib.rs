//! A guest that logs each action before doing it, so that its log is a ledger of its effects.

use std::{thread, time::Duration};

use waft_guest::prelude::*;

/// Writes its apply into the ledger, sleeps, and sometimes fails.
#[task(rollback = roll_back)]
fn write(call: &Call, ms: Option<u64>) -> Result<(), Failure> {
    log::info!("LEDGER apply {} {} {}", call.run, call.task, call.attempt);
    thread::sleep(Duration::from_millis(ms.unwrap_or(20)));
    match chance(call) {
        0..8 => Err(Failure::permanent("a random failure")),
        8..20 => Err(Failure::transient("a random failure")),
        _ => Ok(()),
    }
}

fn roll_back(call: &Call) -> Result<(), Failure> {
    log::info!("LEDGER rollback {} {} {}", call.run, call.task, call.attempt);
    thread::sleep(Duration::from_millis(10));
    if chance(call) < 5 { Err(Failure::transient("a random failure")) } else { Ok(()) }
}

/// From 0 to 99, always the same for the same call.
fn chance(call: &Call) -> u32 {
    let name = format!("{}.{}.{}", call.run, call.task, call.attempt);
    // The 32-bit FNV-1a hash.
    let hash = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    name.bytes().fold(0x811C_9DC5, hash) % 100
}

waft_guest::export!(write);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_the_same_for_the_same_call() {
        let call = |attempt| Call { run: "r".into(), task: "t".into(), attempt, ..Call::default() };
        assert_eq!(chance(&call(1)), chance(&call(1)));
        assert!((1..50).any(|attempt| chance(&call(attempt)) != chance(&call(1))));
    }
}

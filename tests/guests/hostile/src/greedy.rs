//! Tasks that exhaust resources. Only those that give up end by themselves.

use std::{hint::black_box, process};

use waft_guest::prelude::*;

/// The size of one allocation.
const STEP: usize = 1 << 20;

/// Spins forever without calling the host.
#[task]
pub(crate) fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Allocates until an allocation fails, and aborts.
#[task]
pub(crate) fn allocate() {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1_u8; STEP]));
    }
}

/// Allocates until an allocation fails, and returns its own failure.
#[task]
pub(crate) fn allocate_and_give_up() -> Result<(), Failure> {
    let mut held = Vec::new();
    loop {
        let mut more: Vec<u8> = Vec::new();
        if more.try_reserve_exact(STEP).is_err() {
            return Err(Failure::permanent(format!("gave up after {} steps", held.len())));
        }
        more.resize(STEP, 1);
        held.push(black_box(more));
    }
}

/// Recurses until its stack is exhausted.
#[task]
pub(crate) fn recurse() -> Result<(), Failure> {
    Err(Failure::permanent(format!("came back from {}", deeper(1))))
}

fn deeper(depth: u64) -> u64 {
    // The frame is needed after the call, so the compiler cannot turn this into a loop.
    let frame = black_box([depth; 8]);
    if black_box(depth) == 0 { 0 } else { deeper(depth + 1) + black_box(frame)[0] }
}

/// Panics with the given message.
#[task]
pub(crate) fn panic(message: Option<String>) {
    panic!("{}", message.as_deref().unwrap_or("the oven is on fire"));
}

/// Exits like a program.
#[task]
pub(crate) fn exit(status: i32) {
    process::exit(status);
}

/// Writes to standard output forever.
#[task]
pub(crate) fn print_endlessly() {
    loop {
        println!("all work and no play makes a dull guest");
    }
}

/// Logs forever.
#[task]
pub(crate) fn log_endlessly() {
    loop {
        log::info!("all work and no play makes a dull guest");
    }
}

/// Reports progress forever.
#[task]
pub(crate) fn tell_progress_endlessly() {
    loop {
        progress(0.5, "all work and no play makes a dull guest");
    }
}

/// Provides a value of the given number of bytes.
#[task(provides = "big")]
pub(crate) fn big(bytes: usize) -> Vec<u8> {
    vec![7; bytes]
}

use waft_guest::prelude::*;

#[task]
fn unnamed() -> Result<u32, Failure> {
    Ok(1)
}

#[task(provides = "pan")]
fn nothing() -> Result<(), Failure> {
    Ok(())
}

#[task(provides = ["pan", "lid"])]
fn three() -> (u32, u32, u32) {
    (1, 2, 3)
}

#[task(provides = ["pan", "lid"])]
fn no_tuple() -> Result<u32, Failure> {
    Ok(1)
}

#[task(provides = ["pan", "pan", "big pan"])]
fn names() -> (u32, u32, u32) {
    (1, 2, 3)
}

#[task(provides = pan)]
fn unquoted() -> u32 {
    1
}

fn main() {}

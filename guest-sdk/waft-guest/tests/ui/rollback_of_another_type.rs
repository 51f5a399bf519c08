use waft_guest::prelude::*;

#[task(provides = "pan", rollback = put_back)]
fn choose_pan() -> u32 {
    29
}

#[rollback]
fn put_back(pan: Outcome<String>) -> Result<(), Failure> {
    drop(pan);
    Ok(())
}

#[task(provides = "pan", rollback = put_back_plainly)]
fn choose_another_pan() -> u32 {
    29
}

fn put_back_plainly(pan: Outcome<String>) -> Result<(), Failure> {
    drop(pan);
    Ok(())
}

fn main() {}

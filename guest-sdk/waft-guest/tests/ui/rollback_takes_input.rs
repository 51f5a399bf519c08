use waft_guest::prelude::*;

#[task(provides = "pan", rollback = put_back)]
fn choose_pan(batter_ml: u32) -> u32 {
    batter_ml
}

fn put_back(batter_ml: u32, pan: Outcome<u32>) -> Result<(), Failure> {
    drop((batter_ml, pan));
    Ok(())
}

fn main() {}

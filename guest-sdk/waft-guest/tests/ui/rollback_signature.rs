use waft_guest::prelude::*;

#[task(rollback = put_back)]
fn choose_pan() {}

#[rollback]
fn put_back(first: Outcome<()>, second: Outcome<()>, third: &Outcome<()>) {}

#[rollback(choose_pan)]
fn backwards() -> Result<(), Failure> {
    Ok(())
}

#[rollback]
async fn later() -> Result<u32, Failure> {
    Ok(1)
}

fn main() {}

use waft_guest::prelude::*;

#[task(rollback = put_back)]
fn choose_pan() {}

waft_guest::export!(choose_pan);

fn main() {}

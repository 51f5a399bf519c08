use waft_guest::prelude::*;

#[task(provide = "pan", timeout = "30", memory = 64, timeout = "1s", retry = 3)]
fn unknown_keys() {}

#[task(retry(times = 3, attempts = 0, backoff = "linear", jitter = "yes"))]
fn retries() {}

#[task(rollback = "put_back")]
fn quoted_rollback() {}

fn main() {}

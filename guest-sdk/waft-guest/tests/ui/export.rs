use waft_guest::prelude::*;

#[task]
fn mix() {}

fn bake() {}

waft_guest::export!(mix, bake, mixx);

fn main() {}

use waft_guest::prelude::*;

struct Halves {
    first: String,
    second: String,
}

#[task(provides = fields)]
fn halve(text: String) -> Halves {
    Halves { first: text.clone(), second: text }
}

#[derive(Provides)]
struct Pair(u32, u32);

fn main() {}

use waft_guest::prelude::*;

#[task(provides = "pan")]
async fn choose_pan<T>((width, height): (u32, u32), batter: impl Into<u32>, oven: &mut u32, call: Call) -> u32 {
    width * height
}

#[task]
fn bake(first: &Call, second: &Call, outcome: Outcome<()>) {}

#[task]
fn bäck() {}

#[task]
struct Oven;

impl Oven {
    #[task]
    fn heat(&self) {}
}

// The errors above are not repeated here.
waft_guest::export!(choose_pan, bake);

fn main() {
    bake(&Call::default(), &Call::default(), Outcome::Unknown);
}

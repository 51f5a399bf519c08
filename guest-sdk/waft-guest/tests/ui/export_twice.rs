use waft_guest::prelude::*;

#[task]
fn mix() {}

mod icing {
    use waft_guest::prelude::*;

    #[task]
    pub(crate) fn mix() {}
}

waft_guest::export!(mix, icing::mix);

fn main() {}

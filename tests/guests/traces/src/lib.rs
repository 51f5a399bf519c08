//! The guests for the example traces of the rules of a run.

use waft_guest::prelude::*;

/// Provides 5.
#[task(provides = "five")]
fn five() -> u32 {
    5
}

/// Fails.
#[task]
fn fails() -> Result<(), Failure> {
    Err(Failure::permanent("woot"))
}

/// Fails unless both values are equal.
#[task]
fn same(x: u32, y: u32) -> Result<(), Failure> {
    if x == y { Ok(()) } else { Err(Failure::permanent("woot")) }
}

/// Provides 5; its rollback fails.
#[task(provides = "five", rollback = gotcha)]
fn nasty() -> u32 {
    5
}

fn gotcha() -> Result<(), Failure> {
    Err(Failure::permanent("gotcha"))
}

waft_guest::export!(five, fails, same, nasty);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_does_what_its_name_says() {
        assert_eq!((five(), nasty()), (5, 5));
        assert_eq!(fails().unwrap_err().message(), "woot");
        assert_eq!(same(2, 2), Ok(()));
        assert_eq!(same(1, 2).unwrap_err().message(), "woot");
        assert_eq!(gotcha().unwrap_err().message(), "gotcha");
    }
}

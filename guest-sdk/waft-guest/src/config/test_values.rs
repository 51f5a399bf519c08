//! Configuration values outside waft, for tests.

use std::{cell::RefCell, collections::BTreeMap};

thread_local! {
    static VALUES: RefCell<Option<BTreeMap<String, String>>> = const { RefCell::new(None) };
}

/// Runs a test in which this thread has these values.
///
/// ```
/// let region = waft_guest::config::with_values([("region", "eu")], || waft_guest::config("region"));
/// assert_eq!(region.unwrap(), "eu");
/// ```
///
/// # Panics
/// When it is called inside itself.
pub fn with_values<'a, T>(values: impl IntoIterator<Item = (&'a str, &'a str)>, test: impl FnOnce() -> T) -> T {
    /// Also after a panic, other tests of this thread do not have the values.
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            VALUES.take();
        }
    }
    let values = values.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert!(VALUES.replace(Some(values)).is_none(), "with_values is called inside itself");
    let _reset = Reset;
    test()
}

pub(super) fn get(name: &str) -> Result<Option<String>, String> {
    VALUES.with_borrow(|values| match values {
        Some(values) => Ok(values.get(name).cloned()),
        None => Err("outside waft there are no values: in a test, call it inside config::with_values".into()),
    })
}

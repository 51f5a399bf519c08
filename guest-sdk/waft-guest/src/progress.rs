//! Progress.

/// Tells how far the call has come, from 0 to 1, and what it does now.
///
/// What is told too often is not all shown. Outside of waft it goes to standard error.
pub fn progress(fraction: f64, message: impl AsRef<str>) {
    #[cfg(target_family = "wasm")]
    crate::wasm::progress(fraction, message.as_ref());
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{:3.0}% {}", fraction * 100.0, message.as_ref());
}

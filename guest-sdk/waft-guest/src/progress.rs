//! Progress.

/// Reports the progress of the call, from 0 to 1, and its current step.
///
/// Some of very frequent reports are dropped. Outside waft they go to standard error.
pub fn progress(fraction: f64, message: impl AsRef<str>) {
    #[cfg(target_family = "wasm")]
    crate::wasm::progress(fraction, message.as_ref());
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{:3.0}% {}", fraction * 100.0, message.as_ref());
}

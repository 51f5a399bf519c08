//! Converts compiler output to a callable component, or explains why that is impossible.

mod core;
mod exit;
mod outline;
mod pages;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wasmparser::{Validator, WasmFeatures};

use crate::{compiler::MAX_WAITING, host_state::GRANTED};
use outline::{Encoding, ModuleOutline};

/// The interface that a component of the contract exports.
pub(crate) const GUEST: &str = "waft:task/guest@1.0.0";

/// The export of a WASI command, without the patch version.
const RUN: &str = "wasi:cli/run@0.2.";

/// The bytes of a component that exports tasks or is a command, and imports only granted interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module(Bytes);

/// Why bytes are not a module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ModuleError {
    /// The bytes do not start like WebAssembly.
    #[error("this is not WebAssembly: {looks_like}")]
    NotWebAssembly {
        /// A guess of what the bytes are.
        looks_like: String,
    },
    /// The bytes end before the module does.
    #[error("this WebAssembly is truncated: it ends after {length} bytes")]
    Truncated {
        /// The number of bytes.
        length: usize,
    },
    /// The bytes are damaged, or use unsupported features.
    #[error("this is not valid WebAssembly: {reason} (at byte {offset})")]
    Invalid {
        /// The error.
        reason: String,
        /// The offset of the error.
        offset: usize,
    },
    /// The module imports interfaces that guests are not granted.
    #[error("it imports {}, which no guest is granted", names.join(", "))]
    NotGranted {
        /// The imports, as the module names them.
        names: Vec<String>,
    },
    /// The component exports nothing to call.
    #[error("it exports neither {GUEST} nor wasi:cli/run; it exports {}", list(exports))]
    NoTask {
        /// Its actual exports.
        exports: Vec<String>,
    },
    /// The core module exports nothing to call.
    #[error(
        "it exports neither {GUEST} (a library made with the guest SDK does) nor _start (a program with a main \
         function does); it exports {}",
        list(exports)
    )]
    NoTaskInCore {
        /// Its actual exports.
        exports: Vec<String>,
    },
    /// The module uses another version of the contract.
    #[error("it exports {export}, another version of the contract than {GUEST}")]
    OtherContract {
        /// The export with that version.
        export: String,
    },
    /// Checking the bytes takes too much time or memory, or crashes the checker.
    #[error("it cannot be checked: {reason}")]
    Unchecked {
        /// The reason.
        reason: String,
    },
    /// The checker could not be run, or was ended from outside. That says nothing of the bytes.
    #[error("it could not be checked now: {reason}")]
    Unavailable {
        /// The reason.
        reason: String,
    },
    /// Too many modules of the same namespace, or of none, wait to be checked. That says nothing of the bytes.
    #[error("it could not be checked now: {MAX_WAITING} modules of the same namespace wait already")]
    Busy,
    /// The core module could not be converted to a component.
    #[error("it cannot be converted to a component: {reason}")]
    NotComponentizable {
        /// The reason.
        reason: String,
    },
}

impl Module {
    /// Checks a component, or converts a core module to a component: equal bytes always give the same component. Slow: not
    /// for async threads.
    ///
    /// # Errors
    /// [`ModuleError`] when the bytes are not a usable module.
    pub fn componentize(bytes: &[u8]) -> Result<Self, ModuleError> {
        let outline = ModuleOutline::read(bytes)?;
        let component = match outline.encoding {
            Encoding::Component => Bytes::copy_from_slice(bytes),
            Encoding::Core => core::componentize(bytes, &outline)?.into(),
        };
        validate(&component)?;
        check_component(&component)?;
        Ok(Self(component))
    }

    /// A component that [`Module::componentize`] has returned in another process.
    pub(crate) const fn checked(component: Bytes) -> Self {
        Self(component)
    }

    /// The component's bytes, over which the digest is computed.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// The names of a component's imports, in order.
///
/// # Errors
/// [`ModuleError`] when the bytes are not a component.
pub fn imports(bytes: &[u8]) -> Result<Vec<String>, ModuleError> {
    Ok(ModuleOutline::read(bytes)?.imports)
}

/// Checks that a component exports something to call and imports only granted interfaces.
pub(crate) fn check_component(bytes: &[u8]) -> Result<(), ModuleError> {
    let outline = ModuleOutline::read(bytes)?;
    match outline.encoding {
        Encoding::Component => {}
        Encoding::Core => return Err(ModuleError::NoTask { exports: outline.exports }),
    }
    let names: Vec<String> = outline.imports.iter().filter(|name| !is_granted(name)).cloned().collect();
    if !names.is_empty() {
        return Err(ModuleError::NotGranted { names });
    }
    let has_task = |name: &String| name == GUEST || name.starts_with(RUN);
    if outline.exports.iter().any(has_task) {
        return Ok(());
    }
    match outline.exports.iter().find(|name| name.starts_with("waft:task/guest@")) {
        Some(export) => Err(ModuleError::OtherContract { export: export.clone() }),
        None => Err(ModuleError::NoTask { exports: outline.exports }),
    }
}

/// Whether a guest may import this interface. Compatible versions count as the granted one.
fn is_granted(import: &str) -> bool {
    let Some((interface, version)) = import.split_once('@') else { return false };
    let granted_version = if interface.starts_with("waft:") { "1." } else { "0.2." };
    version.starts_with(granted_version) && GRANTED.contains(&interface)
}

fn validate(bytes: &[u8]) -> Result<(), ModuleError> {
    let supported = WasmFeatures::default().difference(WasmFeatures::THREADS);
    Validator::new_with_features(supported).validate_all(bytes).map_err(|error| outline::invalid(&error, bytes))?;
    Ok(())
}

fn list(names: &[String]) -> String {
    /// The maximum number of shown names: enough to recognise the file.
    const MAX_NAMES: usize = 8;
    match names.len() {
        0 => "nothing".into(),
        count if count > MAX_NAMES => format!("{} and {} more", names[..MAX_NAMES].join(", "), count - MAX_NAMES),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests;

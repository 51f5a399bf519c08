//! From what a compiler left to a component that can be called, or to a word on what it lacks.

mod core;
mod exit;
mod outline;
mod pages;

use bytes::Bytes;
use wasmparser::{Validator, WasmFeatures};

use crate::world::GRANTED;
use outline::{Encoding, ModuleOutline};

/// The interface that a component of the contract exports.
pub(crate) const GUEST: &str = "waft:task/guest@1.0.0";

/// What a WASI command exports, without the version.
const RUN: &str = "wasi:cli/run@0.2.";

/// The bytes of a component that exports tasks or is a command, and imports nothing but what is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module(Bytes);

/// Why some bytes are no module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// They do not begin as WebAssembly does.
    #[error("this is not WebAssembly: {looks_like}")]
    NotWebAssembly {
        /// What they look like.
        looks_like: String,
    },
    /// They end before what they announce.
    #[error("this WebAssembly is cut short: it is {length} bytes long and goes on after that")]
    Truncated {
        /// How many there are.
        length: usize,
    },
    /// They are damaged, or use what is not supported.
    #[error("this is not valid WebAssembly: {reason} (at byte {offset})")]
    Invalid {
        /// What is wrong.
        reason: String,
        /// Where.
        offset: usize,
    },
    /// A guest is not granted what it imports.
    #[error("it imports {}, which no guest is granted", names.join(", "))]
    NotGranted {
        /// What it imports, as it writes it.
        names: Vec<String>,
    },
    /// It has nothing to call.
    #[error("it exports neither {GUEST} nor wasi:cli/run; it exports {}", list(exports))]
    NoTask {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// It is a core module and has nothing to call.
    #[error(
        "it exports neither {GUEST} (a library made with the guest SDK does) nor _start (a program with a main \
         function does); it exports {}",
        list(exports)
    )]
    NoTaskInCore {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// It speaks another version of the contract.
    #[error("it exports {export}, another version of the contract than {GUEST}")]
    OtherContract {
        /// What it exports.
        export: String,
    },
    /// It could not be made a component.
    #[error("it cannot be made a component: {reason}")]
    NotComponentizable {
        /// What stands against it.
        reason: String,
    },
}

impl Module {
    /// Takes a component as it is, and makes one of a core module: the same one whenever the bytes are the same.
    /// Takes its time: not for async.
    ///
    /// # Errors
    /// [`ModuleError`] says what the bytes lack.
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

    /// The component's bytes: what a digest is of.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// The names of what a component imports, in its order.
///
/// # Errors
/// [`ModuleError`] when the bytes are no component.
pub fn imports(bytes: &[u8]) -> Result<Vec<String>, ModuleError> {
    Ok(ModuleOutline::read(bytes)?.imports)
}

/// Checks that a component has something to call and imports what is granted only.
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

/// Whether a guest may import this interface. Versions that do not break with ours are ours.
fn is_granted(import: &str) -> bool {
    let Some((interface, version)) = import.split_once('@') else { return false };
    let ours = if interface.starts_with("waft:") { "1." } else { "0.2." };
    version.starts_with(ours) && GRANTED.contains(&interface)
}

fn validate(bytes: &[u8]) -> Result<(), ModuleError> {
    let supported = WasmFeatures::default().difference(WasmFeatures::THREADS);
    Validator::new_with_features(supported).validate_all(bytes).map_err(|error| outline::invalid(&error, bytes))?;
    Ok(())
}

fn list(names: &[String]) -> String {
    /// How many names are told: enough to recognise the file.
    const MOST: usize = 8;
    match names.len() {
        0 => "nothing".into(),
        count if count > MOST => format!("{} and {} more", names[..MOST].join(", "), count - MOST),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests;

//! Converts a core module to a component: with the preview-1 reactor adapter if it exports the contract, with the command
//! adapter if it has a `_start`.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as COMMAND,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as REACTOR,
};
use wit_component::ComponentEncoder;

use super::{GUEST, ModuleError, exit, outline::ModuleOutline, pages};

pub(super) fn componentize(bytes: &[u8], outline: &ModuleOutline) -> Result<Vec<u8>, ModuleError> {
    super::validate(bytes)?;
    let names = not_adaptable(outline);
    if !names.is_empty() {
        return Err(ModuleError::NotGranted { names });
    }
    let exports = |name: &str| outline.exports.iter().any(|export| export == name);
    // A program may export the contract too; the contract then takes precedence.
    if exports(&format!("{GUEST}#apply")) {
        encode(bytes, REACTOR)
    } else if exports("_start") {
        encode(&pages::hide_adapters(&exit::redirect_proc_exit(bytes)?)?, COMMAND)
    } else {
        Err(ModuleError::NoTaskInCore { exports: outline.exports.clone() })
    }
}

/// Imports that neither the adapter provides nor the component can import itself.
fn not_adaptable(outline: &ModuleOutline) -> Vec<String> {
    let is_known = |import: &&String| {
        let interface = import.rsplit_once('.').map_or("", |(module, _)| module);
        let is_component_import = interface.contains(':') || interface.starts_with("[export]");
        !(interface == PREVIEW1 || is_component_import)
    };
    outline.imports.iter().filter(is_known).cloned().collect()
}

fn encode(bytes: &[u8], adapter: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let encode = || ComponentEncoder::default().module(bytes)?.adapter(PREVIEW1, adapter)?.encode();
    encode().map_err(|error| ModuleError::NotComponentizable { reason: format!("{error:#}") })
}

//! Preserves a program's exit status in its component.
//!
//! The command adapter turns `proc_exit` into `exit` of `wasi:cli/exit`, which reports only success or failure. The
//! interface also has `exit-with-code`, of the same type as `proc_exit`, so the program's import is redirected there and
//! bypasses the adapter.

use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1;
use wasm_encoder::{Encode, RawSection, SectionId};
use wasmparser::{BinaryReader, Imports, Parser, Payload};

use super::{ModuleError, outline};

/// The interface, in the version of the adapter's world.
const EXIT: &str = "wasi:cli/exit@0.2.12";

/// Redirects the program's import of `proc_exit` to [`EXIT`].
pub(super) fn redirect_proc_exit(bytes: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let invalid = |error: wasmparser::Error| outline::invalid(&error, bytes);
    let mut module = wasm_encoder::Module::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(invalid)?;
        if let Payload::ImportSection(imports) = payload {
            let data = redirect_import(imports, bytes).map_err(invalid)?;
            module.section(&RawSection { id: SectionId::Import as u8, data: &data });
        } else if let Some((id, range)) = payload.as_section() {
            module.section(&RawSection { id, data: &bytes[range] });
        }
    }
    Ok(module.finish())
}

/// The import section with that import renamed and all others unchanged.
fn redirect_import(imports: wasmparser::ImportSectionReader<'_>, bytes: &[u8]) -> wasmparser::Result<Vec<u8>> {
    let (count, end) = (imports.count(), imports.range().end);
    let entries = imports.into_iter_with_offsets().collect::<wasmparser::Result<Vec<_>>>()?;
    let ends = entries.iter().skip(1).map(|(start, _)| *start).chain([end]);
    let mut data = Vec::new();
    count.encode(&mut data);
    for ((start, entry), end) in entries.iter().zip(ends) {
        match entry {
            Imports::Single(_, import) if import.module == PREVIEW1 && import.name == "proc_exit" => {
                EXIT.encode(&mut data);
                "exit-with-code".encode(&mut data);
                // The type follows the two names.
                let mut reader = BinaryReader::new(&bytes[*start..end], *start);
                reader.read_string()?;
                reader.read_string()?;
                data.extend_from_slice(&bytes[reader.original_position()..end]);
            }
            Imports::Single(..) | Imports::Compact1 { .. } | Imports::Compact2 { .. } => {
                data.extend_from_slice(&bytes[*start..end]);
            }
        }
    }
    Ok(data)
}

//! Reads the kind, imports and exports of an untrusted WebAssembly binary.

use wasmparser::{Parser, Payload};

use super::ModuleError;

/// The outermost layer of a binary.
#[derive(Debug)]
pub(super) struct ModuleOutline {
    pub(super) encoding: Encoding,
    /// For a core module, each is `module.name`.
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

/// The two kinds of WebAssembly binaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Core,
    Component,
}

impl ModuleOutline {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ModuleError> {
        if !bytes.starts_with(b"\0asm") {
            return Err(ModuleError::NotWebAssembly { looks_like: looks_like(bytes) });
        }
        let mut outline = Self { encoding: Encoding::Core, imports: Vec::new(), exports: Vec::new() };
        // The nesting depth of components and modules below the outermost one.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|error| invalid(&error, bytes))?;
            match payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                payload if depth == 0 => outline.add(payload).map_err(|error| invalid(&error, bytes))?,
                _ => {}
            }
        }
        Ok(outline)
    }

    fn add(&mut self, payload: Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::Version { encoding: wasmparser::Encoding::Component, .. } => self.encoding = Encoding::Component,
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    self.imports.push(format!("{}.{}", import.module, import.name));
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    self.exports.push(export?.name.into());
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    self.imports.push(import?.name.name.into());
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    self.exports.push(export?.name.name.into());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Distinguishes truncated bytes from invalid ones.
pub(super) fn invalid(error: &wasmparser::Error, bytes: &[u8]) -> ModuleError {
    if error.message().starts_with("unexpected end") {
        return ModuleError::Truncated { length: bytes.len() };
    }
    ModuleError::Invalid { reason: error.message().into(), offset: error.offset() }
}

/// The kind of bytes that are not WebAssembly, for an error message. It shows none of them: a flow of someone else may name any
/// file as a module, and others may read the message.
fn looks_like(bytes: &[u8]) -> String {
    let known: [(&[u8], &str); 7] = [
        (b"\x7fELF", "it looks like a Linux program or library; build it for wasm32-wasip1"),
        (b"MZ", "it looks like a Windows program; build it for wasm32-wasip1"),
        (b"\xcf\xfa\xed\xfe", "it looks like a macOS program; build it for wasm32-wasip1"),
        (b"!<arch>", "it looks like a static library; build a cdylib or a program for wasm32-wasip1"),
        (b"PK\x03\x04", "it looks like a zip archive"),
        (b"\x1f\x8b", "it looks like a gzip archive"),
        (b"#!", "it looks like a script"),
    ];
    if let Some((_, name)) = known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return (*name).into();
    }
    match start_of_text(bytes) {
        _ if bytes.is_empty() => "it is empty",
        Some(text) if text.trim_start().starts_with("(module") || text.trim_start().starts_with("(component") => {
            "it is WebAssembly text; assemble it first"
        }
        Some(text) if text.chars().all(|char| !char.is_control() || char.is_whitespace()) => "it looks like text",
        Some(_) | None => "it is no kind of file that waft knows",
    }
    .into()
}

/// The start of a text, without a last character that is cut; `None` for other bytes.
fn start_of_text(bytes: &[u8]) -> Option<&str> {
    let start = &bytes[..bytes.len().min(256)];
    match std::str::from_utf8(start) {
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&start[..error.valid_up_to()]).ok(),
        read => read.ok(),
    }
}

//! Hides the adapter's memory pages from the program that it serves.
//!
//! Both use one memory. The adapter gets no allocator from a program that exports none, so it grows the memory for its own
//! stack and state, some of it before the program starts. Many allocators, such as older ones of wasi-libc, claim all memory
//! between the program's data and `memory.size`, and would overwrite the adapter's pages. So `memory.size` becomes a global
//! that counts only the pages that the program declares or grows itself, and `memory.grow` becomes a function that updates
//! this global. Two growths may then have a gap between them, as when any other part of a program grows memory. An allocator
//! that does not check where its new pages start still overwrites them.

use std::convert::Infallible;

use wasm_encoder::{
    CodeSection, ConstExpr, Function, FunctionSection, GlobalSection, GlobalType, Instruction, Module, SectionId,
    TypeSection, ValType,
    reencode::{Error, Reencode, utils},
};
use wasmparser::{
    CodeSectionReader, CustomSectionReader, ExternalKind, FunctionSectionReader, GlobalSectionReader, Operator, Parser,
    Payload, TypeRef, TypeSectionReader,
};

use super::{ModuleError, outline};

/// The exports with which the adapter would allocate.
const ALLOCATORS: [&str; 3] = ["cabi_realloc", "cabi_realloc_adapter", "canonical_abi_realloc"];

/// Sections that hold code offsets, which change with this rewrite.
const CODE_OFFSET_SECTIONS: [&str; 2] = [".debug_", "metadata.code."];

/// The memory of a program, and the first free index of each kind.
#[derive(Debug, Default)]
struct MemoryRewriter {
    memory: u32,
    /// The number of pages that the program declares.
    declared: u32,
    types: u32,
    functions: u32,
    globals: u32,
    has_globals: bool,
}

/// Rewrites the program to see only its own pages. It is unchanged if nothing has to be hidden.
pub(super) fn hide_adapters(bytes: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let Some(mut rewriter) = MemoryRewriter::of(bytes).map_err(|error| outline::invalid(&error, bytes))? else {
        return Ok(bytes.to_vec());
    };
    let mut module = Module::new();
    rewriter
        .parse_core_module(&mut module, Parser::new(0), bytes)
        .map_err(|error| ModuleError::NotComponentizable { reason: format!("{error:#}") })?;
    Ok(module.finish())
}

impl MemoryRewriter {
    /// Reads the memory of a program; `None` if nothing has to be hidden.
    fn of(bytes: &[u8]) -> wasmparser::Result<Option<Self>> {
        let mut rewriter = Self::default();
        let (mut memories, mut exported, mut has_code) = (Vec::new(), None, false);
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::TypeSection(types) => {
                    for group in types {
                        rewriter.types += count(group?.types().len());
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        match import?.ty {
                            TypeRef::Func(_) | TypeRef::FuncExact(_) => rewriter.functions += 1,
                            TypeRef::Global(_) => rewriter.globals += 1,
                            TypeRef::Memory(memory) => memories.push(memory),
                            TypeRef::Table(_) | TypeRef::Tag(_) => {}
                        }
                    }
                }
                Payload::FunctionSection(functions) => rewriter.functions += functions.count(),
                Payload::MemorySection(section) => {
                    for memory in section {
                        memories.push(memory?);
                    }
                }
                Payload::GlobalSection(globals) => {
                    rewriter.globals += globals.count();
                    rewriter.has_globals = true;
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        if ALLOCATORS.contains(&export.name) {
                            return Ok(None);
                        }
                        if export.name == "memory" && export.kind == ExternalKind::Memory {
                            exported = Some(export.index);
                        }
                    }
                }
                Payload::CodeSectionStart { .. } => has_code = true,
                _ => {}
            }
        }
        let Some(memory) = exported.filter(|_| has_code) else { return Ok(None) };
        // The adapter cannot share a 64-bit memory, and componentizing reports that.
        let declared = memories.get(memory as usize).filter(|memory| !memory.memory64);
        Ok(declared.and_then(|declared| u32::try_from(declared.initial).ok()).map(|declared| Self {
            memory,
            declared,
            ..rewriter
        }))
    }

    /// Adds the global that counts pages.
    fn add_count(&self, globals: &mut GlobalSection) {
        let count = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(count, &ConstExpr::i32_const(self.declared.cast_signed()));
    }

    /// The function that replaces `memory.grow`.
    fn grow(&self) -> Function {
        let (delta, start) = (0, 1);
        let mut function = Function::new([(1, ValType::I32)]);
        let mut body = function.instructions();
        // A growth by zero returns the end of the memory.
        body.local_get(delta).i32_eqz().if_(wasm_encoder::BlockType::Empty);
        body.global_get(self.globals).return_().end();
        body.local_get(delta).memory_grow(self.memory).local_tee(start);
        body.i32_const(-1).i32_ne().if_(wasm_encoder::BlockType::Empty);
        body.local_get(start).local_get(delta).i32_add().global_set(self.globals).end();
        body.local_get(start).end();
        function
    }
}

impl Reencode for MemoryRewriter {
    type Error = Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([ValType::I32], [ValType::I32]);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.types);
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: GlobalSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_global_section(self, globals, section)?;
        self.add_count(globals);
        Ok(())
    }

    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        _after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Result<(), Error<Infallible>> {
        let after_globals =
            [SectionId::Export, SectionId::Start, SectionId::Element, SectionId::DataCount, SectionId::Code];
        if !self.has_globals && before.is_some_and(|before| after_globals.contains(&before)) {
            let mut globals = GlobalSection::new();
            self.add_count(&mut globals);
            module.section(&globals);
            self.has_globals = true;
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_code_section(self, code, section)?;
        code.function(&self.grow());
        Ok(())
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Result<Instruction<'a>, Error<Infallible>> {
        match operator {
            Operator::MemorySize { mem } if mem == self.memory => Ok(Instruction::GlobalGet(self.globals)),
            Operator::MemoryGrow { mem } if mem == self.memory => Ok(Instruction::Call(self.functions)),
            operator => utils::instruction(self, operator),
        }
    }

    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: CustomSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        if CODE_OFFSET_SECTIONS.iter().any(|prefix| section.name().starts_with(prefix)) {
            return Ok(());
        }
        utils::parse_custom_section(self, module, section)
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("a valid module has fewer types")
}

#[cfg(test)]
mod tests;

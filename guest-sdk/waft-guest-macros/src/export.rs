//! `export!`: the tasks of a module, and on a guest's target the exports of the contract.

use std::collections::BTreeMap;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Path, Token, parse::Parser, punctuated::Punctuated};

use crate::{errors::Errors, name, path};

/// Writes the exports, or the errors.
pub(crate) fn expand(tasks: TokenStream) -> TokenStream {
    read(tasks).and_then(|tasks| write(&tasks)).unwrap_or_else(syn::Error::into_compile_error)
}

fn read(tokens: TokenStream) -> syn::Result<Vec<Path>> {
    let tasks = Punctuated::<Path, Token![,]>::parse_terminated.parse2(tokens)?;
    if tasks.is_empty() {
        let span = proc_macro2::Span::call_site();
        return Err(syn::Error::new(span, "name the functions that are tasks: `export!(choose_pan, bake)`"));
    }
    let mut errors = Errors::default();
    let mut known = BTreeMap::new();
    for task in &tasks {
        let Some(name) = errors.collect(path::last(task).and_then(name::of_task)) else { continue };
        if known.insert(name.clone(), task).is_some() {
            errors.add(task, format!("there is already a task {name:?}: the tasks of a module need different names"));
        }
    }
    errors.into_result(tasks.into_iter().collect())
}

fn write(tasks: &[Path]) -> syn::Result<TokenStream> {
    let names = tasks.iter().map(path::last).collect::<syn::Result<Vec<_>>>()?;
    let entries = tasks.iter().zip(&names).map(|(task, name)| {
        let import = path::import_beside(task);
        quote! {{
            #import
            ::waft_guest::__private::Entry::of::<#name>()
        }}
    });
    Ok(quote! {
        // Outside the scope of the stand-ins: a missing function is reported as missing.
        const _: () = {
            #(let _ = #tasks;)*
        };

        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code)]
        const _: () = {
            #(struct #names {})*

            const TASKS: &[::waft_guest::__private::Entry] = &[#(#entries),*];

            #[cfg(target_family = "wasm")]
            struct Module;

            #[cfg(target_family = "wasm")]
            impl ::waft_guest::__private::Tasks for Module {
                const TASKS: &'static [::waft_guest::__private::Entry] = TASKS;
            }

            #[cfg(target_family = "wasm")]
            ::waft_guest::__private::bindings::export_guest!(
                Module with_types_in ::waft_guest::__private::bindings
            );
        };
    })
}

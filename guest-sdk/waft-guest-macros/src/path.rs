//! Finds the type that an attribute created beside a function, given only the function's name.
//!
//! The attributes create a type with the function's name beside the function: types and functions have separate
//! namespaces. A macro that is given only the name cannot know whether the type exists. So it writes a stand-in type of
//! that name, and a glob import of the function's module in a block inside its scope. Names of the block take precedence:
//! the name there is the type that the attribute created, or else the stand-in.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Ident, Path};

/// The path's last name: the function's own.
pub(crate) fn last(path: &Path) -> syn::Result<&Ident> {
    match path.segments.last() {
        Some(segment) if segment.arguments.is_none() => Ok(&segment.ident),
        Some(_) | None => Err(syn::Error::new_spanned(path, "name a function, without type arguments")),
    }
}

/// The glob import of the function's module.
pub(crate) fn import_beside(path: &Path) -> TokenStream {
    let first = path.segments.first().map(|segment| segment.ident.to_string());
    let is_rooted = path.leading_colon.is_some() || matches!(first.as_deref(), Some("crate" | "self" | "super"));
    let from_here = if is_rooted { TokenStream::new() } else { quote!(self::) };
    let colon = path.leading_colon;
    let module = path.segments.iter().take(path.segments.len().saturating_sub(1));
    quote! {
        #[allow(unused_imports)]
        use #colon #from_here #(#module::)* *;
    }
}

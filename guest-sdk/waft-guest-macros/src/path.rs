//! Finds what an attribute made beside a function that is only named.
//!
//! The attributes make a type of a function's name beside the function: types and functions do not share names. A
//! macro that is given only the name cannot know whether the type is there. So it writes a stand-in type of that name,
//! and in a block inside of its scope a glob import of the function's module. Names of the block come first: the name
//! there is what the attribute made, or else the stand-in.

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

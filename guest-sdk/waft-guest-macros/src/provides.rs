//! `#[derive(Provides)]`: the fields of a struct as values.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Data, DeriveInput, Fields, Ident, Type};

use crate::{errors::Errors, name, parameter};

struct Field {
    variable: Ident,
    name: String,
    doc: String,
    value: Type,
}

/// Writes the implementation, or the errors.
pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let expanded = syn::parse2::<DeriveInput>(item).and_then(|item| {
        let fields = fields(&item)?;
        Ok(write(&item.ident, &fields))
    });
    expanded.unwrap_or_else(syn::Error::into_compile_error)
}

fn fields(item: &DeriveInput) -> syn::Result<Vec<Field>> {
    let error = |at: &dyn ToTokens| {
        syn::Error::new_spanned(at.to_token_stream(), "values have names: derive this for a struct with named fields")
    };
    let Data::Struct(data) = &item.data else { return Err(error(&item.ident)) };
    let Fields::Named(named) = &data.fields else { return Err(error(&item.ident)) };
    let mut errors = Errors::default();
    if !item.generics.params.is_empty() {
        errors.add(&item.generics, "values have known types: the struct cannot be generic");
    }
    let mut names = BTreeSet::new();
    let mut fields = Vec::new();
    for field in &named.named {
        let Some(variable) = &field.ident else { continue };
        let Some(name) = errors.collect(name::of_value(variable)) else { continue };
        if !names.insert(name.clone()) {
            errors.add(variable, format!("{name:?} is provided twice"));
        }
        let doc = parameter::doc(&field.attrs);
        fields.push(Field { variable: variable.clone(), name, doc, value: field.ty.clone() });
    }
    errors.into_result(fields)
}

fn write(item: &Ident, fields: &[Field]) -> TokenStream {
    let infos = fields.iter().map(|Field { name, doc, value, .. }| {
        let schema = parameter::provided_schema(value);
        quote!(::waft_guest::__private::Provided { name: #name, doc: #doc, schema: #schema })
    });
    let values = fields
        .iter()
        .map(|Field { variable, name, .. }| quote!(::waft_guest::__private::value(#name, self.#variable)?));
    let readers = fields.iter().map(|Field { variable, name, value, .. }| {
        let expected = parameter::shown(value);
        quote!(#variable: values.required::<#value>(#name, #expected)?)
    });
    quote! {
        #[automatically_derived]
        impl ::waft_guest::Provides for #item {
            fn provided() -> ::std::vec::Vec<::waft_guest::__private::Provided> {
                ::std::vec![#(#infos),*]
            }
            fn into_values(
                self,
            ) -> ::core::result::Result<::std::vec::Vec<::waft_guest::__private::Value>, ::waft_guest::Failure> {
                ::core::result::Result::Ok(::std::vec![#(#values),*])
            }
            fn from_values(
                mut values: ::waft_guest::__private::Inputs,
            ) -> ::core::result::Result<Self, ::waft_guest::Failure> {
                ::core::result::Result::Ok(Self { #(#readers),* })
            }
        }
    }
}

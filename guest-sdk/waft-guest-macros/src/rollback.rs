//! `#[rollback]`: the function as it is, and beside it a type of its name that implements `Rollback`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::Type;

use crate::{
    errors::Errors,
    function::{Function, with_error},
    parameter::{Input, Source},
};

/// Writes the rollback, or its errors.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match read(arguments, item.clone()) {
        Ok(function) => write(&function),
        Err(error) => {
            let stub = |function: &syn::ItemFn| {
                let name = &function.sig.ident;
                quote! {
                    impl ::waft_guest::__private::NamedRollback for #name {
                        fn requires() -> ::std::vec::Vec<::waft_guest::__private::Parameter> {
                            ::core::unreachable!()
                        }
                    }
                    impl<T> ::waft_guest::__private::Rollback<T> for #name {
                        fn rollback(
                            _: &::waft_guest::Call,
                            _: ::waft_guest::__private::Undo<T>,
                        ) -> ::core::result::Result<(), ::waft_guest::Failure> {
                            ::core::unreachable!()
                        }
                    }
                }
            };
            with_error(&error, item, stub)
        }
    }
}

fn read(arguments: TokenStream, item: TokenStream) -> syn::Result<Function> {
    let mut errors = Errors::default();
    if !arguments.is_empty() {
        errors.add(arguments, "`#[rollback]` takes nothing: the task names its rollback, not vice versa");
    }
    let function = errors.collect(Function::read(item, "a rollback"));
    if let Some(function) = &function
        && !(function.returned.fallible && function.returned.is_unit())
    {
        let name = &function.item.sig.ident;
        errors.add(name, "a rollback returns `Result<(), Failure>`: it can fail, and it provides nothing");
    }
    match function {
        Some(function) => errors.into_result(function),
        None => Err(errors.into_result(()).expect_err("the function was rejected")),
    }
}

fn write(function: &Function) -> TokenStream {
    let (item, named_type) = (&function.item, function.named_type());
    let name = &item.sig.ident;
    let requires = function.inputs().map(Input::info);
    let (call, undo) = (Ident::new("call", Span::mixed_site()), Ident::new("undo", Span::mixed_site()));
    let arguments = function.parameters.iter().map(|parameter| match &parameter.source {
        Source::Call => quote!(#call),
        Source::Outcome(_) => quote!(#undo.outcome()?),
        Source::Failures { by_reference: false } => quote!(#undo.failures()),
        Source::Failures { by_reference: true } => quote!(&#undo.failures()),
        Source::Input(input) => input.argument(&undo),
    });
    // Without an outcome it fits any task.
    let (generics, provided) = match outcome(function) {
        Some(provided) => (TokenStream::new(), quote!(#provided)),
        None => (quote!(<T>), quote!(T)),
    };
    quote! {
        #item
        #named_type
        #[doc(hidden)]
        impl ::waft_guest::__private::NamedRollback for #name {
            fn requires() -> ::std::vec::Vec<::waft_guest::__private::Parameter> {
                ::std::vec![#(#requires),*]
            }
        }
        #[doc(hidden)]
        impl #generics ::waft_guest::__private::Rollback<#provided> for #name {
            #[allow(unused_mut, unused_variables)]
            fn rollback(
                #call: &::waft_guest::Call,
                mut #undo: ::waft_guest::__private::Undo<#provided>,
            ) -> ::core::result::Result<(), ::waft_guest::Failure> {
                #name(#(#arguments),*)?;
                ::core::result::Result::Ok(())
            }
        }
    }
}

fn outcome(function: &Function) -> Option<&Type> {
    function.parameters.iter().find_map(|parameter| match &parameter.source {
        Source::Outcome(provided) => Some(&**provided),
        Source::Call | Source::Failures { .. } | Source::Input(_) => None,
    })
}

//! The function under an attribute: the rules for both tasks and rollbacks, and its parameters.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{FnArg, GenericArgument, ItemFn, PathArguments, ReturnType, Type, parse_quote};

use crate::{
    errors::Errors,
    parameter::{Input, Parameter, Source},
};

/// A plain function.
pub(crate) struct Function {
    /// The item without what only the attribute understands: doc comments on parameters.
    pub(crate) item: ItemFn,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) returned: Returned,
}

/// What the function returns.
pub(crate) struct Returned {
    /// The value, without a `Result` around it.
    pub(crate) value: Type,
    pub(crate) fallible: bool,
}

impl Function {
    /// Reads a function; messages call it `noun`.
    pub(crate) fn read(item: TokenStream, noun: &str) -> syn::Result<Self> {
        let mut item: ItemFn = syn::parse2(item)
            .map_err(|error| syn::Error::new(error.span(), format!("{noun} is a function: {error}")))?;
        let mut errors = Errors::default();
        check_signature(&item, noun, &mut errors);
        let parameters = item.sig.inputs.iter().filter_map(|argument| errors.collect(Parameter::read(argument)));
        let parameters: Vec<Parameter> = parameters.collect();
        check_names(&parameters, &mut errors);
        remove_docs(&mut item);
        let returned = Returned::of(&item.sig.output);
        errors.into_result(Self { item, parameters, returned })
    }

    /// The inputs among the parameters.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &Input> {
        self.parameters.iter().filter_map(|parameter| match &parameter.source {
            Source::Input(input) => Some(&**input),
            Source::Call | Source::Outcome(_) | Source::Failures { .. } => None,
        })
    }

    /// The type of the same name beside the function, for other macros to find.
    pub(crate) fn named_type(&self) -> TokenStream {
        let (visibility, name) = (&self.item.vis, &self.item.sig.ident);
        quote! {
            #[doc(hidden)]
            #[allow(non_camel_case_types, dead_code)]
            #visibility struct #name {}
        }
    }
}

impl Returned {
    fn of(output: &ReturnType) -> Self {
        let ReturnType::Type(_, written) = output else {
            return Self { value: parse_quote!(()), fallible: false };
        };
        match of_result(written) {
            Some(value) => Self { value: value.clone(), fallible: true },
            None => Self { value: (**written).clone(), fallible: false },
        }
    }

    /// Whether it returns nothing.
    pub(crate) fn is_unit(&self) -> bool {
        matches!(&self.value, Type::Tuple(tuple) if tuple.elems.is_empty())
    }
}

fn of_result(written: &Type) -> Option<&Type> {
    let Type::Path(path) = written else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(value) => Some(value),
        _ => None,
    }
}

fn check_signature(item: &ItemFn, noun: &str, errors: &mut Errors) {
    let signature = &item.sig;
    if let Some(token) = &signature.asyncness {
        errors.add(token, format!("{noun} is called once and runs to its end: it cannot be `async`"));
    }
    if !signature.generics.params.is_empty() {
        let generics = &signature.generics;
        errors
            .add(generics, format!("{noun} is called from outside, where no type can be chosen: it cannot be generic"));
    }
    if let Some(abi) = &signature.abi {
        errors.add(abi, format!("{noun} is a plain Rust function"));
    }
    if let Some(variadic) = &signature.variadic {
        errors.add(variadic, format!("{noun} takes a fixed number of values"));
    }
    if !matches!(signature.safety, syn::Safety::Default) {
        errors.add(signature.safety.to_token_stream(), format!("{noun} is called by safe code: it cannot be `unsafe`"));
    }
}

/// Checks that special types occur only once.
fn check_names(parameters: &[Parameter], errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for parameter in parameters {
        let (key, what) = match &parameter.source {
            Source::Call => ("&Call".to_owned(), "`&Call`"),
            Source::Outcome(_) => ("Outcome".to_owned(), "`Outcome`"),
            Source::Failures { .. } => ("Failures".to_owned(), "`Failures`"),
            // rustc rejects two parameters of one name.
            Source::Input(_) => continue,
        };
        if !seen.insert(key) {
            errors.add(&parameter.written, format!("a call has only one {what}"));
        }
    }
}

/// What is written in place of a rejected function: its errors, and, to avoid follow-up errors, the function itself and a
/// stub for other macros to find.
pub(crate) fn with_error(error: &syn::Error, item: TokenStream, stub: impl Fn(&ItemFn) -> TokenStream) -> TokenStream {
    let errors = error.to_compile_error();
    let Ok(mut item) = syn::parse2::<ItemFn>(item) else { return errors };
    if item.sig.receiver().is_some() {
        return errors;
    }
    remove_docs(&mut item);
    let (visibility, name) = (&item.vis, &item.sig.ident);
    let stub = stub(&item);
    quote! {
        #errors
        #[allow(unused)]
        #item
        #[allow(non_camel_case_types, dead_code)]
        #visibility struct #name {}
        #stub
    }
}

/// Only the attribute understands doc comments on parameters.
fn remove_docs(item: &mut ItemFn) {
    for argument in &mut item.sig.inputs {
        if let FnArg::Typed(typed) = argument {
            typed.attrs.retain(|attribute| !attribute.path().is_ident("doc"));
        }
    }
}

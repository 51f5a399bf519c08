//! One parameter of a task or a rollback: its type, or else its name, selects the argument.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Attribute, Expr, ExprLit, FnArg, GenericArgument, Ident, Lit, Meta, Pat, PathArguments, Type, TypeReference,
    parse_quote, spanned::Spanned,
};

use crate::name;

/// A parameter.
pub(crate) struct Parameter {
    pub(crate) source: Source,
    /// The type as the function writes it.
    pub(crate) written: Type,
}

/// Where the argument comes from.
pub(crate) enum Source {
    /// `&Call`.
    Call,
    /// `Outcome<T>`, with its `T`.
    Outcome(Box<Type>),
    /// `Failures` or `&Failures`.
    Failures { by_reference: bool },
    /// Anything else: the input of the parameter's name.
    Input(Box<Input>),
}

/// An input that is selected by its name.
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) doc: String,
    /// The type to read: the parameter's type without its `Option` or reference.
    pub(crate) read: Type,
    pub(crate) pass: Pass,
}

/// How the value is passed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    Value,
    Reference,
    Optional,
}

impl Parameter {
    /// Reads a parameter.
    pub(crate) fn read(argument: &FnArg) -> syn::Result<Self> {
        let typed = match argument {
            FnArg::Receiver(receiver) => {
                return Err(syn::Error::new_spanned(receiver, "a task is a function of its own: it has no `self`"));
            }
            FnArg::Typed(typed) => typed,
        };
        let Pat::Ident(pattern) = &*typed.pat else {
            return Err(syn::Error::new_spanned(
                &typed.pat,
                "a parameter's name is the name of the value it takes: write a name here, and destructure it in the body",
            ));
        };
        let source = Source::of(&pattern.ident, doc(&typed.attrs), &typed.ty)?;
        Ok(Self { source, written: (*typed.ty).clone() })
    }
}

impl Source {
    fn of(variable: &Ident, doc: String, written: &Type) -> syn::Result<Self> {
        if let Type::ImplTrait(_) = written {
            return Err(syn::Error::new_spanned(
                written,
                "an input needs a type of its own: `impl Trait` could be any",
            ));
        }
        if let Type::Reference(reference) = written {
            return Self::of_reference(variable, doc, reference);
        }
        if is(written, "Call") {
            return Err(syn::Error::new_spanned(written, "a call is passed by reference: write `&Call`"));
        }
        if is(written, "Failures") {
            return Ok(Self::Failures { by_reference: false });
        }
        if is(written, "Outcome") {
            let provided = argument_of(written).ok_or_else(|| {
                syn::Error::new_spanned(
                    written,
                    "write what the task provides: `Outcome<T>`, or `Outcome<()>` for nothing",
                )
            })?;
            return Ok(Self::Outcome(Box::new(provided.clone())));
        }
        let optional = if is(written, "Option") { argument_of(written) } else { None };
        let (read, pass) = match optional {
            Some(inner) => (inner.clone(), Pass::Optional),
            None => (written.clone(), Pass::Value),
        };
        Ok(Self::Input(Box::new(Input { name: name::of_value(variable)?, doc, read, pass })))
    }

    fn of_reference(variable: &Ident, doc: String, reference: &TypeReference) -> syn::Result<Self> {
        if reference.mutability.is_some() {
            return Err(syn::Error::new_spanned(reference, "changes of an input have no effect: take it by value"));
        }
        let target = &*reference.elem;
        if is(target, "Call") {
            return Ok(Self::Call);
        }
        if is(target, "Failures") {
            return Ok(Self::Failures { by_reference: true });
        }
        if is(target, "Outcome") {
            return Err(syn::Error::new_spanned(reference, "an outcome is passed by value: write `Outcome<T>`"));
        }
        let read = match target {
            Type::Slice(slice) => {
                let element = &slice.elem;
                parse_quote!(::std::vec::Vec<#element>)
            }
            Type::Path(path) if path.path.is_ident("str") => parse_quote!(::std::string::String),
            other => other.clone(),
        };
        Ok(Self::Input(Box::new(Input { name: name::of_value(variable)?, doc, read, pass: Pass::Reference })))
    }
}

impl Input {
    /// Its description for `describe`.
    pub(crate) fn info(&self) -> TokenStream {
        let Self { name, doc, read, pass } = self;
        let optional = *pass == Pass::Optional;
        let schema = schema(read, &format_ident!("of_parameter"));
        quote! {
            ::waft_guest::__private::Parameter { name: #name, doc: #doc, schema: #schema, optional: #optional }
        }
    }

    /// The argument, taken from `values`.
    pub(crate) fn argument(&self, values: &Ident) -> TokenStream {
        let Self { name, read, pass, .. } = self;
        let expected = shown(read);
        // The span of the type, so that a type that cannot be read is shown there.
        match pass {
            Pass::Value => {
                quote_spanned!(read.span()=> #values.required::<#read>(#name, #expected)?)
            }
            Pass::Reference => {
                quote_spanned!(read.span()=> &#values.required::<#read>(#name, #expected)?)
            }
            Pass::Optional => {
                quote_spanned!(read.span()=> #values.optional::<#read>(#name, #expected)?)
            }
        }
    }
}

/// The JSON schema of the values that a task provides as a type, where it has one.
pub(crate) fn provided_schema(of: &Type) -> TokenStream {
    schema(of, &format_ident!("of_provided"))
}

/// The JSON schema of a type, where it has one, by a method of `HasSchema`.
fn schema(of: &Type, method: &Ident) -> TokenStream {
    quote! {{
        use ::waft_guest::__private::{HasSchema as _, NoSchema as _};
        (&::waft_guest::__private::Schema::<#of>::of()).#method()
    }}
}

/// A type as in source code.
pub(crate) fn shown(written: &Type) -> String {
    let mut text = written.to_token_stream().to_string();
    for (spaced, tight) in
        [(" < ", "<"), (" >", ">"), (" :: ", "::"), (":: ", "::"), (" ,", ","), ("& ", "&"), (" ;", ";")]
    {
        text = text.replace(spaced, tight);
    }
    text.replace("::std::vec::Vec<", "Vec<").replace("::std::string::String", "String")
}

/// The text of doc comments.
pub(crate) fn doc(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        Meta::Path(_) | Meta::List(_) | Meta::NameValue(_) => None,
    };
    let text: Vec<String> = attributes.iter().filter_map(line).collect();
    let text: Vec<&str> = text
        .iter()
        .flat_map(|part| part.split('\n'))
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect();
    text.join("\n").trim().into()
}

/// Whether a type is written as this name, with any path before it.
fn is(written: &Type, name: &str) -> bool {
    matches!(written, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == name))
}

/// The `T` of `Name<T>`.
fn argument_of(written: &Type) -> Option<&Type> {
    let Type::Path(path) = written else { return None };
    let PathArguments::AngleBracketed(arguments) = &path.path.segments.last()?.arguments else {
        return None;
    };
    match arguments.args.first()? {
        GenericArgument::Type(argument) => Some(argument),
        _ => None,
    }
}

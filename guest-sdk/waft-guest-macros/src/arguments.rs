//! The arguments of `#[task(…)]`.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Expr, ExprLit, ExprPath, Lit, LitStr, Meta, Path, Token, parse::Parser, punctuated::Punctuated};

use crate::{errors::Errors, name, units};

/// The arguments of the attribute.
pub(crate) struct Arguments {
    pub(crate) provides: Provides,
    pub(crate) rollback: Option<Path>,
    pub(crate) retry: Option<Retry>,
    pub(crate) timeout_milliseconds: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
}

/// What the function provides.
pub(crate) enum Provides {
    Nothing,
    /// `provides = "pan"`.
    One(String),
    /// `provides = ["pan", "lid"]`.
    Several(Vec<String>),
    /// `provides = fields`.
    Fields,
}

/// `retry(…)`.
pub(crate) struct Retry {
    attempts: u32,
    backoff: Backoff,
    initial_milliseconds: u64,
    max_milliseconds: u64,
    jitter: bool,
}

enum Backoff {
    Exponential,
    Fixed,
}

impl Default for Retry {
    /// The flow file's defaults.
    fn default() -> Self {
        Self {
            attempts: 1,
            backoff: Backoff::Exponential,
            initial_milliseconds: 1_000,
            max_milliseconds: 60_000,
            jitter: true,
        }
    }
}

impl Retry {
    pub(crate) fn info(&self) -> TokenStream {
        let Self { attempts, initial_milliseconds, max_milliseconds, jitter, .. } = self;
        let backoff = match self.backoff {
            Backoff::Exponential => quote!(Exponential),
            Backoff::Fixed => quote!(Fixed),
        };
        quote! {
            ::waft_guest::__private::Retry {
                attempts: #attempts,
                backoff: ::waft_guest::__private::Backoff::#backoff,
                initial_milliseconds: #initial_milliseconds,
                max_milliseconds: #max_milliseconds,
                jitter: #jitter,
            }
        }
    }
}

impl Arguments {
    /// Reads the attribute.
    pub(crate) fn read(tokens: TokenStream) -> syn::Result<Self> {
        const KNOWN: &str = "`provides`, `rollback`, `retry(…)`, `timeout` and `memory`";
        let mut errors = Errors::default();
        let mut arguments = Self {
            provides: Provides::Nothing,
            rollback: None,
            retry: None,
            timeout_milliseconds: None,
            memory_bytes: None,
        };
        for meta in unique_entries(tokens, &mut errors)? {
            match key(&meta).as_str() {
                "provides" => arguments.provides = errors.collect(provides(&meta)).unwrap_or(Provides::Nothing),
                "rollback" => arguments.rollback = errors.collect(function(&meta)),
                "retry" => arguments.retry = errors.collect(retry(&meta)),
                "timeout" => {
                    arguments.timeout_milliseconds =
                        errors.collect(text(&meta).and_then(|text| units::milliseconds(&text)));
                }
                "memory" => arguments.memory_bytes = errors.collect(text(&meta).and_then(|text| units::bytes(&text))),
                unknown => errors.add(meta.path(), format!("`{unknown}` is unknown: a task takes {KNOWN}")),
            }
        }
        errors.into_result(arguments)
    }
}

/// The comma-separated entries; a repeated one is an error.
fn unique_entries(tokens: TokenStream, errors: &mut Errors) -> syn::Result<Vec<Meta>> {
    let entries = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens)?;
    let mut seen = BTreeSet::new();
    let mut unique = Vec::new();
    for entry in entries {
        if seen.insert(key(&entry)) {
            unique.push(entry);
        } else {
            errors.add(entry.path(), format!("`{}` is given twice", key(&entry)));
        }
    }
    Ok(unique)
}

fn key(meta: &Meta) -> String {
    meta.path().get_ident().map_or_else(|| "this path".into(), ToString::to_string)
}

fn value(meta: &Meta) -> syn::Result<&Expr> {
    match meta {
        Meta::NameValue(pair) => Ok(&pair.value),
        Meta::Path(_) | Meta::List(_) => Err(syn::Error::new_spanned(meta, format!("write `{} = …`", key(meta)))),
    }
}

fn text(meta: &Meta) -> syn::Result<LitStr> {
    match value(meta)? {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.clone()),
        other => Err(syn::Error::new_spanned(other, format!("`{}` is a text in quotes", key(meta)))),
    }
}

fn function(meta: &Meta) -> syn::Result<Path> {
    match value(meta)? {
        Expr::Path(ExprPath { path, qself: None, .. }) => Ok(path.clone()),
        other => Err(syn::Error::new_spanned(other, "`rollback` names a function: `rollback = put_back`")),
    }
}

fn provides(meta: &Meta) -> syn::Result<Provides> {
    match value(meta)? {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(Provides::One(name::of_literal(text)?)),
        Expr::Path(path) if path.path.is_ident("fields") => Ok(Provides::Fields),
        Expr::Array(array) if !array.elems.is_empty() => {
            let mut errors = Errors::default();
            let mut names = Vec::new();
            for element in &array.elems {
                let Some(name) = errors.collect(literal_name(element)) else { continue };
                if names.contains(&name) {
                    errors.add(element, format!("{name:?} is provided twice"));
                }
                names.push(name);
            }
            errors.into_result(Provides::Several(names))
        }
        other => Err(syn::Error::new_spanned(
            other,
            "name what is provided: `provides = \"pan\"`, `provides = [\"pan\", \"lid\"]` for a tuple, or \
             `provides = fields` for a struct with `#[derive(Provides)]`",
        )),
    }
}

fn literal_name(element: &Expr) -> syn::Result<String> {
    match element {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => name::of_literal(text),
        other => Err(syn::Error::new_spanned(other, "the name of a value is a text in quotes")),
    }
}

fn retry(meta: &Meta) -> syn::Result<Retry> {
    const KNOWN: &str = "`attempts`, `backoff`, `initial`, `max` and `jitter`";
    let Meta::List(list) = meta else {
        return Err(syn::Error::new_spanned(meta, "write `retry(attempts = 3)`"));
    };
    let mut errors = Errors::default();
    let mut retry = Retry::default();
    for entry in unique_entries(list.tokens.clone(), &mut errors)? {
        let milliseconds = |entry: &Meta| text(entry).and_then(|text| units::milliseconds(&text));
        let result = match key(&entry).as_str() {
            "attempts" => attempts(&entry).map(|attempts| retry.attempts = attempts),
            "backoff" => backoff(&entry).map(|backoff| retry.backoff = backoff),
            "initial" => milliseconds(&entry).map(|pause| retry.initial_milliseconds = pause),
            "max" => milliseconds(&entry).map(|pause| retry.max_milliseconds = pause),
            "jitter" => jitter(&entry).map(|jitter| retry.jitter = jitter),
            unknown => {
                Err(syn::Error::new_spanned(entry.path(), format!("`{unknown}` is unknown: a retry takes {KNOWN}")))
            }
        };
        errors.collect(result);
    }
    errors.into_result(retry)
}

fn attempts(entry: &Meta) -> syn::Result<u32> {
    let expression = value(entry)?;
    let error = || syn::Error::new_spanned(expression, "`attempts` is a whole number from 1: the first try counts");
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => {
            number.base10_parse().ok().filter(|attempts| *attempts > 0).ok_or_else(error)
        }
        _ => Err(error()),
    }
}

fn backoff(entry: &Meta) -> syn::Result<Backoff> {
    let literal = text(entry)?;
    match literal.value().as_str() {
        "exponential" => Ok(Backoff::Exponential),
        "fixed" => Ok(Backoff::Fixed),
        _ => Err(syn::Error::new_spanned(literal, "`backoff` is \"exponential\" or \"fixed\"")),
    }
}

fn jitter(entry: &Meta) -> syn::Result<bool> {
    match value(entry)? {
        Expr::Lit(ExprLit { lit: Lit::Bool(jitter), .. }) => Ok(jitter.value),
        other => Err(syn::Error::new_spanned(other, "`jitter` is `true` or `false`")),
    }
}

//! What stands in `#[task(…)]`.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Expr, ExprLit, ExprPath, Lit, LitStr, Meta, Path, Token, parse::Parser, punctuated::Punctuated};

use crate::{mistakes::Mistakes, name, units};

/// What the attribute says of the task.
pub(crate) struct Arguments {
    pub(crate) provides: Provides,
    pub(crate) rollback: Option<Path>,
    pub(crate) retry: Option<Retry>,
    pub(crate) timeout_milliseconds: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
}

/// What the function's value is to the flow.
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
        let mut mistakes = Mistakes::default();
        let mut read = Self {
            provides: Provides::Nothing,
            rollback: None,
            retry: None,
            timeout_milliseconds: None,
            memory_bytes: None,
        };
        for meta in once_each(tokens, &mut mistakes)? {
            match key(&meta).as_str() {
                "provides" => read.provides = mistakes.take(provides(&meta)).unwrap_or(Provides::Nothing),
                "rollback" => read.rollback = mistakes.take(function(&meta)),
                "retry" => read.retry = mistakes.take(retry(&meta)),
                "timeout" => {
                    read.timeout_milliseconds = mistakes.take(text(&meta).and_then(|text| units::milliseconds(&text)));
                }
                "memory" => read.memory_bytes = mistakes.take(text(&meta).and_then(|text| units::bytes(&text))),
                unknown => mistakes.add(meta.path(), format!("`{unknown}` is not known here: a task takes {KNOWN}")),
            }
        }
        mistakes.none_or(read)
    }
}

/// The comma-separated entries; one that comes again is a mistake.
fn once_each(tokens: TokenStream, mistakes: &mut Mistakes) -> syn::Result<Vec<Meta>> {
    let entries = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens)?;
    let mut seen = BTreeSet::new();
    let mut once = Vec::new();
    for entry in entries {
        if seen.insert(key(&entry)) {
            once.push(entry);
        } else {
            mistakes.add(entry.path(), format!("`{}` is said twice", key(&entry)));
        }
    }
    Ok(once)
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
            let mut mistakes = Mistakes::default();
            let mut names = Vec::new();
            for element in &array.elems {
                let Some(name) = mistakes.take(literal_name(element)) else { continue };
                if names.contains(&name) {
                    mistakes.add(element, format!("{name:?} is provided twice"));
                }
                names.push(name);
            }
            mistakes.none_or(Provides::Several(names))
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
    let mut mistakes = Mistakes::default();
    let mut retry = Retry::default();
    for entry in once_each(list.tokens.clone(), &mut mistakes)? {
        let milliseconds = |entry: &Meta| text(entry).and_then(|text| units::milliseconds(&text));
        let read = match key(&entry).as_str() {
            "attempts" => attempts(&entry).map(|attempts| retry.attempts = attempts),
            "backoff" => backoff(&entry).map(|backoff| retry.backoff = backoff),
            "initial" => milliseconds(&entry).map(|pause| retry.initial_milliseconds = pause),
            "max" => milliseconds(&entry).map(|pause| retry.max_milliseconds = pause),
            "jitter" => jitter(&entry).map(|jitter| retry.jitter = jitter),
            unknown => Err(syn::Error::new_spanned(
                entry.path(),
                format!("`{unknown}` is not known here: a retry takes {KNOWN}"),
            )),
        };
        mistakes.take(read);
    }
    mistakes.none_or(retry)
}

fn attempts(entry: &Meta) -> syn::Result<u32> {
    let given = value(entry)?;
    let wrong = || syn::Error::new_spanned(given, "`attempts` is a whole number from 1: the first try counts");
    match given {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => {
            number.base10_parse().ok().filter(|attempts| *attempts > 0).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn backoff(entry: &Meta) -> syn::Result<Backoff> {
    let given = text(entry)?;
    match given.value().as_str() {
        "exponential" => Ok(Backoff::Exponential),
        "fixed" => Ok(Backoff::Fixed),
        _ => Err(syn::Error::new_spanned(given, "`backoff` is \"exponential\" or \"fixed\"")),
    }
}

fn jitter(entry: &Meta) -> syn::Result<bool> {
    match value(entry)? {
        Expr::Lit(ExprLit { lit: Lit::Bool(jitter), .. }) => Ok(jitter.value),
        other => Err(syn::Error::new_spanned(other, "`jitter` is `true` or `false`")),
    }
}

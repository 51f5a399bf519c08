//! The names of tasks and values.

use syn::{Ident, LitStr, ext::IdentExt};

/// The longest name, in bytes, as the host has it.
const LONGEST: usize = 100;

/// The task that a function is: its name with dashes.
pub(crate) fn of_task(function: &Ident) -> syn::Result<String> {
    let name = function.unraw().to_string().replace('_', "-");
    check(&name)
        .map_err(|reason| syn::Error::new_spanned(function, format!("a task cannot be called {name:?}: {reason}")))?;
    Ok(name)
}

/// The value that a parameter or field is.
pub(crate) fn of_value(variable: &Ident) -> syn::Result<String> {
    let name = variable.unraw().to_string();
    check(&name)
        .map_err(|reason| syn::Error::new_spanned(variable, format!("a value cannot be called {name:?}: {reason}")))?;
    Ok(name)
}

/// A value's name, written out.
pub(crate) fn of_literal(literal: &LitStr) -> syn::Result<String> {
    let name = literal.value();
    check(&name)
        .map_err(|reason| syn::Error::new_spanned(literal, format!("a value cannot be called {name:?}: {reason}")))?;
    Ok(name)
}

fn check(name: &str) -> Result<(), String> {
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > LONGEST || !name.bytes().all(lawful) {
        return Err(format!("a name is 1 to {LONGEST} of the characters A-Z a-z 0-9 _ -"));
    }
    Ok(())
}

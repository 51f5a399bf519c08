//! The names of tasks and values.

use syn::{Ident, LitStr, ext::IdentExt};

/// The maximum length of a name in bytes, the same as in the host.
const MAX_LENGTH: usize = 100;

/// The name of the task of a function: the function name with dashes.
pub(crate) fn of_task(function: &Ident) -> syn::Result<String> {
    let name = function.unraw().to_string().replace('_', "-");
    check(&name)
        .map_err(|reason| syn::Error::new_spanned(function, format!("a task cannot be called {name:?}: {reason}")))?;
    Ok(name)
}

/// The name of the value of a parameter or field.
pub(crate) fn of_value(variable: &Ident) -> syn::Result<String> {
    let name = variable.unraw().to_string();
    check(&name)
        .map_err(|reason| syn::Error::new_spanned(variable, format!("a value cannot be called {name:?}: {reason}")))?;
    Ok(name)
}

/// The name of a value, from a literal.
pub(crate) fn of_literal(literal: &LitStr) -> syn::Result<String> {
    let name = literal.value();
    check(&name)
        .map_err(|reason| syn::Error::new_spanned(literal, format!("a value cannot be called {name:?}: {reason}")))?;
    Ok(name)
}

fn check(name: &str) -> Result<(), String> {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > MAX_LENGTH || !name.bytes().all(is_valid) {
        return Err(format!("a name is 1 to {MAX_LENGTH} of the characters A-Z a-z 0-9 _ -"));
    }
    Ok(())
}

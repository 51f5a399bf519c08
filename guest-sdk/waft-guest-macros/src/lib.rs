//! The macros of `waft-guest`; they are documented and used there. Their output calls `waft_guest::__private`.
//!
//! Each macro reads its input into a plain struct, collecting all errors, and writes Rust from that. Start with
//! [`task`].

mod arguments;
mod export;
mod function;
mod errors;
mod name;
mod parameter;
mod path;
mod provides;
mod rollback;
mod task;
mod units;

use proc_macro::TokenStream;

/// Makes a function a task. See the documentation of the crate `waft-guest`.
#[proc_macro_attribute]
pub fn task(arguments: TokenStream, function: TokenStream) -> TokenStream {
    task::expand(arguments.into(), function.into()).into()
}

/// See the documentation of the crate `waft-guest`.
#[proc_macro_attribute]
pub fn rollback(arguments: TokenStream, function: TokenStream) -> TokenStream {
    rollback::expand(arguments.into(), function.into()).into()
}

/// Makes the functions the tasks of this module: `waft_guest::export!(choose_pan, bake);`. Once in a crate.
#[proc_macro]
pub fn export(tasks: TokenStream) -> TokenStream {
    export::expand(tasks.into()).into()
}

/// Makes the fields of a struct the values that a task with `provides = fields` provides.
#[proc_macro_derive(Provides)]
pub fn provides(item: TokenStream) -> TokenStream {
    provides::expand(item.into()).into()
}

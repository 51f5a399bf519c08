//! `#[task]`: the function as it is, and beside it a type of its name that implements `Task`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Path, Type, spanned::Spanned};

use crate::{
    arguments::{Arguments, Provides},
    errors::Errors,
    function::{Function, with_error},
    name, parameter,
    parameter::{Source, shown},
    path,
};

/// A function that is a task, with all rules checked.
struct Task {
    name: String,
    function: Function,
    arguments: Arguments,
    provided: Provided,
}

/// What the function provides, with types.
enum Provided {
    Nothing,
    One(String, Type),
    Several(Vec<(String, Type)>),
    Fields(Type),
}

/// Writes the task, or its errors.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match Task::read(arguments, item.clone()) {
        Ok(task) => task.write(),
        Err(error) => {
            let stub = |function: &syn::ItemFn| stub(&function.sig.ident);
            with_error(&error, item, stub)
        }
    }
}

impl Task {
    fn read(arguments: TokenStream, item: TokenStream) -> syn::Result<Self> {
        let mut errors = Errors::default();
        let arguments = errors.collect(Arguments::read(arguments));
        let function = errors.collect(Function::read(item, "a task"));
        let Some(function) = function else {
            return Err(errors.into_result(()).expect_err("the function was rejected"));
        };
        for parameter in &function.parameters {
            match &parameter.source {
                Source::Call | Source::Input(_) => {}
                Source::Outcome(_) | Source::Failures { .. } => {
                    errors.add(&parameter.written, "only a rollback has this parameter");
                }
            }
        }
        let name = errors.collect(name::of_task(&function.item.sig.ident));
        let provided =
            arguments.as_ref().and_then(|arguments| errors.collect(Provided::of(&function, &arguments.provides)));
        match (name, arguments, provided) {
            (Some(name), Some(arguments), Some(provided)) => {
                errors.into_result(Self { name, function, arguments, provided })
            }
            _ => Err(errors.into_result(()).expect_err("there was an error")),
        }
    }

    fn write(&self) -> TokenStream {
        let (item, named_type) = (&self.function.item, self.function.named_type());
        let function = &item.sig.ident;
        let task_name = &self.name;
        let (info, apply) = (self.info(), self.apply());
        let rollback = match &self.arguments.rollback {
            Some(path) => self.rollback(path),
            None => no_rollback(&self.name),
        };
        quote! {
            #item
            #named_type
            #[doc(hidden)]
            impl ::waft_guest::__private::Task for #function {
                const NAME: &'static str = #task_name;
                #info
                #apply
                #rollback
            }
        }
    }

    fn info(&self) -> TokenStream {
        let doc = parameter::doc(&self.function.item.attrs);
        let requires = self.function.inputs().map(parameter::Input::info);
        let provides = self.provided.info();
        let rollback = match &self.arguments.rollback {
            Some(path) => {
                let requires = self.call_on_chosen(path, &quote!(.requires_besides(&requires)));
                quote!(::core::option::Option::Some(#requires))
            }
            None => quote!(::core::option::Option::None),
        };
        let retry = option(self.arguments.retry.as_ref().map(|retry| retry.info()));
        let timeout = option(self.arguments.timeout_milliseconds);
        let memory = option(self.arguments.memory_bytes);
        quote! {
            fn info() -> ::waft_guest::__private::TaskInfo {
                let requires = ::std::vec![#(#requires),*];
                ::waft_guest::__private::TaskInfo {
                    name: Self::NAME,
                    doc: #doc,
                    provides: #provides,
                    rollback: #rollback,
                    retry: #retry,
                    limits: ::waft_guest::__private::Limits {
                        timeout_milliseconds: #timeout,
                        memory_bytes: #memory,
                    },
                    requires,
                }
            }
        }
    }

    fn apply(&self) -> TokenStream {
        let function = &self.function.item.sig.ident;
        let (call, inputs) = (local("call"), local("inputs"));
        // With the span of its type, so that a type that cannot be provided is shown there.
        let returned = Ident::new("__returned", self.function.returned.value.span());
        let arguments = self.function.parameters.iter().map(|parameter| match &parameter.source {
            Source::Call => quote!(#call),
            Source::Input(input) => input.argument(&inputs),
            Source::Outcome(_) | Source::Failures { .. } => {
                unreachable!("rejected when it was read")
            }
        });
        let question_mark = self.function.returned.fallible.then(|| quote!(?));
        let values = self.provided.values(&returned);
        let binding = if self.function.returned.is_unit() { quote!() } else { quote!(let #returned =) };
        quote! {
            #[allow(unused_mut, unused_variables)]
            fn apply(
                #call: &::waft_guest::Call,
                mut #inputs: ::waft_guest::__private::Inputs,
            ) -> ::core::result::Result<::std::vec::Vec<::waft_guest::__private::Value>, ::waft_guest::Failure> {
                #binding #function(#(#arguments),*)#question_mark;
                #values
            }
        }
    }

    fn rollback(&self, path: &Path) -> TokenStream {
        let (call, asked, values) = (local("call"), local("asked"), local("values"));
        let (decode, provided) = (self.provided.decode(&values), &self.function.returned.value);
        // With the span of the rollback's path, so that a type error is shown there.
        let call_it = quote_spanned! {path.span()=>
            .rollback(#call, ::waft_guest::__private::Undo::<#provided>::new(#asked, |mut #values| #decode))
        };
        let chosen = self.call_on_chosen(path, &call_it);
        quote! {
            #[allow(unused_mut, unused_variables)]
            fn rollback(
                #call: &::waft_guest::Call,
                #asked: ::waft_guest::__private::RollbackCall,
            ) -> ::core::result::Result<(), ::waft_guest::Failure> {
                #chosen
            }
        }
    }

    /// Calls a method of `RollbackFunction`, which detects whether the rollback has the attribute.
    fn call_on_chosen(&self, path: &Path, method: &TokenStream) -> TokenStream {
        let name = match path::last(path) {
            Ok(name) => name,
            Err(error) => return error.into_compile_error(),
        };
        let (import, provided) = (path::import_beside(path), &self.function.returned.value);
        let function = local("function");
        // The function is named outside the scope of the stand-in: a missing one is reported as missing.
        quote! {{
            use ::waft_guest::__private::{ByName as _, ByType as _};
            let #function = #path;
            {
                #[allow(non_camel_case_types)]
                struct #name {}
                {
                    #import
                    (&::waft_guest::__private::RollbackFunction::<#name, _, #provided>::new(#function)) #method
                }
            }
        }}
    }
}

impl Provided {
    /// Matches what the attribute names with what the function returns.
    fn of(function: &Function, provides: &Provides) -> syn::Result<Self> {
        let returned = &function.returned;
        // If a function returns nothing, its name is used instead.
        let wrong = |message: String| match &function.item.sig.output {
            syn::ReturnType::Type(_, written) => syn::Error::new_spanned(written, message),
            syn::ReturnType::Default => syn::Error::new_spanned(&function.item.sig.ident, message),
        };
        match provides {
            Provides::Nothing if returned.is_unit() => Ok(Self::Nothing),
            Provides::Nothing => Err(wrong(
                "what the task returns has no name: add `provides = \"name\"` to the attribute, or return nothing"
                    .into(),
            )),
            Provides::One(_) | Provides::Several(_) | Provides::Fields if returned.is_unit() => {
                Err(wrong("the attribute names what the task provides, but the function returns nothing".into()))
            }
            Provides::One(name) => Ok(Self::One(name.clone(), returned.value.clone())),
            Provides::Fields => Ok(Self::Fields(returned.value.clone())),
            Provides::Several(names) => {
                let Type::Tuple(tuple) = &returned.value else {
                    return Err(wrong(format!("to provide {} values, return a tuple of as many values", names.len())));
                };
                if tuple.elems.len() != names.len() {
                    let (declared, count) = (names.len(), tuple.elems.len());
                    return Err(wrong(format!(
                        "the attribute names {declared} values, but this is a tuple of {count}"
                    )));
                }
                Ok(Self::Several(names.iter().cloned().zip(tuple.elems.iter().cloned()).collect()))
            }
        }
    }

    /// Its description for `describe`.
    fn info(&self) -> TokenStream {
        let named = |name: &String, value: &Type| {
            let schema = parameter::provided_schema(value);
            quote!(::waft_guest::__private::Provided { name: #name, doc: "", schema: #schema })
        };
        match self {
            Self::Nothing => quote!(::std::vec![]),
            Self::One(name, value) => {
                let one = named(name, value);
                quote!(::std::vec![#one])
            }
            Self::Several(values) => {
                let several = values.iter().map(|(name, value)| named(name, value));
                quote!(::std::vec![#(#several),*])
            }
            Self::Fields(value) => {
                quote_spanned!(value.span()=> <#value as ::waft_guest::Provides>::provided())
            }
        }
    }

    /// What was returned, as values.
    fn values(&self, returned: &Ident) -> TokenStream {
        match self {
            Self::Nothing => quote!(::core::result::Result::Ok(::std::vec![])),
            Self::One(name, value) => quote_spanned! {value.span()=>
                ::core::result::Result::Ok(::std::vec![::waft_guest::__private::value(#name, #returned)?])
            },
            Self::Several(values) => {
                let each = values.iter().enumerate().map(|(index, (name, value))| {
                    let index = syn::Index::from(index);
                    quote_spanned!(value.span()=> ::waft_guest::__private::value(#name, #returned.#index)?)
                });
                quote!(::core::result::Result::Ok(::std::vec![#(#each),*]))
            }
            Self::Fields(value) => {
                quote_spanned!(value.span()=> ::waft_guest::Provides::into_values(#returned))
            }
        }
    }

    /// What was returned, from its values: for the rollback.
    fn decode(&self, values: &Ident) -> TokenStream {
        let read = |name: &String, value: &Type| {
            let expected = shown(value);
            quote!(#values.required::<#value>(#name, #expected)?)
        };
        match self {
            Self::Nothing => quote!(::core::result::Result::Ok(())),
            Self::One(name, value) => {
                let one = read(name, value);
                quote!(::core::result::Result::Ok(#one))
            }
            Self::Several(several) => {
                let each = several.iter().map(|(name, value)| read(name, value));
                quote!(::core::result::Result::Ok((#(#each,)*)))
            }
            Self::Fields(value) => quote!(<#value as ::waft_guest::Provides>::from_values(#values)),
        }
    }
}

/// The rollback of a task that has none: the host never calls it.
fn no_rollback(task: &str) -> TokenStream {
    let message = format!("the task {task:?} has no rollback");
    quote! {
        fn rollback(
            _: &::waft_guest::Call,
            _: ::waft_guest::__private::RollbackCall,
        ) -> ::core::result::Result<(), ::waft_guest::Failure> {
            ::core::result::Result::Err(::waft_guest::Failure::permanent(#message))
        }
    }
}

/// Stands in for a task that was rejected, so that `export!` finds one and only the original error is shown.
fn stub(function: &Ident) -> TokenStream {
    quote! {
        impl ::waft_guest::__private::Task for #function {
            const NAME: &'static str = "";
            fn info() -> ::waft_guest::__private::TaskInfo {
                ::core::unreachable!()
            }
            fn apply(
                _: &::waft_guest::Call,
                _: ::waft_guest::__private::Inputs,
            ) -> ::core::result::Result<::std::vec::Vec<::waft_guest::__private::Value>, ::waft_guest::Failure> {
                ::core::unreachable!()
            }
            fn rollback(
                _: &::waft_guest::Call,
                _: ::waft_guest::__private::RollbackCall,
            ) -> ::core::result::Result<(), ::waft_guest::Failure> {
                ::core::unreachable!()
            }
        }
    }
}

/// A variable that cannot clash with names of the user.
fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

fn option(value: Option<impl quote::ToTokens>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

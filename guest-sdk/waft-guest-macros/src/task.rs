//! `#[task]`: the function as it is, and beside it a type of its name that implements `Task`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Path, Type, spanned::Spanned};

use crate::{
    arguments::{Arguments, Provides},
    function::{Function, after_mistake},
    mistakes::Mistakes,
    name, parameter,
    parameter::{Source, shown},
    path,
};

/// A function that is a task, every rule checked.
struct Task {
    name: String,
    function: Function,
    arguments: Arguments,
    provided: Provided,
}

/// What the function's value is, with types.
enum Provided {
    Nothing,
    One(String, Type),
    Several(Vec<(String, Type)>),
    Fields(Type),
}

/// Writes the task, or its mistakes.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match Task::read(arguments, item.clone()) {
        Ok(task) => task.write(),
        Err(error) => {
            let stub = |function: &syn::ItemFn| stub(&function.sig.ident);
            after_mistake(&error, item, stub)
        }
    }
}

impl Task {
    fn read(arguments: TokenStream, item: TokenStream) -> syn::Result<Self> {
        let mut mistakes = Mistakes::default();
        let arguments = mistakes.take(Arguments::read(arguments));
        let function = mistakes.take(Function::read(item, "a task"));
        let Some(function) = function else {
            return Err(mistakes.none_or(()).expect_err("the function was refused"));
        };
        for parameter in &function.parameters {
            match &parameter.source {
                Source::Call | Source::Input(_) => {}
                Source::Outcome(_) | Source::Failures { .. } => {
                    mistakes.add(&parameter.written, "only a rollback is told this: nothing has happened yet");
                }
            }
        }
        let name = mistakes.take(name::of_task(&function.item.sig.ident));
        let provided = arguments.as_ref().and_then(|said| mistakes.take(Provided::of(&function, &said.provides)));
        match (name, arguments, provided) {
            (Some(name), Some(arguments), Some(provided)) => {
                mistakes.none_or(Self { name, function, arguments, provided })
            }
            _ => Err(mistakes.none_or(()).expect_err("something was refused")),
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
                let requires = self.choose_and(path, &quote!(.requires_besides(&requires)));
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
        // In the place of its type, so that a type that cannot be provided is shown where it stands.
        let returned = Ident::new("__returned", self.function.returned.value.span());
        let arguments = self.function.parameters.iter().map(|parameter| match &parameter.source {
            Source::Call => quote!(#call),
            Source::Input(input) => input.argument(&inputs),
            Source::Outcome(_) | Source::Failures { .. } => {
                unreachable!("refused when it was read")
            }
        });
        let question = self.function.returned.fallible.then(|| quote!(?));
        let values = self.provided.values(&returned);
        let binding = if self.function.returned.is_unit() { quote!() } else { quote!(let #returned =) };
        quote! {
            #[allow(unused_mut, unused_variables)]
            fn apply(
                #call: &::waft_guest::Call,
                mut #inputs: ::waft_guest::__private::Inputs,
            ) -> ::core::result::Result<::std::vec::Vec<::waft_guest::__private::Value>, ::waft_guest::Failure> {
                #binding #function(#(#arguments),*)#question;
                #values
            }
        }
    }

    fn rollback(&self, path: &Path) -> TokenStream {
        let (call, asked, values) = (local("call"), local("asked"), local("values"));
        let (decode, provided) = (self.provided.decode(&values), &self.function.returned.value);
        // Shown where the rollback is named: there is the mistake when it does not fit.
        let call_it = quote_spanned! {path.span()=>
            .rollback(#call, ::waft_guest::__private::Undo::<#provided>::new(#asked, |mut #values| #decode))
        };
        let chosen = self.choose_and(path, &call_it);
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

    /// Calls a method of `Chosen`, which finds out whether the rollback has the attribute.
    fn choose_and(&self, path: &Path, method: &TokenStream) -> TokenStream {
        let name = match path::last(path) {
            Ok(name) => name,
            Err(error) => return error.into_compile_error(),
        };
        let (import, provided) = (path::import_beside(path), &self.function.returned.value);
        let function = local("function");
        // The function is named out of the stand-in's scope: one that is not there is told as that.
        quote! {{
            use ::waft_guest::__private::{ByName as _, ByType as _};
            let #function = #path;
            {
                #[allow(non_camel_case_types)]
                struct #name {}
                {
                    #import
                    (&::waft_guest::__private::Chosen::<#name, _, #provided>::new(#function)) #method
                }
            }
        }}
    }
}

impl Provided {
    /// Matches what the attribute names with what the function returns.
    fn of(function: &Function, said: &Provides) -> syn::Result<Self> {
        let returned = &function.returned;
        // Where a function returns nothing, its name stands for that.
        let wrong = |message: String| match &function.item.sig.output {
            syn::ReturnType::Type(_, written) => syn::Error::new_spanned(written, message),
            syn::ReturnType::Default => syn::Error::new_spanned(&function.item.sig.ident, message),
        };
        match said {
            Provides::Nothing if returned.is_unit() => Ok(Self::Nothing),
            Provides::Nothing => Err(wrong(
                "what the task returns has no name: add `provides = \"name\"` to the attribute, or return nothing"
                    .into(),
            )),
            Provides::One(_) | Provides::Several(_) | Provides::Fields if returned.is_unit() => {
                Err(wrong("the attribute says what the task provides, and the function returns nothing".into()))
            }
            Provides::One(name) => Ok(Self::One(name.clone(), returned.value.clone())),
            Provides::Fields => Ok(Self::Fields(returned.value.clone())),
            Provides::Several(names) => {
                let Type::Tuple(tuple) = &returned.value else {
                    return Err(wrong(format!("to provide {} values, return a tuple of as many", names.len())));
                };
                if tuple.elems.len() != names.len() {
                    let (promised, count) = (names.len(), tuple.elems.len());
                    return Err(wrong(format!(
                        "the attribute names {promised} values, and this is a tuple of {count}"
                    )));
                }
                Ok(Self::Several(names.iter().cloned().zip(tuple.elems.iter().cloned()).collect()))
            }
        }
    }

    /// What `describe` tells of it.
    fn info(&self) -> TokenStream {
        let named = |name: &String, value: &Type| {
            let schema = parameter::schema(value);
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

/// Stands in for a task that was refused, so that `export!` finds one and only the mistake itself is shown.
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

/// A variable that no name of the user's can be.
fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

fn option(value: Option<impl quote::ToTokens>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

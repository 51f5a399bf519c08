//! Names: parsed once, at the edge; inside, a value of the type proves that the name is valid.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

/// The maximum length of a name, in bytes. AMQP short strings hold 255; an exchange name joins two names.
const MAX_LEN: usize = 100;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a name: use 1 to {MAX_LEN} of the characters A-Z a-z 0-9 _ -")]
pub struct InvalidName {
    /// The refused text, cut to what fits a line.
    pub text: String,
}

impl InvalidName {
    /// The valid name nearest to the refused text. It replaces the text while the rest of a file is read, so that references
    /// with the same text find it.
    pub(crate) fn closest_valid(&self) -> String {
        let is_valid = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
        let nearest: String =
            self.text.chars().map(|char| if is_valid(char) { char } else { '_' }).take(MAX_LEN).collect();
        if nearest.is_empty() { "_".into() } else { nearest }
    }
}

/// Checks a node's name, or the name of a list element of a `for_each` task: `resize[17]`.
fn check_node(text: &str) -> Result<(), InvalidName> {
    let (task, number) = element(text).map_or((text, None), |(task, number)| (task, Some(number)));
    let is_canonical = number.is_none_or(|number| text.len() == task.len() + format!("[{number}]").len());
    if is_canonical { check(task) } else { Err(InvalidName { text: text.chars().take(MAX_LEN).collect() }) }
}

fn element(text: &str) -> Option<(&str, u32)> {
    let (task, number) = text.strip_suffix(']')?.split_once('[')?;
    Some((task, number.parse().ok()?))
}

fn check(text: &str) -> Result<(), InvalidName> {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.is_empty() || text.len() > MAX_LEN || !text.bytes().all(is_valid) {
        return Err(InvalidName { text: text.chars().take(MAX_LEN).collect() });
    }
    Ok(())
}

/// The first of all names, in their order.
const FIRST: &str = "-";

/// The separator between a namespace and a name in it.
const NAMESPACE_SEPARATOR: char = '/';

/// Checks a name that may be in a namespace: `shop/bake-cake`.
fn check_in_namespace(text: &str) -> Result<(), InvalidName> {
    let invalid = || InvalidName { text: text.chars().take(MAX_LEN).collect() };
    // The whole counts: names of exchanges are made from it.
    if text.len() > MAX_LEN {
        return Err(invalid());
    }
    let (namespace, name) =
        text.split_once(NAMESPACE_SEPARATOR).map_or((None, text), |(space, name)| (Some(space), name));
    namespace.map_or(Ok(()), check).and_then(|()| check(name)).map_err(|_| invalid())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => { name! { $(#[$doc])* $type, check } };
    ($(#[$doc:meta])* $type:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses a name.
            ///
            /// # Errors
            /// [`InvalidName`] when the text is empty, too long or contains an invalid character.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidName> {
                $check(text.as_ref())?;
                Ok(Self(text.as_ref().into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.pad(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "{:?}", &self.0)
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The name of a namespace: a part of the flows, runs, tags and queues of a server, with tokens of its own.
    Namespace
}
name! {
    /// The name of a flow. It may be in a namespace: `shop/bake-cake`.
    FlowName, check_in_namespace
}
name! {
    /// The name of a node of a flow: a task, or a nested flow (which is also its controller's name).
    /// Unique in the whole flow file.
    ///
    /// The calls of a `for_each` task have names of their own, `resize[0]`, `resize[1]`, which no flow file can use.
    NodeName, check_node
}
name! {
    /// The name of a value that tasks provide and require.
    ValueName
}
name! {
    /// The name a module gives to one of its tasks: what follows `#` in `use = "module#task"`.
    Export
}
name! {
    /// The name of a job queue. It may be in a namespace: `shop/default`.
    QueueName, check_in_namespace
}
name! {
    /// The name of a worker, as `waft workers` shows it.
    WorkerName
}
name! {
    /// The identity of one run, chosen by the caller that starts it.
    RunId
}
name! {
    /// The name of a token with which a program or a person uses a server.
    TokenName
}
name! {
    /// The name of a webhook of a server.
    WebhookName
}
name! {
    /// The name of a secret of an operator, as flows and guests write it.
    SecretName
}
name! {
    /// The name of a directory of an operator, as flows, operators and guests write it.
    DirectoryName
}
name! {
    /// The name of a configuration value or an environment variable, as flows, operators and guests write it.
    SettingName
}
name! {
    /// A fixed part of all runs; one engine at a time drives it.
    Shard
}

/// Adds what a name in a namespace can do.
macro_rules! in_namespace {
    ($type:ident) => {
        impl $type {
            /// The namespace that it is in.
            #[must_use]
            pub fn namespace(&self) -> Option<Namespace> {
                self.0.split_once(NAMESPACE_SEPARATOR).map(|(namespace, _)| Namespace(namespace.into()))
            }

            /// The name without its namespace.
            #[must_use]
            pub fn in_its_namespace(&self) -> &str {
                self.0.split_once(NAMESPACE_SEPARATOR).map_or(&*self.0, |(_, name)| name)
            }

            /// The name in a namespace. One that names a namespace already stays as it is.
            ///
            /// # Errors
            /// [`InvalidName`] when both together are too long.
            pub fn within(&self, namespace: Option<&Namespace>) -> Result<Self, InvalidName> {
                match namespace.filter(|_| self.namespace().is_none()) {
                    Some(namespace) => Self::new(format!("{namespace}{NAMESPACE_SEPARATOR}{self}")),
                    None => Ok(self.clone()),
                }
            }
        }
    };
}
in_namespace!(FlowName);
in_namespace!(QueueName);

impl FlowName {
    /// The first of all possible names of flows, in their order.
    #[must_use]
    pub fn first() -> Self {
        Self(FIRST.into())
    }

    /// The first of all possible names in a namespace, in their order. Those of a namespace follow one another. `None` if the name of the
    /// namespace is so long that it can have no flows.
    #[must_use]
    pub fn first_in(namespace: &Namespace) -> Option<Self> {
        Self::first().within(Some(namespace)).ok()
    }

    /// Whether it is in a namespace.
    #[must_use]
    pub fn is_in(&self, namespace: &Namespace) -> bool {
        self.0.strip_prefix(namespace.as_str()).is_some_and(|rest| rest.starts_with(NAMESPACE_SEPARATOR))
    }
}

impl NodeName {
    /// The first of all possible names of nodes, in their order.
    #[must_use]
    pub fn first() -> Self {
        Self(FIRST.into())
    }

    /// The name of one element of a `for_each` task, counted from 0.
    #[must_use]
    pub fn element(&self, number: u32) -> Self {
        Self(format!("{self}[{number}]").into())
    }

    /// The node of the flow with this name; for an element's name, its task.
    #[must_use]
    pub fn base(&self) -> Self {
        self.as_element().map_or_else(|| self.clone(), |(task, _)| task)
    }

    /// The task and the index of an element's name; `None` for a node of the flow.
    #[must_use]
    pub fn as_element(&self) -> Option<(Self, u32)> {
        element(&self.0).map(|(of, number)| (Self(of.into()), number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_to_a_hundred_letters_digits_underscores_and_dashes() {
        for good in ["a", "bake-cake", "first_pan", "9", &"x".repeat(100)] {
            assert_eq!(NodeName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a.b", "a/b", "ä", "#", &"x".repeat(101)] {
            assert!(NodeName::new(bad).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn flows_and_queues_may_be_in_a_namespace() {
        let shop = Namespace::new("shop").unwrap();
        let cake = FlowName::new("bake-cake").unwrap();
        let in_shop = cake.within(Some(&shop)).unwrap();
        assert_eq!((in_shop.as_str(), in_shop.namespace()), ("shop/bake-cake", Some(shop.clone())));
        assert_eq!((in_shop.in_its_namespace(), cake.in_its_namespace()), ("bake-cake", "bake-cake"));
        assert_eq!((cake.namespace(), cake.within(None).unwrap()), (None, cake));
        let other = Namespace::new("other").unwrap();
        assert_eq!(in_shop.within(Some(&other)).unwrap(), in_shop, "it says which one itself");
        for bad in ["/a", "a/", "a/b/c", "a//b", "a.b/c", &format!("a/{}", "x".repeat(99))] {
            assert!(QueueName::new(bad).is_err(), "{bad:?} passed");
        }
        assert!(FlowName::new("x".repeat(99)).unwrap().within(Some(&shop)).is_err());
    }

    #[test]
    fn the_names_of_a_namespace_follow_its_first_one() {
        let shop = Namespace::new("shop").unwrap();
        let first = FlowName::first_in(&shop).unwrap();
        let valid = |byte: &u8| check(&char::from(*byte).to_string()).is_ok();
        let names: Vec<String> = (0..=127).filter(valid).map(|byte| char::from(byte).to_string()).collect();
        assert_eq!(names.len(), 64);
        for name in &names {
            assert!(
                FlowName::first() <= FlowName::new(name).unwrap() && NodeName::first() <= NodeName::new(name).unwrap()
            );
            let in_shop = FlowName::new(format!("shop/{name}")).unwrap();
            assert!(first <= in_shop && in_shop.is_in(&shop));
            for outside in ["shop", &format!("shop{name}"), &format!("shop{name}/f"), "sho/p", "a/shop", "t"] {
                let outside = FlowName::new(outside).unwrap();
                assert!(!outside.is_in(&shop) && (outside < first || outside > in_shop), "{outside} is between");
            }
        }
        assert_eq!(FlowName::first_in(&Namespace::new("x".repeat(99)).unwrap()), None);
    }

    #[test]
    fn an_element_name_round_trips() {
        let resize = NodeName::new("resize").unwrap();
        let third = resize.element(3);
        assert_eq!((third.as_str(), third.as_element()), ("resize[3]", Some((resize.clone(), 3))));
        assert_eq!(NodeName::new("resize[3]").unwrap(), third);
        assert_eq!(resize.as_element(), None);
        for bad in ["[3]", "resize[]", "resize[03]", "resize[+3]", "resize[3", "resize[3]x", "resize[4294967296]"] {
            assert!(NodeName::new(bad).is_err(), "{bad:?} passed");
        }
        assert!(ValueName::new("resize[3]").is_err());
    }
}

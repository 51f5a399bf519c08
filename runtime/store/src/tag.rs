//! Tags: movable names for digests.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use flow::{Digest, Namespace};

use crate::TagError;

/// The maximum number of tags of a namespace. Each list of its modules reads all of them. Tags of no namespace are the operator's.
pub const MAX_NAMESPACE_TAGS: usize = 10_000;

/// The maximum length of a tag, in bytes: the same as for names.
const MAX_LEN: usize = 100;

/// A movable name for a digest, such as `kitchen` or `kitchen:1.2`.
///
/// It consists of the characters of names, `.` and `:`, and starts with a letter or digit. It never looks like a digest or a
/// file path: a reference to a module is one of these or a tag. It may be in a namespace: `shop/kitchen`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

/// Why a text is not a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a tag: {reason}")]
pub struct InvalidTag {
    /// The rejected text, shortened to fit a line.
    pub text: String,
    /// The reason.
    pub reason: &'static str,
}

impl Tag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace that it is in.
    #[must_use]
    pub fn namespace(&self) -> Option<Namespace> {
        self.0.split_once('/').and_then(|(namespace, _)| Namespace::new(namespace).ok())
    }

    /// The tag in a namespace. One that names a namespace already stays as it is.
    ///
    /// # Errors
    /// [`InvalidTag`] when both together are too long.
    pub fn within(&self, namespace: Option<&Namespace>) -> Result<Self, InvalidTag> {
        match namespace.filter(|_| self.namespace().is_none()) {
            Some(namespace) => format!("{namespace}/{self}").parse(),
            None => Ok(self.clone()),
        }
    }
}

/// Refuses a new tag if its namespace has as many tags as are allowed among those that the store knows. Returns how many it may still have.
pub(crate) fn check_number(tag: &Tag, known: impl Iterator<Item: Borrow<Tag>>) -> Result<usize, TagError> {
    let Some(namespace) = tag.namespace() else { return Ok(usize::MAX) };
    let prefix = format!("{namespace}/");
    let of_namespace = known.filter(|known| Borrow::<Tag>::borrow(known).as_str().starts_with(&prefix)).count();
    match MAX_NAMESPACE_TAGS.saturating_sub(of_namespace) {
        0 => Err(TagError::TooMany { tag: tag.clone(), namespace }),
        left => Ok(left),
    }
}

fn check(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_LEN {
        return Err("use 1 to 100 of the characters A-Z a-z 0-9 _ - . :");
    }
    match text.split_once('/') {
        Some((namespace, _)) if namespace.starts_with('-') || namespace.starts_with('_') => {
            Err("begin with a letter or digit")
        }
        Some((namespace, _)) if Namespace::new(namespace).is_err() => {
            Err("what stands before the / is not a namespace")
        }
        Some((_, name)) => check_name(name),
        None => check_name(text),
    }
}

fn check_name(text: &str) -> Result<(), &'static str> {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_valid) {
        return Err("use 1 to 100 of the characters A-Z a-z 0-9 _ - . :");
    }
    if !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Err("begin with a letter or digit");
    }
    if text.starts_with("sha256:") || format!("sha256:{text}").parse::<Digest>().is_ok() {
        return Err("it looks like a digest");
    }
    if text.ends_with(".wasm") {
        return Err("it looks like a file");
    }
    Ok(())
}

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        check(text).map_err(|reason| InvalidTag { text: text.chars().take(MAX_LEN).collect(), reason })?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_name_that_may_have_dots_and_colons() {
        for good in ["kitchen", "kitchen:1.2", "9", "a_b-c", "latest.", &"x".repeat(100)] {
            assert_eq!(good.parse::<Tag>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "ä", "a%b", "a#b", "a\0", &"x".repeat(101)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn a_tag_may_be_in_a_namespace() {
        let shop = Namespace::new("shop").unwrap();
        let kitchen: Tag = "kitchen:1.2".parse().unwrap();
        let own = kitchen.within(Some(&shop)).unwrap();
        assert_eq!((own.as_str(), own.namespace()), ("shop/kitchen:1.2", Some(shop.clone())));
        assert_eq!(own.within(Some(&Namespace::new("other").unwrap())).unwrap(), own, "it says which one itself");
        assert_eq!((kitchen.namespace(), kitchen.within(None).unwrap()), (None, kitchen));
        for bad in
            ["/a", "a/", "a/b/c", "a.b/c", "-a/b", "a/.b", "a/../b", "a/x.wasm", &format!("a/{}", "x".repeat(99))]
        {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn a_tag_never_looks_like_a_digest_or_path() {
        let digest = Digest::from_bytes([0xab; 32]);
        for bad in [&digest.to_string(), &digest.hex(), "sha256:12", "kitchen.wasm", "..", ".", ".hidden", "-v", "../x"]
        {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?} passed");
        }
        let error = "kitchen.wasm".parse::<Tag>().unwrap_err();
        assert_eq!(error.to_string(), "\"kitchen.wasm\" is not a tag: it looks like a file");
    }
}

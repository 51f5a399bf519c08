//! A store that lasts as long as its process.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use flow::{Digest, Namespace};

use crate::{
    EarlierDigest, Entry, FetchError, ListError, Policy, PutError, RemoveError, SignError, Signature, Store, Tag,
    TagError, blocking::blocking, digest::digest_of, tag,
};

/// A store that lasts as long as its process.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    content: BTreeMap<Digest, (Bytes, SystemTime)>,
    tags: BTreeMap<Tag, Digest>,
    signatures: BTreeMap<Digest, Vec<Signature>>,
}

impl Memory {
    /// A store without content.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A panic in another thread cannot leave the maps half written: each insertion is complete.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Memory {
    async fn put(&self, bytes: Bytes) -> Result<Digest, PutError> {
        let (digest, bytes) = blocking(move || (digest_of(&bytes), bytes)).await;
        self.lock().content.insert(digest, (bytes, SystemTime::now()));
        Ok(digest)
    }

    async fn fetch(&self, digest: &Digest) -> Result<Bytes, FetchError> {
        let state = self.lock();
        let (bytes, _) = state.content.get(digest).ok_or(FetchError::Missing { digest: *digest })?;
        Ok(bytes.clone())
    }

    async fn contains(&self, digest: &Digest) -> Result<bool, FetchError> {
        Ok(self.lock().content.contains_key(digest))
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, FetchError> {
        Ok(self.lock().content.get(digest).map(|(bytes, _)| bytes.len() as u64))
    }

    async fn touch(&self, digest: &Digest) -> Result<bool, PutError> {
        let mut state = self.lock();
        let Some((_, stored_at)) = state.content.get_mut(digest) else { return Ok(false) };
        *stored_at = SystemTime::now();
        Ok(true)
    }

    async fn list(&self) -> Result<Vec<Entry>, ListError> {
        Ok(self.lock().content.iter().map(entry).collect())
    }

    async fn list_after(&self, after: Option<&Digest>, max: usize) -> Result<Vec<Entry>, ListError> {
        let behind = after.map_or(Bound::Unbounded, |after| Bound::Excluded(*after));
        Ok(self.lock().content.range::<Digest, _>((behind, Bound::Unbounded)).take(max).map(entry).collect())
    }

    async fn entries_of(&self, digests: &[Digest]) -> Result<Vec<Entry>, ListError> {
        let state = self.lock();
        Ok(digests.iter().filter_map(|digest| state.content.get_key_value(digest)).map(entry).collect())
    }

    async fn tag(&self, tag: &Tag, digest: &Digest) -> Result<EarlierDigest, TagError> {
        let mut state = self.lock();
        if !state.content.contains_key(digest) {
            return Err(TagError::Missing { tag: tag.clone(), digest: *digest });
        }
        if !state.tags.contains_key(tag) {
            tag::check_number(tag, state.tags.keys())?;
        }
        Ok(state.tags.insert(tag.clone(), *digest).into())
    }

    async fn resolve_tag(&self, tag: &Tag) -> Result<Option<Digest>, TagError> {
        Ok(self.lock().tags.get(tag).copied())
    }

    async fn tags(&self) -> Result<Vec<(Tag, Digest)>, ListError> {
        Ok(self.lock().tags.iter().map(|(tag, digest)| (tag.clone(), *digest)).collect())
    }

    async fn tags_in(&self, namespace: Option<&Namespace>) -> Result<Vec<(Tag, Digest)>, ListError> {
        let state = self.lock();
        let of = state.tags.iter().filter(|(tag, _)| tag.namespace().as_ref() == namespace);
        Ok(of.map(|(tag, digest)| (tag.clone(), *digest)).collect())
    }

    async fn sign(&self, signature: &Signature, policy: &Policy) -> Result<(), SignError> {
        let (mut state, digest) = (self.lock(), *signature.digest());
        if !state.content.contains_key(&digest) {
            return Err(SignError::Missing { digest });
        }
        let signatures = state.signatures.entry(digest).or_default();
        if signatures.iter().any(|known| known.replaces(signature)) {
            return Ok(());
        }
        signatures.retain(|known| !signature.replaces(known));
        if let Some(replaced) = policy.make_room(signatures, signatures.len(), signature)?.cloned() {
            signatures.retain(|known| *known != replaced);
        }
        signatures.push(signature.clone());
        Ok(())
    }

    async fn signatures(&self, digest: &Digest) -> Result<Vec<Signature>, ListError> {
        Ok(self.lock().signatures.get(digest).cloned().unwrap_or_default())
    }

    async fn remove(&self, entry: &Entry) -> Result<bool, RemoveError> {
        let mut state = self.lock();
        let is_listed = |(_, stored_at): &(Bytes, SystemTime)| *stored_at == entry.stored_at;
        if !state.content.get(&entry.digest).is_none_or(is_listed) {
            return Ok(false);
        }
        state.content.remove(&entry.digest);
        state.signatures.remove(&entry.digest);
        Ok(true)
    }
}

fn entry((digest, (bytes, stored_at)): (&Digest, &(Bytes, SystemTime))) -> Entry {
    Entry { digest: *digest, size: bytes.len() as u64, stored_at: *stored_at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_NAMESPACE_TAGS;

    #[tokio::test]
    async fn a_namespace_has_a_maximum_of_tags() {
        let store = Memory::new();
        let digest = store.put("pan".into()).await.unwrap();
        let tags = (0..MAX_NAMESPACE_TAGS).map(|number| (format!("shop/t{number}").parse::<Tag>().unwrap(), digest));
        store.lock().tags.extend(tags);
        let tag = async |tag: &str| store.tag(&tag.parse().unwrap(), &digest).await;
        let refused = tag("shop/new").await.unwrap_err().to_string();
        assert_eq!(refused, "tag shop/new is not set: the namespace shop has 10000 tags already");
        for good in ["shop/t1", "shop", "shop2/new", "new"] {
            assert!(tag(good).await.is_ok(), "{good} is refused");
        }
    }

    #[tokio::test]
    async fn memory_passes_the_contract() {
        crate::contract::all(async || Memory::new()).await;
    }
}

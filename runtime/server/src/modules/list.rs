//! Lists the contents of the store, page by page.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use api::{self, Modules, ModulesQuery, StoredModule};
use axum::{Extension, extract::State, response::Response};
use flow::{Digest, Namespace, Timestamp};
use protocol::events::rfc3339;
use store::{Entry, ListError, Store};

use super::{is_visible, shown};
use crate::{
    auth::{namespace::CallerNamespace, permission::Permission},
    extract::Query,
    problem::Problem,
    state::Shared,
    turns,
};

/// The default number of contents of a page.
const DEFAULT_CONTENTS: usize = 100;

/// The maximum number of contents of a page. The file of each is looked at, and those of its signatures are read.
const MAX_CONTENTS: usize = 500;

/// Which contents of a store to list.
#[derive(Debug, Clone, Copy)]
pub struct ModulesPage {
    /// Only contents that a tag refers to.
    pub tagged: bool,
    /// The maximum number of contents; at least one.
    pub limit: usize,
    /// Only the contents behind this one.
    pub after: Option<Digest>,
}

impl ModulesPage {
    /// All contents of a store.
    pub const ALL: Self = Self { tagged: false, limit: usize::MAX, after: None };

    fn parse(ModulesQuery { tagged, limit, after }: ModulesQuery) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(DEFAULT_CONTENTS);
        if !(1..=MAX_CONTENTS).contains(&limit) {
            return Err(Problem::bad_request(format!("limit: {limit} is not from 1 to {MAX_CONTENTS}")));
        }
        let cursor = |text: String| {
            text.parse::<Digest>().map_err(|_| {
                Problem::bad_request(format!("after: {text:?} is not what a page gave as next"))
                    .hint("leave it out for the first page")
            })
        };
        Ok(Self { tagged, limit, after: after.map(cursor).transpose()? })
    }
}

/// Lists the contents of the store, in order of digest: modules, and values that were too large for messages.
///
/// A token that is limited to a namespace lists what its tags name, and the tags of none.
#[utoipa::path(get, operation_id = "list_modules", path = "/v1/modules", tag = "modules", params(ModulesQuery), responses(
    (status = 200, description = "A page of the contents", body = Modules),
    (status = 400, description = "The query cannot be read", body = api::Problem,
        content_type = "application/problem+json"),
    (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
        content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(state): Shared,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    Extension(permission): Extension<Arc<Permission>>,
    Query(query): Query<ModulesQuery>,
) -> Result<Response, Problem> {
    let page = ModulesPage::parse(query)?;
    let turn = turns::for_modules(namespace.clone()).await;
    // The files are read to the end, also if the client leaves, so the turn ends only then.
    turns::in_task(turn, async move {
        let listed = stored_modules(&*state.dependencies.modules.store, namespace.as_ref(), page).await;
        let listed = listed.map_err(|error| Problem::internal(&error))?;
        // A module may have thousands of tags, and a slow reader leaves them in memory.
        let json = serde_json::to_vec(&listed).expect("strings and numbers are JSON");
        state.large_answers.json(permission.sender(), json)
    })
    .await
}

/// A page of the contents of a store, with their tags and signatures, in order of digest. With a namespace, only what its tags and those
/// of none name.
///
/// # Errors
/// [`ListError`] when they cannot be read.
pub async fn stored_modules(
    store: &dyn Store,
    namespace: Option<&Namespace>,
    page: ModulesPage,
) -> Result<Modules, ListError> {
    let mut tags_of = tags_by_digest(store, namespace).await?;
    let ModulesPage { tagged, limit, after } = page;
    // One more than the page has shows whether there is another page.
    let max = limit.saturating_add(1);
    let (entries, next) = if tagged || namespace.is_some() {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut digests: Vec<Digest> =
            tags_of.range::<Digest, _>(behind).take(max).map(|(digest, _)| *digest).collect();
        let next = cut(&mut digests, limit, |digest| *digest);
        // A tag may name a content that was removed by hand.
        (store.entries_of(&digests).await?, next)
    } else {
        let mut entries = store.list_after(after.as_ref(), max).await?;
        let next = cut(&mut entries, limit, |entry| entry.digest);
        (entries, next)
    };
    let mut modules = Vec::new();
    for Entry { digest, size, stored_at } in entries {
        let signatures = store.signatures(&digest).await?;
        modules.push(StoredModule {
            digest: digest.to_string(),
            size,
            stored_at: rfc3339(timestamp(stored_at)),
            tags: tags_of.remove(&digest).unwrap_or_default(),
            signatures: signatures.iter().filter(|made| is_visible(made.tag(), namespace)).map(shown).collect(),
        });
    }
    Ok(Modules { modules, next: next.map(|digest| digest.to_string()) })
}

/// The tags that a caller may see, in their order. Those of other namespaces are not read.
async fn tags_by_digest(
    store: &dyn Store,
    namespace: Option<&Namespace>,
) -> Result<BTreeMap<Digest, Vec<String>>, ListError> {
    let mut tags = match namespace {
        Some(_) => [store.tags_in(None).await?, store.tags_in(namespace).await?].concat(),
        None => store.tags().await?,
    };
    tags.sort();
    let mut tags_of = BTreeMap::<Digest, Vec<String>>::new();
    for (tag, digest) in tags {
        tags_of.entry(digest).or_default().push(tag.to_string());
    }
    Ok(tags_of)
}

/// Cuts items to the length of a page. Returns the digest of the last one, if there are more.
fn cut<Item>(items: &mut Vec<Item>, limit: usize, digest: impl Fn(&Item) -> Digest) -> Option<Digest> {
    let more = items.len() > limit;
    items.truncate(limit);
    items.last().filter(|_| more).map(digest)
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use store::Memory;

    use super::*;

    /// A store with some contents, of which the first have tags.
    async fn store() -> (Memory, Vec<Digest>) {
        let (store, mut digests) = (Memory::new(), Vec::new());
        for number in 0..20 {
            digests.push(store.put(format!("content {number}").into()).await.unwrap());
        }
        digests.sort();
        for (number, digest) in digests.iter().enumerate().take(9) {
            for tag in [format!("shop/t{number}"), format!("other/t{number}"), format!("t{number}")] {
                // Each third content has a tag of each.
                if number % 3 == usize::from(tag.starts_with("other")) {
                    store.tag(&tag.parse().unwrap(), digest).await.unwrap();
                }
            }
        }
        (store, digests)
    }

    /// All pages, each as the contents on it: their numbers, and their tags.
    async fn pages(store: &Memory, digests: &[Digest], namespace: &str, page: ModulesPage) -> Vec<String> {
        let namespace = Namespace::new(namespace).ok();
        let (mut pages, mut page) = (Vec::new(), page);
        loop {
            let Modules { modules, next } = stored_modules(store, namespace.as_ref(), page).await.unwrap();
            assert!(modules.len() <= page.limit);
            let shown = modules.iter().map(|module| {
                let number = digests.iter().position(|digest| digest.to_string() == module.digest).unwrap();
                std::iter::once(number.to_string()).chain(module.tags.clone()).collect::<Vec<_>>().join(" ")
            });
            pages.push(shown.collect::<Vec<_>>().join(", "));
            match next {
                Some(next) => page.after = Some(next.parse().unwrap()),
                None => return pages,
            }
        }
    }

    #[tokio::test]
    async fn pages_follow_one_another_and_show_what_their_reader_may_see() {
        let (store, digests) = store().await;
        let of = |limit| ModulesPage { limit, ..ModulesPage::ALL };
        let tagged = |limit| ModulesPage { tagged: true, ..of(limit) };
        let all = pages(&store, &digests, "", of(usize::MAX)).await;
        assert_eq!(all.len(), 1);
        assert!(all[0].starts_with("0 shop/t0 t0, 1 other/t1, 2, 3 shop/t3 t3, 4 other/t4, 5, "), "{}", all[0]);
        assert_eq!(pages(&store, &digests, "", of(7)).await.join(", "), all[0]);
        assert_eq!(pages(&store, &digests, "", of(10)).await.len(), 2, "no page is empty");
        let of_tags = ["0 shop/t0 t0, 1 other/t1", "3 shop/t3 t3, 4 other/t4", "6 shop/t6 t6, 7 other/t7"];
        assert_eq!(pages(&store, &digests, "", tagged(2)).await, of_tags);
        for page in [of(2), tagged(2)] {
            let seen = ["0 shop/t0 t0, 3 shop/t3 t3", "6 shop/t6 t6"];
            assert_eq!(pages(&store, &digests, "shop", page).await, seen);
        }
        assert_eq!(pages(&store, &digests, "third", of(9)).await, ["0 t0, 3 t3, 6 t6"]);
    }

    #[test]
    fn a_query_that_cannot_be_read_is_refused() {
        for (query, says) in [
            (ModulesQuery::default().limit(0), "limit: 0 is not from 1 to 500"),
            (ModulesQuery::default().limit(501), "limit: 501 is not from 1 to 500"),
            (ModulesQuery::default().after("kitchen"), "after: \"kitchen\" is not what a page gave as next"),
        ] {
            let problem = ModulesPage::parse(query).unwrap_err().into_document();
            assert!(problem.status == 400 && problem.detail.starts_with(says), "{problem:?}");
        }
    }
}

//! Tokens.

use flow::{Digest, Timestamp, TokenName};

use crate::{AccessToken, Logbook};

fn token(name: &str, hash: u8) -> AccessToken {
    AccessToken {
        name: TokenName::new(name).expect("a valid name"),
        hash: Digest::from_bytes([hash; 32]),
        scopes: vec!["read".into(), "submit".into()],
        created_at: Timestamp::from_micros(1),
        expires_at: Some(Timestamp::from_micros(2)).filter(|_| hash == 1),
    }
}

pub(super) async fn a_token_is_found_until_it_is_removed(logbook: impl Logbook) {
    let [first, second] = [token("first", 1), token("Second", 2)];
    assert!(logbook.add_token(&first).await.expect("it can be written"));
    assert!(logbook.add_token(&second).await.expect("it can be written"));
    for taken in [token("first", 3), token("third", 1)] {
        assert!(!logbook.add_token(&taken).await.expect("it can be written"), "its name or its hash is taken");
    }
    assert_eq!(logbook.token(&first.hash).await.expect("it can be read"), Some(first.clone()));
    assert_eq!(logbook.tokens().await.expect("it can be read"), [second.clone(), first.clone()], "in order of name");
    assert!(logbook.remove_token(&first.name).await.expect("it can be written"));
    assert!(!logbook.remove_token(&first.name).await.expect("it can be written"), "it is gone");
    assert_eq!(logbook.token(&first.hash).await.expect("it can be read"), None);
    assert_eq!(logbook.tokens().await.expect("it can be read"), [second]);
}

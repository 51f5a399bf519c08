//! Tokens and the audit log.

use flow::{Digest, Namespace, Timestamp, TokenName};

use crate::{AccessToken, AuditEntry, AuditFilter, Logbook};

fn token(name: &str, hash: u8) -> AccessToken {
    AccessToken {
        name: TokenName::new(name).expect("a valid name"),
        hash: Digest::from_bytes([hash; 32]),
        scopes: vec!["read".into(), "submit".into()],
        namespace: (hash == 1).then(|| Namespace::new("shop").expect("a valid name")),
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
    let replacing =
        AccessToken { hash: Digest::from_bytes([4; 32]), created_at: Timestamp::from_micros(2), ..token("first", 4) };
    assert!(logbook.add_token(&replacing).await.expect("it can be written"), "the first one has expired");
    assert_eq!(logbook.token(&first.hash).await.expect("it can be read"), None);
    assert!(!logbook.add_token(&first).await.expect("it can be written"), "the one that replaced it is valid");
    let first = replacing;
    assert_eq!(logbook.token(&first.hash).await.expect("it can be read"), Some(first.clone()));
    assert_eq!(logbook.tokens().await.expect("it can be read"), [second.clone(), first.clone()], "in order of name");
    assert!(logbook.remove_token(&first.name).await.expect("it can be written"));
    assert!(!logbook.remove_token(&first.name).await.expect("it can be written"), "it is gone");
    assert_eq!(logbook.token(&first.hash).await.expect("it can be read"), None);
    assert_eq!(logbook.tokens().await.expect("it can be read"), [second]);
}

fn entry(at: u64, subject: Option<&str>) -> AuditEntry {
    AuditEntry {
        at: Timestamp::from_micros(at),
        caller: "ci".into(),
        peer: "127.0.0.1:1".into(),
        action: "cancel".into(),
        subject: subject.map(str::to_owned),
        status: 200,
        detail: subject.map(|subject| format!("{subject} was changed")),
    }
}

pub(super) async fn the_audit_log_is_read_by_subject_and_in_pages(logbook: impl Logbook) {
    let entries = [entry(1, Some("a")), entry(2, None), entry(3, Some("b")), entry(4, Some("a"))];
    logbook.add_audit(&entries[..1]).await.expect("it can be written");
    logbook.add_audit(&entries[1..]).await.expect("it can be written");
    let read = async |subject: Option<&str>, before, limit| {
        let filter = AuditFilter { subject: subject.map(str::to_owned), before, limit };
        let found = logbook.audit(&filter).await.expect("it can be read");
        let times: Vec<u64> = found.iter().map(|(_, entry)| entry.at.as_micros()).collect();
        (times, found)
    };
    let (times, all) = read(None, None, 9).await;
    assert_eq!(times, [4, 3, 2, 1], "the youngest first");
    assert_eq!(all[3].1, entries[0]);
    assert_eq!(read(None, Some(all[1].0), 1).await.0, [2], "the next page of one");
    assert_eq!(read(Some("a"), None, 9).await.0, [4, 1]);
    assert_eq!(read(Some("a"), Some(all[0].0), 9).await.0, [1]);
    assert_eq!(read(Some("c"), None, 9).await.0, [0; 0]);
    assert_eq!(logbook.delete_audit(Timestamp::from_micros(3)).await.expect("it can be written"), 2);
    assert_eq!(read(None, None, 9).await.0, [4, 3]);
    logbook.add_audit(&[entry(5, None)]).await.expect("it can be written");
    assert!(read(None, None, 1).await.1[0].0 > all[0].0, "a position is never used again");
    // Whatever a request names is a subject, also what a database cannot store as text.
    logbook
        .add_audit(&[entry(6, Some("\0")), entry(7, Some("a\0b")), entry(8, Some("c"))])
        .await
        .expect("it can be written");
    assert_eq!(read(Some("\0"), None, 9).await.0, [6]);
    assert_eq!(read(Some("a\0b"), None, 9).await.0, [7]);
    assert_eq!(read(Some("c"), None, 9).await.0, [8]);
    assert_eq!(read(Some("c\0"), None, 9).await.0, [0; 0]);
}

//! Each test changes one thing about a valid signature.

use super::*;
use crate::{SigningKey, digest_of};

const SIGNED_AT: Timestamp = Timestamp::from_micros(1_764_432_780_000_000);

fn signature() -> (SigningKey, Signature) {
    let key = SigningKey::generate().unwrap();
    let tag = "shop:1".parse().unwrap();
    let signature = key.sign(digest_of(b"module"), Some(tag), SIGNED_AT).unwrap();
    (key, signature)
}

#[track_caller]
fn refused(text: &str, says: &str) {
    let error = text.parse::<Signature>().expect_err(text).to_string();
    assert!(error.contains(says), "{error}");
}

#[test]
fn a_signature_says_who_signed_what_for_which_tag_and_when() {
    let (key, made) = signature();
    let read: Signature = made.as_str().parse().unwrap();
    assert_eq!(read, made);
    assert_eq!((read.signer(), *read.digest()), (&key.signer(), digest_of(b"module")));
    assert_eq!((read.tag().map(Tag::as_str), read.signed_at()), (Some("shop:1"), SIGNED_AT));
    let digest = digest_of(b"module");
    let statement = format!("waft-module:1 timestamp:1764432780 digest:{digest} tag:shop:1");
    let lines: Vec<&str> = read.as_str().lines().collect();
    assert_eq!(lines[0], format!("untrusted comment: waft signature by {}", key.signer()));
    assert_eq!(lines[2], format!("trusted comment: {statement}"));
    let for_any = key.sign(digest, None, SIGNED_AT).unwrap();
    assert!(for_any.as_str().contains("tag:-\n") && for_any.tag().is_none());
}

/// What `minisign -V` does with the statement as the file.
#[test]
fn minisign_verifies_the_statement() {
    let (key, made) = signature();
    let public: PublicKey = PublicKey::from_base64(&key.signer().to_string()).unwrap();
    let read = SignatureBox::from_string(made.as_str()).unwrap();
    let statement = format!("{}\n", read.trusted_comment().unwrap());
    minisign::verify(&public, &read, Cursor::new(statement), true, false, false).unwrap();
}

#[test]
fn a_signature_of_another_digest_tag_or_time_is_refused() {
    let (_, made) = signature();
    let other = digest_of(b"other").to_string();
    let digest = digest_of(b"module").to_string();
    for (old, new) in [(digest.as_str(), other.as_str()), ("shop:1", "shop:2"), ("1764432780", "1764432781")] {
        refused(&made.as_str().replace(old, new), "did not sign it");
    }
}

#[test]
fn a_signature_in_the_name_of_another_signer_is_refused() {
    let ((key, made), other) = (signature(), SigningKey::generate().unwrap());
    refused(&made.as_str().replace(&key.signer().to_string(), &other.signer().to_string()), "did not sign it");
    // The same key id, which its owner can choose, and another key.
    let id = PublicKey::from_base64(&key.signer().to_string()).unwrap().keynum().to_vec();
    let mut bytes = PublicKey::from_base64(&other.signer().to_string()).unwrap().to_bytes();
    bytes[2..10].copy_from_slice(&id);
    let impostor = Signer(PublicKey::from_bytes(&bytes).unwrap());
    assert_eq!(impostor.key_id(), key.signer().key_id());
    assert_ne!(impostor, key.signer());
    refused(&made.as_str().replace(&key.signer().to_string(), &impostor.to_string()), "did not sign it");
}

#[test]
fn a_key_under_another_key_id_is_the_same_signer() {
    let signer = SigningKey::generate().unwrap().signer();
    let mut bytes = signer.0.to_bytes();
    bytes[3] ^= 1;
    let renamed = Signer(PublicKey::from_bytes(&bytes).unwrap());
    assert_ne!(renamed.to_string(), signer.to_string());
    assert_eq!(renamed, signer, "a denied signer cannot take another name");
}

#[test]
fn a_signature_has_one_text() {
    let (_, made) = signature();
    let text = made.as_str();
    for changed in [format!("{text}\n"), text.replace('\n', "\r\n"), text.trim_end().to_owned(), format!(" {text}")] {
        assert!(changed.parse::<Signature>().is_err(), "{changed:?} passed");
    }
    refused("", "four lines");
    refused(&"x".repeat(MAX_SIGNATURE_BYTES + 1), "at most 1024");
    let short_last_line = text.lines().take(3).chain(["AAAA"]).collect::<Vec<_>>().join("\n");
    refused(&short_last_line, "four lines");
}

#[test]
fn a_signature_of_anything_else_is_refused() {
    let (key, made) = signature();
    refused(&made.as_str().replace("waft signature by", "signature by"), "does not name its signer");
    let text = key.sign_text(&Signature::comment(&key.signer()), "a release of something else").unwrap();
    refused(&text, "its statement does not begin");
    for bad in ["timestamp:01", "timestamp:x", "digest:sha256:12", "tag:", "tag:a/b/c"] {
        let name = bad.split(':').next().unwrap();
        let statement = made.statement.to_string();
        let parts: Vec<&str> =
            statement.split(' ').map(|part| if part.starts_with(name) { bad } else { part }).collect();
        let text = key.sign_text(&Signature::comment(&key.signer()), &parts.join(" ")).unwrap();
        assert!(text.parse::<Signature>().is_err(), "{bad} passed");
    }
}

#[test]
fn a_public_key_is_read_alone_or_from_its_file() {
    let signer = SigningKey::generate().unwrap().signer();
    for text in [signer.to_string(), signer.to_file(), format!("  {signer}\n\n")] {
        assert_eq!(text.parse::<Signer>().unwrap(), signer);
    }
    for bad in ["", "RW", "untrusted comment: x\n", &signer.to_string()[1..], &format!("{signer}\n{signer}")] {
        let error = bad.parse::<Signer>().expect_err(bad).to_string();
        assert!(error.contains("is not a public key of minisign"), "{error}");
    }
}

#[test]
fn the_example_on_the_page_is_a_signature() {
    let page = include_str!("../../../../docs/format.md");
    let start = page.find("untrusted comment: waft signature by").expect("the page has an example");
    let end = start + page[start..].find("```").expect("the example ends");
    let example: Signature = page[start..end].parse().unwrap();
    assert_eq!((example.tag().map(Tag::as_str), *example.digest()), (Some("shop:1"), digest_of(b"module")));
}

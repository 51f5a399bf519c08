//! The headers that prove who sent an event, and when: those of standardwebhooks.com, for which there are libraries in many languages.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::config::WebhookSecret;

/// The id of the event: the same for each try.
const ID: HeaderName = HeaderName::from_static("webhook-id");

/// The time of the try, in seconds since 1970. A receiver refuses old ones, so that nobody can repeat a request much later.
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");

/// `v1,` and the HMAC-SHA-256 of the id, the time and the body in base64.
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The headers of a request with an event.
pub(super) fn headers(secret: &WebhookSecret, id: &str, at_seconds: i64, body: &str) -> HeaderMap {
    let time = at_seconds.to_string();
    let parts = [id.as_bytes(), b".", time.as_bytes(), b".", body.as_bytes()];
    let signature = format!("v1,{}", BASE64_STANDARD.encode(store::hmac_sha256(secret.as_bytes(), &parts)));
    let value = |text: &str| HeaderValue::from_str(text).expect("ids, numbers and base64 are visible ASCII");
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (ID, value(id)),
        (TIMESTAMP, value(&time)),
        (SIGNATURE, value(&signature)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::config::{Webhook, WebhookSettings, tests::settings};

    /// The example of the specification.
    #[test]
    fn a_signature_is_the_one_that_libraries_check() {
        let secret = "whsec_plJ3nmyCDGBKInavdOK15jsl".to_owned();
        let webhook = Webhook::new(WebhookSettings { secret, ..settings("https://example.com") }).unwrap();
        let body = r#"{"event_type":"ping","data":{"success":true}}"#;
        let headers = headers(&webhook.secret, "msg_loFOjxBNrRLzqYUf", 1_731_705_121, body);
        assert_eq!(headers["webhook-signature"], "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
        assert_eq!(headers["webhook-id"], "msg_loFOjxBNrRLzqYUf");
        assert_eq!(headers["webhook-timestamp"], "1731705121");
    }
}

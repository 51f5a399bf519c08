//! Tests that nothing that a call leaves has the value of a secret, and that the rest stays.

use std::time::Duration;

use flow::Json;

use super::*;

const MARK: &str = "{{secret:KEY}}";

/// A value with letters of both cases: names of headers have only small ones.
fn used() -> UsedSecrets {
    let used = UsedSecrets::default();
    used.note(&"KEY".parse().unwrap(), "S3cret");
    used
}

fn limits(output: u64) -> Limits {
    Limits { output, ..Limits::default() }
}

fn report(completion: Completion) -> CallReport {
    CallReport {
        completion,
        log: Vec::new(),
        stdout: Bytes::new(),
        stderr: Bytes::new(),
        stats: sandbox::Stats::default(),
        backtrace: Vec::new(),
    }
}

fn request(text: &str) -> RecordedRequest {
    let headers = vec![
        (format!("x-{}", text.to_ascii_lowercase()), b"1".to_vec()),
        ("x-value".to_owned(), text.as_bytes().to_vec()),
    ];
    let url = format!("https://a.example/{text}");
    RecordedRequest { method: text.to_owned(), url, headers, body: text.as_bytes().to_vec() }
}

#[test]
fn a_record_has_no_value_anywhere() {
    use RecordedHttpFailure as Failed;
    let answers = |text: &str| {
        let text = text.to_owned();
        let RecordedRequest { headers, body, .. } = request(&text);
        vec![
            RecordedAnswer::Response { status: 200, headers, body },
            RecordedAnswer::DeniedAtOnce(format!("GET https://a.example/{text} is denied")),
            RecordedAnswer::Failed(Failed::Denied(text.clone())),
            RecordedAnswer::Failed(Failed::Secret { name: "KEY".into(), reason: text.clone() }),
            RecordedAnswer::Failed(Failed::NoAddress { host: text.clone(), reason: text.clone() }),
            RecordedAnswer::Failed(Failed::Connect(text.clone())),
            RecordedAnswer::Failed(Failed::Tls(text.clone())),
            RecordedAnswer::Failed(Failed::Protocol(text)),
            RecordedAnswer::Failed(Failed::Timeout(Duration::from_secs(1))),
            RecordedAnswer::Failed(Failed::TooLarge(1)),
            RecordedAnswer::Failed(Failed::TooMany(1)),
            RecordedAnswer::None,
        ]
    };
    let exchanges = |text: &str| {
        let exchange = |answer| HttpExchange { request: request(text), answer, took: Duration::ZERO };
        HttpExchanges { exchanges: answers(text).into_iter().map(exchange).collect(), cut: false }
    };
    let mut redacted = exchanges("S3cret");
    redact_exchanges(&mut redacted, &used());
    let mut expected = exchanges(MARK);
    for HttpExchange { request, answer, .. } in &mut expected.exchanges {
        request.headers.remove(0);
        if let RecordedAnswer::Response { headers, .. } = answer {
            headers.remove(0);
        }
    }
    assert_eq!(redacted, expected);
    let untouched = exchanges("none");
    let mut redacted = untouched.clone();
    redact_exchanges(&mut redacted, &used());
    assert_eq!(redacted, untouched);
}

#[test]
fn values_without_secrets_may_fill_their_limit_and_others_fail_beyond_it() {
    let json = |text: &str| Value::Json(Json::parse(format!("{text:?}")).unwrap());
    let values = |text: &str| -> Values {
        [("a".parse().unwrap(), json(text)), ("b".parse().unwrap(), Value::Bytes(text.as_bytes().to_vec().into()))]
            .into()
    };
    // Two names of one byte, the quotes of the first value, and the marks.
    let redacted = redact_report(report(Completion::Succeeded(values("S3cret"))), &used(), &limits(32));
    assert_eq!(redacted.completion, Completion::Succeeded(values(MARK)));
    let redacted = redact_report(report(Completion::Succeeded(values("S3cret"))), &used(), &limits(31));
    let Completion::Failed(failure) = redacted.completion else { panic!("{redacted:?}") };
    assert_eq!(failure.kind, FailureKind::OutputLimit);
    assert!(failure.message.contains("{{secret:NAME}} in their place they are larger than the limit"), "{failure}");
    for limit in [0, 32] {
        let others = report(Completion::Succeeded(values("fourteen bytes")));
        let redacted = redact_report(others, &used(), &limits(limit));
        assert_eq!(redacted.completion, Completion::Succeeded(values("fourteen bytes")));
    }
}

#[test]
fn a_failure_stays_within_its_bounds() {
    let failure = |message: &str, details: &str| Failure {
        details: Some(Json::parse(format!("[{details:?}]")).unwrap()),
        ..Failure::new(FailureKind::Permanent, message)
    };
    let redact = |failure| match redact_report(report(Completion::Failed(failure)), &used(), &limits(1)).completion {
        Completion::Failed(failure) => failure,
        other => panic!("{other:?}"),
    };
    assert_eq!(redact(failure("it is S3cret", "S3cret")), failure(&format!("it is {MARK}"), MARK));
    let redacted = redact(failure(&"S3cret".repeat(2_000), &"S3cret".repeat(10_000)));
    assert!(redacted.is_within_bounds() && !redacted.message.contains("S3c"), "{redacted:?}");
    assert_eq!(redacted.details, None);
}

//! Tests the settings as a whole.

use flow::LimitOverrides;

use super::*;

#[test]
fn an_unreadable_setting_is_named_with_its_file_and_line() {
    let error = parse("[worker]\nslots = 2\n\n[limits]\nmemroy = \"\"\n", "/etc/w.toml").expect_err("it is wrong");
    let text = format!("{error:?}");
    assert!(text.contains("the settings in /etc/w.toml, line 5, column 1 cannot be read: there is no limit"), "{text}");
}

#[test]
fn the_default_maximum_is_that_of_the_library() {
    let written = parse(DEFAULT, "the built-in settings").ok().unwrap();
    assert_eq!(written.limits.call, LimitOverrides::from(Limits::maximum()), "default.toml names each limit");
    assert!({ written.limits }.entries().all(|(_, limit)| limit.is_set()), "default.toml names each limit");
    let mut parser = Parser::default();
    assert_eq!(parser.limits(&written.limits.call), Limits::maximum());
    assert_eq!(parser.limits_beside_calls(&written.limits), LibraryLimits::default());
    assert_eq!(written.limits.open_runs(), None);
    assert_eq!(parser.errors, Vec::<String>::new());
}

#[test]
fn the_delivery_limit_of_a_worker_is_read_and_checked() {
    let limit = |text: &str| {
        let written = parse(text, "w.toml").ok().unwrap().or(parse(DEFAULT, "the built-in settings").ok().unwrap());
        let mut parser = Parser::default();
        let limit = parser.delivery_limit("worker.delivery_limit", written.worker.delivery_limit);
        (limit.get(), parser.errors)
    };
    let worker = |limit: &str| format!("[worker]\ndelivery_limit = {limit}\n");
    assert_eq!(limit(""), (5, Vec::new()));
    for (text, valid) in [("1", 1), ("7", 7), ("50", 50)] {
        assert_eq!(limit(&worker(text)), (valid, Vec::new()));
    }
    for invalid in ["0", "51"] {
        let (_, errors) = limit(&worker(invalid));
        assert_eq!(errors, [format!("worker.delivery_limit: {invalid} is not a number from 1 to 50")]);
    }
    for unreadable in ["-1", "\"7\"", "1.5"] {
        assert!(parse(&worker(unreadable), "w.toml").is_err(), "{unreadable}");
    }
}

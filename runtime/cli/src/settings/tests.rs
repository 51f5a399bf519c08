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

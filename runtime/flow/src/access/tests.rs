//! Tests of patterns and targets of requests, of networks, and of what grants allow to which calls.

use std::net::IpAddr;

use super::*;
use crate::{Digest, FlowName, NodeName};

fn pattern(text: &str) -> HttpPattern {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn target(text: &str) -> Result<HttpTarget, InvalidHttpTarget> {
    let (method, address) = text.split_once(' ').unwrap();
    let (scheme, rest) = address.split_once("://").unwrap();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    HttpTarget::new(method, scheme, authority, path)
}

#[track_caller]
fn assert_matches(text: &str, matching: &[&str], others: &[&str]) {
    let pattern = pattern(text);
    for request in matching {
        let target = target(request).unwrap_or_else(|error| panic!("{request}: {error}"));
        assert!(pattern.matches(&target), "{text} does not match {request}");
    }
    for request in others {
        assert!(!target(request).is_ok_and(|target| pattern.matches(&target)), "{text} matches {request}");
    }
}

#[test]
fn a_pattern_matches_method_scheme_host_port_and_path() {
    assert_matches(
        "PUT https://lb.example.com/v1/pools/*",
        &[
            "PUT https://lb.example.com/v1/pools/a",
            "PUT https://lb.example.com:443/v1/pools/a?secret=1#part",
            "PUT https://LB.Example.COM./v1/pools/a.b%20c",
            "PUT https://lb.example.com/v0/../v1/pools/a",
            "PUT https://lb.example.com/v1/pools/x/%2e%2e/a",
        ],
        &[
            "GET https://lb.example.com/v1/pools/a",
            "put https://lb.example.com/v1/pools/a",
            "PUT http://lb.example.com/v1/pools/a",
            "PUT https://lb.example.com:444/v1/pools/a",
            "PUT https://lb.example.com/v1/pools",
            "PUT https://lb.example.com/v1/pools/",
            "PUT https://lb.example.com/v1/pools/a/b",
            "PUT https://lb.example.com/v1/pools/a%2fb",
            "PUT https://lb.example.com/v1/pools/a%5Cb",
            "PUT https://lb.example.com/v1/pools/../admin",
            "PUT https://lb.example.com/V1/pools/a",
            "PUT https://lb.example.com.evil.example/v1/pools/a",
            "PUT https://evil.example/lb.example.com/v1/pools/a",
            "PUT https://lb.example.com@evil.example/v1/pools/a",
            "PUT https://user:pw@lb.example.com/v1/pools/a",
            "PUT https://lb\u{ff0e}evil.example/v1/pools/a",
        ],
    );
}

#[test]
fn several_methods_and_open_paths() {
    assert_matches(
        "GET,DELETE http://api.example:8080/v1/**",
        &[
            "GET http://api.example:8080/v1/",
            "DELETE http://api.example:8080/v1/a/b/c",
            "GET http://api.example:8080/v1/group%2Fproject/x",
        ],
        &[
            "POST http://api.example:8080/v1/a",
            "GET http://api.example:8080/v1",
            "GET http://api.example:8080/v1x/a",
            "GET http://api.example:8080/v1/a%2f..%2f..%2fadmin",
            "GET http://api.example:8080/v1/a%2f%2e%2E%5cadmin",
            "GET http://api.example:8080/v1/..;/admin",
            "GET http://api.example:8080/v1/%2e%2e;x=1/admin",
            "GET http://api.example:8080/v1/..%3bx/admin",
            "GET http://api.example:8080/v1/%252e%252e/admin",
            "GET http://api.example:8080/v1/a%252f..%252fadmin",
            "GET http://api.example/v1/a",
        ],
    );
    let never = ["trace https://a.example/", "Connect https://a.example/"];
    assert_matches("* https://a.example/**", &["BREW https://a.example/", "GET https://a.example/x/y"], &never);
    assert_matches(
        "GET https://a.example/group%2Fproject/*",
        &["GET https://a.example/group%2Fproject/x"],
        &["GET https://a.example/group/project/x", "GET https://a.example/group%2fproject/x"],
    );
    assert_matches(
        "GET https://a.example/",
        &["GET https://a.example", "GET https://a.example/?q"],
        &["GET https://a.example/x"],
    );
    assert_matches(
        "GET https://a.example/v*/x-*-y-*",
        &["GET https://a.example/v1/x-1-y-2", "GET https://a.example/v/x--y-"],
        &["GET https://a.example/v1/x-1-y", "GET https://a.example/1/x-1-y-2", "GET https://a.example/v1/x-1/-y-2"],
    );
}

#[test]
fn hosts_have_many_forms() {
    assert_matches(
        "GET https://*.example.com/**",
        &["GET https://a.example.com/", "GET https://a.b.EXAMPLE.com./x"],
        &[
            "GET https://example.com/",
            "GET https://.example.com/",
            "GET https://evilexample.com/",
            "GET https://1.2.3.4/",
        ],
    );
    assert_matches(
        "GET https://b\u{fc}cher.example/*",
        &["GET https://xn--bcher-kva.example/a", "GET https://B\u{dc}CHER.example/a"],
        &["GET https://bucher.example/a"],
    );
    for request in
        ["http://127.0.0.1/", "http://0x7f.1/", "http://2130706433/", "http://0177.0.0.1/", "http://[::ffff:7f00:1]/"]
    {
        assert_matches("GET http://127.0.0.1/", &[&format!("GET {request}")], &[]);
        assert_matches("GET http://*/", &[&format!("GET {request}")], &[]);
        assert_eq!(target(&format!("GET {request}")).unwrap().address(), Some([127, 0, 0, 1].into()));
    }
    assert_matches(
        "GET http://[0:0::1]:81/",
        &["GET http://[::1]:81/"],
        &["GET http://[::2]:81/", "GET http://[::1]/"],
    );
    for invalid in [
        "GET http:///a",
        "GET http://a b/",
        "GET http://[::1/",
        "GET http://a:b/",
        "GET ftp://a/",
        "GET http://1.2.3.400/",
    ] {
        assert!(target(invalid).is_err(), "{invalid} passed");
    }
}

#[test]
fn a_pattern_is_written_as_it_is_read() {
    for text in [
        "GET https://a.example/",
        "* http://*:81/**",
        "GET,PUT https://*.example.com/a/*/b*c/**",
        "POST http://10.0.0.1/x",
        "GET http://[::1]:8080/x",
    ] {
        assert_eq!(pattern(text).to_string(), text);
        assert_eq!(pattern(&pattern(text).to_string()), pattern(text));
    }
    assert_eq!(pattern("PUT,GET https://A.example:443/").to_string(), "GET,PUT https://a.example/");
    assert_eq!(pattern("GET http://[::ffff:1.2.3.4]/").to_string(), "GET http://1.2.3.4/");
}

#[test]
fn a_text_that_is_no_pattern_is_refused_with_what_to_write() {
    for (text, expected) in [
        ("https://a.example/", "it has no method: write \"GET https://example.com/v1/**\""),
        ("get https://a.example/", "\"get\" is no method: write one such as GET, several as GET,PUT, or * for any"),
        ("GET, PUT https://a.example/", "\"\" is no method: write one such as GET, several as GET,PUT, or * for any"),
        ("TRACE https://a.example/", "the method TRACE is never allowed"),
        (
            "GET a.example/x",
            "its address is invalid (relative URL without a base): write \"GET https://example.com/v1/**\"",
        ),
        ("GET ftp://a.example/", "its scheme is \"ftp\": write http or https"),
        ("GET https://u:p@a.example/", "its address has a name or a password: a pattern has none"),
        ("GET https://a.example/?x=1", "its address has a query or a fragment: a pattern says nothing of them"),
        ("GET https://a.example", "its address has no path: write https://a.example/** for all paths"),
        ("GET https://a.example/b/../c", "its path is sent as \"/c\": write that"),
        ("GET https://a.example/b c", "its path is sent as \"/b%20c\": write that"),
        ("GET https://a.example/**/x", "`**` stands for the rest of a path: write it at the end, after a slash"),
        ("GET https://a.example/x**", "`**` stands for the rest of a path: write it at the end, after a slash"),
        (
            "GET https://a.*.example/",
            "its host is \"a.*.example\": write a name, *.example.com for the subdomains of a name, or * for any",
        ),
    ] {
        let error = text.parse::<HttpPattern>().unwrap_err();
        assert_eq!(error.reason, expected, "{text}");
        assert_eq!(error.to_string(), format!("{text:?} is no pattern of HTTP requests: {expected}"));
    }
    for long in [format!("a.example/{}", "x".repeat(3_000)), format!("{}a/", "\u{fc}.".repeat(600))] {
        let error = format!("GET https://{long}").parse::<HttpPattern>().unwrap_err();
        assert_eq!(error.reason, "it is longer than 2000 bytes");
    }
    for empty_label in ["a..", "a..b", "*.a..", "*..a"] {
        assert!(format!("GET https://{empty_label}/").parse::<HttpPattern>().is_err(), "{empty_label}");
    }
}

#[test]
fn a_pattern_covers_narrower_ones() {
    let covers = |one: &str, other: &str| pattern(one).covers(&pattern(other));
    for (wide, narrow) in [
        ("* https://*/**", "GET,PUT https://a.example/v1/**"),
        ("GET,PUT https://a.example/v1/**", "PUT https://a.example/v1/pools/*"),
        ("PUT https://*.example/**", "PUT https://*.a.example/x"),
        ("PUT https://a.example/v*", "PUT https://a.example/v1*"),
        ("PUT https://a.example/*/x", "PUT https://a.example/*/x"),
        ("PUT https://a.example/**", "PUT https://a.example/**"),
        ("PUT https://a.example/**", "PUT https://a.example/*/**"),
    ] {
        assert!(covers(wide, narrow), "{wide} does not cover {narrow}");
        assert!(pattern(wide).may_overlap(&pattern(narrow)));
        assert!(wide == narrow || !covers(narrow, wide), "{narrow} covers {wide}");
    }
    for (one, other) in [
        ("GET https://a.example/**", "* https://a.example/"),
        ("GET https://a.example/*/**", "GET https://a.example/**"),
        ("GET https://a.example/*", "GET https://a.example/**"),
        ("GET https://a.example/*/*", "GET https://a.example/**"),
        ("GET https://a.example/a/**", "GET https://a.example/**"),
        ("GET http://a.example/**", "GET https://a.example/"),
        ("GET https://a.example:1/**", "GET https://a.example/"),
        ("GET https://*.a.example/**", "GET https://a.example/"),
    ] {
        assert!(!covers(one, other), "{one} covers {other}");
    }
}

#[test]
fn addresses_of_special_purposes_are_not_public() {
    for address in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.2",
        "169.254.169.254",
        "172.31.255.255",
        "192.0.0.8",
        "192.168.0.1",
        "198.19.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "::10.0.0.1",
        "64:ff9b::a00:1",
        "fc00::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001::1",
        "2001:db8::1",
        "2002:a00:1::1",
        "3fff::1",
    ] {
        assert!(!is_public(address.parse().unwrap()), "{address} is public");
    }
    for address in ["1.1.1.1", "93.184.216.34", "172.32.0.1", "::ffff:8.8.8.8", "2606:4700::1111", "2a00:1450::1"] {
        assert!(is_public(address.parse().unwrap()), "{address} is not public");
    }
}

#[test]
fn a_network_is_a_range_or_one_address() {
    let network = |text: &str| text.parse::<Network>().unwrap();
    assert_eq!(network("10.9.0.0/8").to_string(), "10.0.0.0/8");
    assert_eq!(network("10.9.0.1").to_string(), "10.9.0.1");
    assert!(network("10.0.0.0/8").contains("::ffff:10.1.2.3".parse().unwrap()));
    assert!(!network("10.0.0.0/8").contains("11.0.0.0".parse().unwrap()));
    assert!(network("fd00::/8").contains("fd12::1".parse().unwrap()));
    for bad in ["::ffff:10.0.0.0/104", "", "10.0.0.0/33", "a.example", "10.0.0", "::/129"] {
        assert!(bad.parse::<Network>().is_err(), "{bad:?} passed");
    }
}

fn access(patterns: &[&str]) -> Access {
    Access { http: patterns.iter().map(|text| pattern(text)).collect(), ..Access::default() }
}

/// What a call of a task may do, in the words of the denials.
fn call(grants: &[Grant], asked: &Access, flow: &str, task: &str) -> CallAccess {
    let (flow, task): (FlowName, NodeName) = (flow.parse().unwrap(), task.parse().unwrap());
    Grants(grants.to_vec()).of_call(asked, &flow, &task, &Digest::from_bytes([1; 32]))
}

#[test]
fn only_what_flow_and_operator_name_is_allowed() {
    let asked = access(&["GET,PUT https://a.example/**"]);
    let grant = Grant { access: access(&["PUT,POST https://*.example/v1/*"]), ..Grant::default() };
    let call = call(&[grant], &asked, "f", "t");
    let check = |request: &str| call.check_request(&target(request).unwrap()).map_err(|denial| denial.to_string());
    assert_eq!(check("PUT https://a.example/v1/x"), Ok(()));
    let error = check("GET https://a.example/v1/x?token=secret").unwrap_err();
    assert_eq!(
        error,
        "the HTTP request GET https://a.example/v1/x is denied: the flow asks for it, and no [[grant]] in the settings of the \
         worker allows it"
    );
    let error = check("POST https://b.example/v1/x").unwrap_err();
    assert_eq!(
        error,
        "the HTTP request POST https://b.example/v1/x is denied: the flow does not ask for it; let the task say allow = { http \
         = [\"POST https://b.example/v1/x\"] }"
    );
}

#[test]
fn a_grant_is_for_some_calls() {
    let asked = access(&["GET https://a.example/"]);
    let grant = |change: fn(&mut Grant)| {
        let mut grant = Grant { access: asked.clone(), ..Grant::default() };
        change(&mut grant);
        [grant]
    };
    let is_granted = |grant: &[Grant], flow, task| !call(grant, &asked, flow, task).is_empty();
    let any = grant(|_| ());
    assert!(is_granted(&any, "f", "t") && is_granted(&any, "shop/f", "t"));
    assert!(!is_granted(&[], "f", "t"));
    assert!(call(&any, &Access::default(), "f", "t").is_empty(), "the flow asks for nothing");
    let shop = grant(|grant| grant.namespace = Some("shop".parse().unwrap()));
    assert!(is_granted(&shop, "shop/f", "t") && !is_granted(&shop, "bank/f", "t") && !is_granted(&shop, "f", "t"));
    let flow = grant(|grant| grant.flow = Some("shop/f".parse().unwrap()));
    assert!(is_granted(&flow, "shop/f", "t") && !is_granted(&flow, "f", "t") && !is_granted(&flow, "shop/g", "t"));
    let task = grant(|grant| grant.task = Some("t".parse().unwrap()));
    assert!(is_granted(&task, "f", "t") && is_granted(&task, "f", "t[7]") && !is_granted(&task, "f", "u"));
    let module = grant(|grant| grant.module = Some(Digest::from_bytes([1; 32])));
    let other = grant(|grant| grant.module = Some(Digest::from_bytes([2; 32])));
    assert!(is_granted(&module, "f", "t") && !is_granted(&other, "f", "t"));
    let signed = grant(|grant| grant.signer = Some(SignerKey("ci".into())));
    let by = |signer: &str| Grants(signed.to_vec()).with_signers(|key| key.0 == signer).0;
    assert!(!is_granted(&signed, "f", "t"), "nobody has decided who signed it");
    assert!(is_granted(&by("ci"), "f", "t") && !is_granted(&by("other"), "f", "t"));
}

#[test]
fn the_parts_of_a_question_are_those_of_a_call() {
    let asked = Access {
        http: access(&["GET https://a.example/**", "GET https://b.example/**"]).http,
        sockets: ["a.example:1".parse().unwrap()].into(),
        secrets: ["KEY".parse().unwrap()].into(),
        config: ["c".parse().unwrap()].into(),
        variables: ["V".parse().unwrap()].into(),
        directories: [("d".parse().unwrap(), DirectoryUse::Write)].into(),
        arguments: vec!["a".into()],
        clock: true,
        random: true,
        record: Recording::None,
        memo: None,
    };
    let grants = [
        Grant { access: access(&["GET https://a.example/x"]), ..Grant::default() },
        Grant { config: [("c".parse().unwrap(), "1".into())].into(), ..Grant::default() },
        Grant {
            signer: Some(SignerKey("ci".into())),
            access: Access { clock: true, ..access(&["GET https://a.example/**"]) },
            directories: [("d".parse().unwrap(), GrantedDirectory { path: "/d".into(), max_bytes: None })].into(),
            ..Grant::default()
        },
        Grant { namespace: Some("other".parse().unwrap()), access: asked.clone(), ..Grant::default() },
    ];
    let (flow, task, module) = ("f".parse().unwrap(), "t".parse().unwrap(), Digest::from_bytes([1; 32]));
    for has_signed in [false, true] {
        let grants = Grants(grants.to_vec());
        let parts = grants.granted_parts(&asked, &flow, (&task, &module), |_| has_signed);
        let call = grants.with_signers(|_| has_signed).of_call(&asked, &flow, &task, &module).granted_parts();
        assert_eq!(parts, call.iter().map(|(_, part)| *part).collect::<Vec<_>>());
        // The same as one part after the other.
        let alone = asked.parts().map(|part| grants.granted_parts(&part, &flow, (&task, &module), |_| has_signed));
        assert_eq!(parts, alone.flatten().collect::<Vec<_>>());
        let (some, none) = (GrantedPart::Some, GrantedPart::None);
        let [first, clock, directory] =
            if has_signed { [GrantedPart::All, GrantedPart::All, some] } else { [some, none, none] };
        assert_eq!(parts, [first, none, none, none, GrantedPart::All, none, directory, clock, none]);
        let texts =
            ["http GET https://a.example/**", "http GET https://b.example/**", "socket a.example:1", "secret KEY"];
        let texts = [&texts[..], &["config c", "env V", "dir d to write", "clock", "random"]].concat();
        assert_eq!(call.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(), texts);
        assert_eq!(asked.count_parts(), texts.len());
    }
}

#[test]
fn private_addresses_have_to_be_named() {
    let asked = access(&["GET http://*/**"]);
    let granted = |patterns: &[&str], networks: &[&str]| {
        let networks = networks.iter().map(|text| text.parse().unwrap()).collect();
        [Grant { access: access(patterns), networks, ..Grant::default() }]
    };
    let reaches = |grants: &[Grant], request: &str, address: &str| {
        let (call, target) = (call(grants, &asked, "f", "t"), target(request).unwrap());
        let address: IpAddr = address.parse().unwrap();
        let is_reached = call.check_request(&target).map(|()| call.reach(&target).contains(address));
        is_reached.map_err(|denial| denial.to_string())
    };
    let any = granted(&["GET http://*/**"], &[]);
    assert_eq!(reaches(&any, "GET http://a.example/", "1.1.1.1"), Ok(true));
    assert_eq!(reaches(&any, "GET http://a.example/", "169.254.169.254"), Ok(false));
    assert_eq!(
        reaches(&any, "GET http://10.0.0.1/", "10.0.0.1").unwrap_err(),
        "the HTTP request GET http://10.0.0.1/ is denied: the host has the address 10.0.0.1, which is not public; an operator \
         allows it with networks = [\"10.0.0.1\"] in the [[grant]]"
    );
    assert_eq!(reaches(&any, "GET http://localhost/", "127.0.0.1"), Ok(false));
    let named = granted(&["GET http://*/**", "GET http://10.0.0.1/**", "GET http://localhost/**"], &[]);
    assert_eq!(reaches(&named, "GET http://10.0.0.1/", "10.0.0.1"), Ok(true));
    assert_eq!(reaches(&named, "GET http://localhost/", "::1"), Ok(true));
    assert_eq!(reaches(&named, "GET http://a.example/", "10.0.0.1"), Ok(false), "another name for it");
    assert_eq!(reaches(&named, "GET http://localhost/", "10.0.0.1"), Ok(false), "localhost is this machine");
    let network = granted(&["GET http://*/**"], &["10.0.0.0/8"]);
    assert_eq!(reaches(&network, "GET http://a.example/", "10.1.1.1"), Ok(true));
    assert_eq!(reaches(&network, "GET http://a.example/", "127.0.0.1"), Ok(false));
}

#[test]
fn a_connection_has_a_host_and_a_port() {
    let shown = |text: &str| text.parse::<SocketPattern>().map(|pattern| pattern.to_string());
    for (text, expected) in [
        ("db.example.com:5432", "db.example.com:5432"),
        ("DB.Example.com.:05432", "db.example.com:5432"),
        ("*.example.com:1", "*.example.com:1"),
        ("*:65535", "*:65535"),
        ("0x7f.1:80", "127.0.0.1:80"),
        ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
        ("[0:0::1]:80", "[::1]:80"),
    ] {
        assert_eq!(shown(text), Ok(expected.to_owned()));
    }
    for bad in
        ["", "db.example.com", "db.example.com:", "db:0", "db:65536", "db:+1", "a*b:1", "::1:80", "a..b:1", ":80"]
    {
        assert!(shown(bad).is_err(), "{bad:?} passed");
    }
    assert!(shown(&format!("{}:1", "a".repeat(400))).is_err());
}

#[test]
fn a_connection_needs_flow_and_operator_and_a_named_network() {
    let sockets = |texts: &[&str]| Access {
        sockets: texts.iter().map(|text| text.parse().unwrap()).collect(),
        ..Access::default()
    };
    let asked = sockets(&["db.example:5432", "10.0.0.1:1", "*.inner:1"]);
    let grants = [
        Grant { access: sockets(&["db.example:5432", "10.0.0.1:1"]), ..Grant::default() },
        Grant { access: sockets(&["*.inner:1"]), networks: vec!["10.0.0.0/8".parse().unwrap()], ..Grant::default() },
    ];
    let call = call(&grants, &asked, "f", "t");
    let connect = |address: &str, names: &[&str]| {
        let names: Vec<SocketHost> = names.iter().map(|name| SocketHost::parse(name).unwrap()).collect();
        call.check_connect(address.parse().unwrap(), &names).map_err(|denial| denial.to_string())
    };
    assert_eq!(connect("1.1.1.1:5432", &["db.example"]), Ok(()));
    assert_eq!(connect("[::ffff:10.0.0.1]:1", &[]), Ok(()), "an address that a pattern names");
    assert_eq!(connect("10.9.9.9:1", &["a.inner"]), Ok(()), "a network of the table");
    for (address, names, expected) in [
        ("1.1.1.1:5432", &[][..], "the TCP connection to 1.1.1.1:5432 is denied: the flow does not ask for it"),
        (
            "1.1.1.1:5433",
            &["db.example"],
            "the TCP connection to db.example:5433 is denied: the flow does not ask for it",
        ),
        (
            "10.0.0.1:5432",
            &["db.example"],
            "the TCP connection to db.example:5432 is denied: the host has the address 10.0.0.1",
        ),
        ("127.0.0.1:1", &["a.inner"], "the TCP connection to a.inner:1 is denied: the host has the address 127.0.0.1"),
    ] {
        let error = connect(address, names).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    let lookup = |name: &str| call.check_lookup(&SocketHost::parse(name).unwrap()).map_err(|denial| denial.to_string());
    assert_eq!(lookup("DB.example."), Ok(()));
    let error = lookup("other.example").unwrap_err();
    assert!(
        error.starts_with("the lookup of the host other.example is denied: the flow does not ask for it"),
        "{error}"
    );
    assert!(SocketHost::parse(&"a".repeat(400)).is_none() && SocketHost::parse("a b").is_none());
    let parts = call.granted_parts();
    let expected = ["*.inner:1", "10.0.0.1:1", "db.example:5432"];
    assert_eq!(parts.len(), expected.len());
    for text in expected {
        assert!(parts.contains(&(format!("socket {text}"), GrantedPart::All)), "{parts:?}");
    }
    let other_port = Grant { access: sockets(&["*:5432", "10.0.0.1:80"]), ..Grant::default() };
    let parts = self::call(&[other_port], &sockets(&["10.0.0.1:5432"]), "f", "t").granted_parts();
    assert_eq!(parts[0].1, GrantedPart::None, "the address is named for another port");
}

//! Tests of conditions over values: decided ones, undecidable ones, and those refused when parsed.

use super::*;

fn decide(text: &str, values: &[(&str, &str)]) -> Result<bool, String> {
    let condition = Condition::new(text).map_err(|error| error.to_string())?;
    let values: BTreeMap<ValueName, Value> = values
        .iter()
        .map(|(name, json)| (name.parse().unwrap(), Value::Json(crate::Json::parse(*json).unwrap())))
        .collect();
    let borrowed = values.iter().map(|(name, value)| (name.clone(), value)).collect();
    condition.evaluate(&borrowed).map_err(|error| error.to_string())
}

#[test]
fn conditions_compare_json_values() {
    let pan = ("pan", r#"{"size": 32, "colour": "red", "price": 9.5, "lids": [1, 2]}"#);
    for (text, expected) in [
        ("pan.size > 30", true),
        ("pan.size + 1 == 33", true),
        ("pan.price < 10.0", true),
        ("pan.colour in ['red', 'blue'] && !(pan.size < 30)", true),
        ("size(pan.lids) == 3", false),
        ("pan.lids.exists(lid, lid > 1)", true),
        ("size(pan.lids.filter(lid, lid > 1)) == 1", true),
        ("pan.lids.map(lid, lid * 2) == [2, 4]", true),
        ("has(pan.handle) && pan.handle", false),
        ("pan['size'] == 32", true),
        ("true", true),
    ] {
        assert_eq!(decide(text, &[pan]), Ok(expected), "{text}");
    }
}

#[test]
fn a_condition_that_cannot_be_evaluated_reports_why() {
    let pan = ("pan", r#"{"size": "large"}"#);
    for (text, expected) in [
        ("pan.size > 30", "condition `pan.size > 30` cannot be decided: "),
        ("pan.weight > 30", "there is no \"weight\""),
        ("lid.size > 30", "there is no \"lid\""),
        ("pan.size", "yielded a text, and not true or false"),
    ] {
        let error = decide(text, &[pan]).expect_err(text);
        assert!(error.contains(expected), "{error}");
    }
    let stored = Value::Stored(crate::Stored {
        digest: crate::Digest::from_bytes([1; 32]),
        size: 70_000,
        form: crate::ValueKind::Json,
    });
    let condition = Condition::new("pan.size > 30").unwrap();
    let error = condition.evaluate(&BTreeMap::from([("pan".parse().unwrap(), &stored)])).unwrap_err().to_string();
    assert!(error.contains("reads \"pan\", which is too large to be read"), "{error}");
}

#[test]
fn an_invalid_condition_is_rejected_before_evaluation() {
    for (text, expected) in [
        ("pan.size >", "it is not CEL, "),
        ("", "it is not CEL, "),
        ("3", "it yields a whole number"),
        ("pan.size + 1", "it yields a whole number"),
        ("'yes'", "it yields a text"),
        ("pan ? 1 : 2", "it yields a whole number"),
        ("[1]", "it yields a list"),
        ("a.all(x, a.all(y, x == y))", "loops (all, exists, map, filter) must not be nested"),
        ("size(a.map(x, a.filter(y, x == y))) > 1", "loops (all, exists, map, filter)"),
        ("size(a.map(x, a + a)) > 1", "its loops do too much"),
        ("a.exists(x, x in a) && a.exists(x, x > 1) && a.exists(x, x > 2)", "its loops do too much"),
    ] {
        let error = decide(text, &[]).expect_err(text);
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn a_search_in_a_loop_is_rejected_unless_the_loop_owns_the_searched_value() {
    for (text, operation) in [
        ("a.exists(x, x in b)", "in"),
        ("a.all(x, x > 1 || !(x in b.c))", "in"),
        ("a.exists_one(x, x in a)", "in"),
        ("size(a.map(x, x in b[x])) > 1", "in"),
        ("size(a.filter(x, x in (x ? b : [1]))) > 1", "in"),
        ("a.exists(x, b.contains(x))", "contains"),
        ("a.exists(x, b.startsWith(x))", "startsWith"),
        ("a.exists(x, string(b).endsWith(x))", "endsWith"),
        ("a.exists(x, x in [1, b])", "in"),
        ("a.filter(x, x in b).exists(y, y > 1)", "in"),
    ] {
        let expected = InvalidCondition::SearchInLoop { operation: operation.into() };
        assert_eq!(Condition::new(text), Err(expected.clone()), "{text}");
        assert!(expected.to_string().contains(&format!("as `{operation}` does: search its own element")));
        assert!(Condition::from_record(text).is_ok(), "a record of an earlier build stays readable: {text}");
    }
    for (text, reason) in [("a >", "it is not CEL"), ("a.exists(x, a.exists(y, x == y))", "must not be nested")] {
        assert!(Condition::new(text).is_err(), "{text}");
        let recorded = Condition::from_record(text).expect("reading a record parses no condition");
        let error = recorded.evaluate(&BTreeMap::new()).expect_err(text).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let too_long = "a".repeat(MAX_LEN + 1);
    assert_eq!(Condition::from_record(&too_long), Err(InvalidCondition::TooLong { length: too_long.len() }));
    for text in [
        "a.exists(x, x in [1, 2])",
        "a.exists(x, 1 in x)",
        "a.exists(x, b in x.c)",
        "a.exists(x, x.c[b].contains('d'))",
        "a.exists(x, string(x).startsWith(b))",
        "a.exists(x, 'abc'.contains(x))",
        "1 in b && b.c.contains('d') && a.exists(x, x == b)",
        "a.exists(x, x > 1) && 1 in a",
        "1 in a.map(x, x * 2)",
    ] {
        assert!(Condition::new(text).is_ok(), "{text}: {:?}", Condition::new(text));
    }
}

/// A list of as many ones as a condition with a loop may read.
fn longest_list() -> String {
    format!("[{}]", vec!["1"; 2_040].join(","))
}

#[test]
fn a_condition_that_would_take_too_long_is_an_evaluation_error() {
    let list = longest_list();
    let values = [("l", &*list), ("m", &*list)];
    let repeated = |part: &str, times: usize| vec![part; times].join("||");
    for text in [
        format!("l.exists(x, {})", repeated("x in m", 100)),
        "l.exists(x, x in m)".to_owned(),
        "l.exists(x, m == m)".to_owned(),
        "l.exists(x, m[0.5] == x)".to_owned(),
        "m in l.map(x, m)".to_owned(),
        "l.map(x, m) == l.map(x, m)".to_owned(),
        "size(l.map(x, [m, m, m, m])) == 1".to_owned(),
        "l.map(x, m).exists(y, y == m)".to_owned(),
        format!("l.exists(x, {})", repeated("x>2", 190)),
        format!("l.exists(x, x[0]{} == 1)", ".b".repeat(450)),
    ] {
        // As in a record of an earlier build.
        let condition = Condition::from_record(&text).unwrap();
        let values: Vec<(ValueName, Value)> = values
            .iter()
            .map(|(name, json)| (name.parse().unwrap(), Value::Json(crate::Json::parse(*json).unwrap())))
            .collect();
        let values = values.iter().map(|(name, value)| (name.clone(), value)).collect();
        let mut budget = EvaluationBudget::default();
        let error = condition.evaluate_within(&values, &mut budget).expect_err(&text).to_string();
        assert!(error.contains("` would take too long: it takes up to ") && error.contains("shorter lists"), "{error}");
        assert!(budget.spent() >= 10_000, "its values were read: {text}");
    }
    for text in [
        "l.all(x, x == 1) && m.exists(x, x > 0 && x < 2 && x != 3)",
        "size(l.filter(x, x in [1, 2, 3])) == 2040",
        "l.map(x, x * 2) != m && l == m && 1 in m",
    ] {
        assert_eq!(decide(text, &values), Ok(true), "{text}");
    }
}

#[test]
fn conditions_evaluated_together_share_one_budget() {
    let count_evaluated = |text: &str, json: &str| {
        let value = Value::Json(crate::Json::parse(json).unwrap());
        let values = BTreeMap::from([("l".parse().unwrap(), &value)]);
        let condition = Condition::new(text).unwrap();
        let mut budget = EvaluationBudget::default();
        let evaluated = (0..5_000).take_while(|_| condition.evaluate_within(&values, &mut budget).is_ok()).count();
        let refused = condition.evaluate_within(&values, &mut budget).unwrap_err().to_string();
        assert!(
            refused.contains("would take too long") && refused.contains("for all conditions of its target"),
            "{refused}"
        );
        assert_eq!(condition.evaluate(&values), Ok(true), "it fits into a budget of its own");
        evaluated
    };
    let short = count_evaluated("l.status == 'ok' && l.size > 30", r#"{"status": "ok", "size": 32}"#);
    assert!((1_000..3_000).contains(&short), "{short}");
    let long = format!(r#"{{"status": "ok", "log": "{}"}}"#, "x".repeat(60 << 10));
    let long = count_evaluated("l.status == 'ok'", &long);
    assert!((200..1_000).contains(&long), "{long}");
    let looping = count_evaluated("l.exists(x, x > 0)", &longest_list());
    assert!((10..100).contains(&looping), "{looping}");
}

#[test]
fn a_malicious_condition_is_rejected() {
    let deep = ["(".repeat(400) + "true" + &")".repeat(400), "[".repeat(450), "-".repeat(999)];
    for text in deep.iter().chain(&["a".repeat(1_001)]) {
        assert!(Condition::new(text).is_err(), "{} bytes", text.len());
    }
    for text in [
        "a".to_owned() + &" + 1".repeat(240) + " > 0",
        "a".to_owned() + &".b".repeat(450) + " == 1",
        "!".repeat(999) + "a",
    ] {
        // Whatever the result, nothing may crash.
        let _ = decide(&text, &[("a", "1")]);
    }
    let chained = "a ? true : ".repeat(80) + "false";
    let _ = decide(&chained, &[("a", "true")]);
}

#[test]
fn a_condition_lists_the_variables_it_reads() {
    let condition = Condition::new("pan.lids.all(lid, lid > least) && pan.size > 3").unwrap();
    assert_eq!(condition.variables(), ["least".to_owned(), "pan".to_owned()].into());
}

#[test]
fn a_value_that_cel_cannot_represent_is_an_evaluation_error() {
    let deep = format!("{}1{}", "[".repeat(128), "]".repeat(128));
    for (json, expected) in [
        (deep.as_str(), "recursion limit exceeded"),
        ("1e400", "number out of range"),
        ("{\"a\": [-1e400]}", "number out of range"),
    ] {
        for text in ["pan != 'x'", "pan == 'x'", "size(pan) > 1"] {
            let error = decide(text, &[("pan", json)]).expect_err(json);
            let reads = "reads \"pan\", which is JSON that a condition cannot read: ";
            assert!(error.contains(reads) && error.contains(expected), "{error}");
        }
    }
    assert_eq!(decide("pan > 1e300", &[("pan", "1e308")]), Ok(true));
    assert_eq!(decide("pan > 9223372036854775807u", &[("pan", "18446744073709551615")]), Ok(true));
}

/// All functions and macros named in CEL's own documents or its extensions.
const OF_CEL: [&str; 60] = [
    "abs",
    "all",
    "bool",
    "bytes",
    "ceil",
    "charAt",
    "contains",
    "distinct",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "exists",
    "exists_one",
    "filter",
    "first",
    "flatten",
    "floor",
    "format",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "greatest",
    "has",
    "indexOf",
    "int",
    "isFinite",
    "isNaN",
    "join",
    "last",
    "lastIndexOf",
    "least",
    "lowerAscii",
    "map",
    "matches",
    "max",
    "min",
    "quote",
    "replace",
    "reverse",
    "round",
    "sign",
    "size",
    "slice",
    "sort",
    "split",
    "startsWith",
    "string",
    "substring",
    "timestamp",
    "trim",
    "uint",
    "upperAscii",
];

#[test]
fn an_unsupported_function_is_rejected_before_evaluation() {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for name in OF_CEL {
        let forms = [
            format!("{name}(a) == b"),
            format!("{name}(a, b) == b"),
            format!("{name}(a.b)"),
            format!("a.{name}() == b"),
            format!("a.{name}(b) == b"),
            format!("a.{name}(b, b) != c"),
        ];
        let is_known = forms.iter().any(|form| Condition::new(form).is_ok());
        if is_known {
            known.push(name)
        } else {
            unknown.push(name)
        }
        for form in forms {
            let errors = match Condition::new(&form) {
                // An accepted condition fails only because of values: CEL knows the function.
                Ok(condition) => {
                    let one = Value::json(&1.into());
                    let values = ["a", "b", "c"].map(|name| (name.parse().unwrap(), &one));
                    let error = condition.evaluate(&values.into()).err();
                    error.map_or_else(String::new, |error| error.to_string())
                }
                Err(_) => String::new(),
            };
            assert!(!errors.contains(&format!("there is no {name:?}")), "{form}: {errors}");
        }
    }
    let names: Vec<&str> = types::FUNCTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(known, names, "messages and docs/links.md name exactly the supported functions");
    assert!(unknown.contains(&"max") && unknown.contains(&"matches") && unknown.contains(&"timestamp"));
    let page = include_str!("../../../../docs/links.md");
    for (name, form) in types::FUNCTIONS {
        assert!(page.contains(&format!("`{form}`")), "docs/links.md does not describe {name}: {form}");
    }
}

#[test]
fn many_calls_with_unknown_arguments_are_checked_fast() {
    // Each call has hundreds of combinations of types. If each condition tried them all, this test would take minutes.
    let unknown: Vec<String> = (10..85).map(|number| format!("f{number}(x,y,z)")).collect();
    let unknown = unknown.join("||");
    let known =
        ["bool", "bytes", "contains", "double", "dyn", "endsWith", "int", "size", "startsWith", "string", "uint"];
    let known = known.map(|name| format!("{name}(x,y,z)||x.{name}(y,z)||{name}(x,y,z,x)")).join("||");
    for text in [unknown, known] {
        for _ in 0..300 {
            assert!(matches!(Condition::new(&text), Err(InvalidCondition::AlwaysFails { .. })), "{text}");
        }
    }
}

#[test]
fn an_operand_of_the_wrong_type_is_rejected_before_evaluation() {
    for (text, expected) in [
        ("max(a, 3) > 2", "it calls `max`, which does not exist here: did you mean \"map\"?"),
        ("a.matches('x')", "it calls `matches`, which does not exist here: it may call all, bool, "),
        ("a.startWith('x')", "it calls `startWith`, which does not exist here: did you mean \"startsWith\"?"),
        (
            "startsWith(a, 'x')",
            "it calls `startsWith` with anything and a text: write it as text.startsWith(beginning)",
        ),
        ("a.startsWith('x', 'y')", "it calls `startsWith` with anything and a text and a text: write it as "),
        ("size(3) > 2", "it calls `size` with a whole number: write it as size(text, list or object)"),
        ("a.all(x)", "it calls `all` with anything and anything: write it as list.all(x, condition)"),
        ("1 < 'a'", "it has a whole number and a text at `<`: "),
        ("a > 1 + 'b'", "it has a whole number and a text at `+`: "),
        ("!3", "it has a whole number at `!`: compare it with something"),
        ("a && size(b)", "it has a whole number at `&&`, which takes true or false: compare it with something"),
        ("size(b) ? a : c", "it has a whole number at `?`, which takes true or false"),
        ("a in 'abc'", "it has anything and a text at `in`: it looks into a list, or for a key into an object"),
        ("'a'.size.b", "it takes \"size\" of a text: only an object has fields"),
        ("'abc'.exists(x, x == 'a')", "it has a loop over a text: a loop goes over a list"),
        ("a.exists(x, size(x))", "it has a whole number at `||`"),
        ("Pan{size: 1} == a", "it makes a message of type \"Pan\""),
        ("type(a)", "it yields"),
    ] {
        if text == "type(a)" {
            continue;
        }
        let error = decide(text, &[]).expect_err(text);
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn a_condition_that_may_be_valid_for_some_values_is_accepted() {
    for text in [
        "a.b.c > 1 || a.b.c == 'x'",
        "type(a) == type(1) ? a > 1 : a == 'x'",
        "int(a) > 1 && double(a) > 1.0 && string(a) == '1' && bool(b) && uint(c) > 1u && bytes(a) == b'x'",
        "a[0] > 1 && a['x'] == 2 && a[b]",
        "a.map(x, x.y)[0]",
        "a.exists_one(x, x > 1)",
        "a.filter(x, x > 1) == [2]",
        "dyn(1) == 'a'",
        "-a < 3 && a - 1 > 2 && a % 2 == 0 && a * 2.0 > 3.0",
        "a",
        "a ? b : c",
        "{'x': 1}.x == 1",
        "1 == 1.0",
    ] {
        assert!(Condition::new(text).is_ok(), "{text}: {:?}", Condition::new(text));
    }
}

#[test]
fn conditions_are_checked_against_schemas() {
    let schema = crate::Schema::new(
        &crate::Json::parse(
            r##"{"type": "object", "properties": {
                "size": {"type": "integer"}, "price": {"type": "number"}, "colour": {"enum": ["red", "blue"]},
                "lids": {"type": "array", "items": {"type": "string"}}, "handle": {"type": ["string", "null"]},
                "inner": {"$ref": "#/$defs/inner"}
            }, "$defs": {"inner": {"type": "object", "properties": {"inner": {"$ref": "#/$defs/inner"}}}}}"##,
        )
        .unwrap(),
    );
    let check = |text: &str| {
        let condition = Condition::new(text).unwrap();
        let findings = condition.check([("pan".to_owned(), StaticType::of_schema(schema.view()))]);
        let describe = |finding: Finding| {
            format!("{}: {} ({})", if finding.is_error { "error" } else { "warning" }, finding.message, finding.hint)
        };
        findings.into_iter().map(describe).collect::<Vec<_>>().join("; ")
    };
    for text in [
        "pan.size > 30 && pan.price > 3 && pan.price * 2.0 > 1.0",
        "pan.colour == 'red' && pan.lids.exists(lid, lid.startsWith('x')) && pan.handle == null",
        "has(pan.inner.inner.inner) && size(pan.lids) > 1 && pan.lids[0] == 'x' && 'x' in pan.lids",
        "pan.size == 3.0",
    ] {
        assert_eq!(check(text), "", "{text}");
    }
    for (text, expected) in [
        ("pan.size > '30'", "error: has a whole number and a text at `>`"),
        ("pan.size * 1.5 > 3.0", "error: has a whole number and a number at `*`"),
        ("pan.colour > 3", "error: has a text and a whole number at `>`"),
        ("pan.lids.exists(lid, lid > 3)", "error: has a text and a whole number at `>`"),
        ("pan.lids[0] > 3", "error: has a text and a whole number at `>`"),
        ("pan > 3", "error: has an object and a whole number at `>`"),
        ("pan.size.weight > 3", "error: takes \"weight\" of a whole number"),
        ("pan.size == '3'", "warning: compares a whole number to a text: that is never so"),
        (
            "pan.color == 'red'",
            "warning: reads the field \"color\", which is not among those of its object (did you mean \"colour\"?)",
        ),
        (
            "pan.inner.iner == 1",
            "warning: reads the field \"iner\", which is not among those of its object (did you mean \"inner\"?)",
        ),
    ] {
        assert!(check(text).starts_with(expected), "{text}: {}", check(text));
    }
}

//! A condition: parsed, typed, and evaluated over values.

use std::collections::BTreeMap;

use flow::{Condition, StoredReferences, ValueName, Values, ValuesObject};

/// The input is a condition, and the object of the values that it reads.
pub fn run(input: &[u8]) {
    let Some([text, values]) = crate::parts(input) else { return };
    let values = serde_json::from_str::<ValuesObject>(values).ok();
    let values = values.and_then(|values| values.read(StoredReferences::Accept).ok()).unwrap_or_default();
    let written = Condition::new(text);
    if let Err(refused) = &written {
        assert!(!refused.to_string().is_empty());
    }
    let recorded = Condition::from_record(text);
    assert!(written.is_err() || recorded.is_ok(), "a record has a condition that a flow file has");
    if let Ok(condition) = recorded {
        evaluate(&condition, &values);
    }
}

fn evaluate(condition: &Condition, values: &Values) {
    let variables = condition.variables();
    let read: BTreeMap<ValueName, _> = values
        .iter()
        .filter(|(name, _)| variables.contains(name.as_str()))
        .map(|(name, value)| (name.clone(), value))
        .collect();
    let all = values.iter().map(|(name, value)| (name.clone(), value)).collect();
    // Compared as texts: an error of CEL may name another missing value first.
    let [from_all, from_read] = [&all, &read].map(|values| condition.evaluate(values).ok());
    assert_eq!(from_all, from_read, "the values that a condition does not read do not matter");
}

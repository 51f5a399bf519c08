//! JSON and TOML values: what is accepted keeps its meaning, and stays acceptable.

use flow::{Json, StoredReferences, Value, ValuesObject};

/// The input is read as one JSON value, as an object of values, and as the `[inputs]` of a flow file.
pub fn run(input: &[u8]) {
    let Some([text]) = crate::parts(input) else { return };
    value(text);
    object(text);
    inputs(text);
}

fn value(text: &str) {
    let Ok(json) = Json::parse(text) else { return };
    assert_eq!(json.as_str(), text, "a value has the text that was written");
    for element in json.elements().unwrap_or_default() {
        check(&element);
    }
    if let Ok(tree) = json.to_tree() {
        check(&Json::from(&tree));
        assert_eq!(Value::json(&tree).size(), tree.to_string().len());
    }
}

/// What waft has made of valid JSON is valid.
fn check(json: &Json) {
    Json::check(json.as_str()).unwrap_or_else(|error| panic!("{json:?}: {error}"));
}

fn object(text: &str) {
    let Ok(object) = serde_json::from_str::<ValuesObject>(text) else { return };
    if let Ok(values) = object.read(StoredReferences::Reject) {
        assert_eq!(object.read(StoredReferences::Accept).as_ref(), Ok(&values), "a client may not give more");
    }
    let Ok(values) = object.read(StoredReferences::Accept) else { return };
    let written = ValuesObject::from(&values).to_text();
    let again: ValuesObject = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(again.read(StoredReferences::Accept), Ok(values), "no value changes its kind: {written}");
}

fn inputs(text: &str) {
    let draft = flow::file::read(&format!("name = \"f\"\n[inputs]\n{text}"));
    for value in draft.inputs.values() {
        match value {
            Value::Json(json) => check(json),
            Value::Bytes(_) | Value::Stored(_) => panic!("a flow file has only JSON: {value:?}"),
        }
    }
}

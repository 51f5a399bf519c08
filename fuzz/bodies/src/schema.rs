//! A schema of a module, and a value that is compared with it.

use flow::{Json, Schema, Value};

/// The input is a schema and a value.
pub fn run(input: &[u8]) {
    let Some([schema, value]) = crate::parts(input) else { return };
    let Ok(json) = Json::parse(schema) else { return };
    let schema = Schema::new(&json);
    let _ = schema.mismatch(&Value::Bytes(value.as_bytes().into())).map(|mismatch| mismatch.to_string());
    if let Ok(value) = Json::parse(value) {
        let mismatch = schema.mismatch(&Value::Json(value)).map(|mismatch| mismatch.to_string());
        assert_ne!(mismatch.as_deref(), Some(""), "a value is refused for no reason");
    }
}

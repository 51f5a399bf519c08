//! The submission of a run.

use std::collections::BTreeMap;

use flow::{
    Draft, Value,
    file::{WriteError, write},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ValuesObject;
#[cfg(feature = "openapi")]
use crate::schema;

/// A run to start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Submission {
    /// The run's id; the server chooses one if it is not given. If the run already exists, it is returned as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The text of the flow file.
    pub flow: String,
    /// Modules by alias, each a tag or a digest. They replace those in `[modules]` of the file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, String>,
    /// Values that the run starts with. They replace those in `[inputs]` of the file.
    #[serde(default, skip_serializing_if = "ValuesObject::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Values))]
    pub inputs: ValuesObject,
    /// The labels of the run, at most 16. They never change. A name has 1 to 63 of the characters `a-z 0-9 - _ . /`, and begins with
    /// a letter or a digit; a value has at most 128 characters, without control characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Submission {
    /// A submission of a flow. It gets a run id here: if an answer is lost and it is submitted again, it starts nothing
    /// new.
    ///
    /// The flow is sent as the text of a flow file. Its inputs are sent beside it, so that they may be any JSON, or bytes.
    ///
    /// # Errors
    /// [`WriteError`] when the flow has errors, or contains something that a flow file cannot express.
    pub fn of(flow: &Draft) -> Result<Self, WriteError> {
        let mut draft = flow.clone();
        let mut submission = Self { run: Some(new_run_id()), ..Self::default() };
        draft.inputs.retain(|name, value| match value {
            Value::Json(_) | Value::Bytes(_) => {
                submission.inputs.insert(name.as_str(), value);
                false
            }
            // The value is not available here; the writer reports it.
            Value::Stored(_) => true,
        });
        submission.flow = write(&draft)?;
        Ok(submission)
    }

    /// A submission of the text of a flow file, with a run id of its own as [`Submission::of`] gives it.
    #[must_use]
    pub fn of_text(flow: impl Into<String>) -> Self {
        Self { run: Some(new_run_id()), flow: flow.into(), ..Self::default() }
    }

    /// Sets the run's id, in place of the generated one. If the run already exists, it is returned as it is.
    #[must_use]
    pub fn run(mut self, run: impl Into<String>) -> Self {
        self.run = Some(run.into());
        self
    }

    /// Sets a tag or digest for a module of the flow, in place of the flow's own.
    #[must_use]
    pub fn module(mut self, alias: impl Into<String>, reference: impl Into<String>) -> Self {
        self.modules.insert(alias.into(), reference.into());
        self
    }

    /// Sets an input of the run, in place of the flow's own.
    #[must_use]
    pub fn input(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.inputs.insert(name, &Value::json(&value.into()));
        self
    }

    /// Sets a label of the run, by which it is found.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Sets an input of bytes, in place of the flow's own.
    #[must_use]
    pub fn input_bytes(mut self, name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        self.inputs.insert(name, &Value::Bytes(bytes.as_ref().into()));
        self
    }
}

fn new_run_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Serializes a JSON value.
pub(crate) fn raw(value: impl Into<serde_json::Value>) -> Box<RawValue> {
    RawValue::from_string(value.into().to_string()).expect("a tree is written as JSON")
}

#[cfg(test)]
mod tests {
    use flow::Json;
    use serde_json::json;

    use super::*;

    #[test]
    fn inputs_are_sent_beside_the_flow() {
        let large = Value::Json(Json::parse("123456789012345678901234567890").unwrap());
        let flow = Draft::builder("f")
            .unwrap()
            .input("large", large)
            .input("nothing", json!(null))
            .input("photo", Value::Bytes([0xff, 0].into()))
            .task("t", "m#t", |task| task.requires_same(["photo"]))
            .build();
        let submission = Submission::of(&flow).unwrap().module("m", "steady").input("more", 1);
        assert_eq!(submission.flow, "name = \"f\"\n\n[[task]]\nname = \"t\"\nuse = \"m#t\"\nrequires = [\"photo\"]\n");
        let inputs = r#"{"large":123456789012345678901234567890,"more":1,"nothing":null,"$bytes":{"photo":"/wA="}}"#;
        assert_eq!(submission.inputs.to_text(), inputs);
        assert_eq!(submission.modules, [("m".to_owned(), "steady".to_owned())].into());
    }

    #[test]
    fn each_submission_has_an_id_of_its_own_and_a_value_once() {
        let flow = Draft::builder("f").unwrap().build();
        let of = || Submission::of(&flow).unwrap();
        assert!(of().run.is_some() && of().run != of().run);
        let text = || Submission::of_text("name = \"f\"");
        assert!(text().run.is_some() && text().run != text().run && text().flow == "name = \"f\"");
        assert_eq!(of().run("mine").run.as_deref(), Some("mine"));
        let bytes = of().input("x", 1).input_bytes("x", "ab");
        assert_eq!(bytes.inputs.to_text(), r#"{"$bytes":{"x":"YWI="}}"#);
        assert_eq!(bytes.input("x", "ab").inputs.to_text(), r#"{"x":"ab"}"#);
    }

    #[test]
    fn an_invalid_flow_is_not_submitted() {
        let flow = Draft::builder("f").unwrap().task("a b", "m", |task| task).build();
        let refused = Submission::of(&flow).unwrap_err();
        assert_eq!(refused.diagnostics[0].message, "a task: \"a b\" is not a name");
    }
}

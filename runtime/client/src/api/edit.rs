//! Deserializes edits. serde reads the variants of a tagged enum from a tree, which cannot hold the original text of a
//! value. So the edit with a value is read separately.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::value::RawValue;

use super::Edit;

/// What an edit does.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "do")]
    does: String,
}

/// [`Edit::Set`] as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    #[serde(rename = "do")]
    _does: String,
    task: String,
    parameter: String,
    value: Box<RawValue>,
}

impl<'de> Deserialize<'de> for Edit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Box::<RawValue>::deserialize(deserializer)?;
        let is_set = serde_json::from_str::<Kind>(written.get()).is_ok_and(|kind| kind.does == "set");
        let read = if is_set {
            serde_json::from_str(written.get()).map(|Set { task, parameter, value, .. }| Self::Set {
                task,
                parameter,
                value,
            })
        } else {
            // The derived deserializer of all variants.
            Self::deserialize(&mut serde_json::Deserializer::from_str(written.get()))
        };
        read.map_err(D::Error::custom)
    }
}

impl Serialize for Edit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Edits;

    #[test]
    fn every_edit_round_trips_with_every_digit() {
        let edits = r#"{"edits":[
            {"do":"add","text":"[[task]]","modules":{"m":"steady"}},
            {"do":"remove","task":"t"},
            {"do":"link","from":"a","to":"b","on":"any","when":"x > 1","reach":"task","join":"any"},
            {"do":"unlink","from":"a","to":"b"},
            {"do":"use","task":"t","uses":"m#t"},
            {"do":"set","task":"t","parameter":"p","value":{"b":[1.10,123456789012345678901234567890],"a":null}},
            {"do":"require","task":"t","parameter":"p","value":"v"}],"dry_run":false}"#;
        let edits = edits.replace("\n            ", "");
        let read: Edits = serde_json::from_str(&edits).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), edits);
    }

    #[test]
    fn an_invalid_edit_is_explained() {
        for (edit, told) in [
            (r#"{"do":"set","task":"t","parameter":"p"}"#, "missing field `value`"),
            (r#"{"do":"set","task":"t","parameter":"p","value":1,"valu":2}"#, "unknown field `valu`"),
            (r#"{"do":"remove","tsk":"t"}"#, "unknown field `tsk`"),
            (r#"{"do":"paint"}"#, "unknown variant `paint`"),
            (r#"{"task":"t"}"#, "missing field `do`"),
            ("7", "invalid type"),
        ] {
            let error = serde_json::from_str::<Edit>(edit).unwrap_err().to_string();
            assert!(error.contains(told), "{edit}: {error}");
        }
    }
}

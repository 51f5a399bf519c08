//! Writes a table: its keys in order, on lines of their own or between braces.

use std::{fmt, time::Duration};

use super::{super::keys::Keys, value};
use crate::{Diagnostic, Json, Size, StartTime, Timestamp, Value, draft::Renames, time::format_duration};

/// The written keys and values of a table.
pub(super) struct Table {
    /// Its description for diagnostics: `task "mix"`.
    owner: String,
    /// Its keys; `None` if they are free.
    keys: Option<&'static Keys>,
    entries: Vec<(String, String)>,
}

impl Table {
    pub(super) fn new(owner: impl Into<String>, keys: &'static Keys) -> Self {
        Self { owner: owner.into(), keys: Some(keys), entries: Vec::new() }
    }

    /// A table of values or names that an author has named.
    pub(super) fn free(owner: impl Into<String>) -> Self {
        Self { owner: owner.into(), keys: None, entries: Vec::new() }
    }

    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The table with each key on a line of its own.
    pub(super) fn lines(&self) -> String {
        self.entries.iter().map(|(key, written)| format!("{key} = {written}\n")).collect()
    }

    fn put(&mut self, key: &str, written: impl fmt::Display) {
        let is_known = self.keys.is_none_or(|keys| keys.iter().any(|known| known.name == key));
        debug_assert!(is_known, "{key:?} of {} is written, and not among the keys of its table", self.owner);
        self.entries.push((value::key(key), written.to_string()));
    }

    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.put(key, value::text(text));
    }

    /// Writes a list of texts; an empty one is omitted.
    pub(super) fn texts(&mut self, key: &str, texts: &[String]) {
        let texts: Vec<String> = texts.iter().map(|text| value::text(text)).collect();
        self.elements(key, &texts);
    }

    /// Writes a list of elements in TOML; an empty one is omitted.
    pub(super) fn elements(&mut self, key: &str, elements: &[String]) {
        if !elements.is_empty() {
            self.put(key, format!("[{}]", elements.join(", ")));
        }
    }

    /// Writes a keyword; the default is omitted.
    pub(super) fn keyword(&mut self, key: &str, word: &str, is_explicit: bool) {
        if is_explicit {
            self.text(key, word);
        }
    }

    pub(super) fn flag(&mut self, key: &str, value: Option<bool>) {
        value.iter().for_each(|flag| self.put(key, flag));
    }

    pub(super) fn number(&mut self, key: &str, value: Option<impl fmt::Display>) {
        value.iter().for_each(|number| self.put(key, number));
    }

    pub(super) fn size(&mut self, key: &str, value: Option<u64>) {
        value.iter().for_each(|bytes| self.text(key, &Size(*bytes).to_string()));
    }

    pub(super) fn format_duration(&mut self, key: &str, value: Option<Duration>, diagnostics: &mut Vec<Diagnostic>) {
        let Some(value) = value else { return };
        match format_duration(value) {
            Some(text) => self.text(key, &text),
            None => {
                let message = format!("{key:?} of {} is {value:?}, and no whole number of milliseconds", self.owner);
                diagnostics
                    .push(Diagnostic::error(None, message).hint("round it to milliseconds, and to 64 bits of them"));
            }
        }
    }

    pub(super) fn starts(&mut self, value: Option<StartTime>, diagnostics: &mut Vec<Diagnostic>) {
        match value {
            None => {}
            Some(StartTime::After(delay)) => self.format_duration("start_after", Some(delay), diagnostics),
            Some(StartTime::At(at)) => match format_timestamp(at) {
                Some(text) => self.put("start_at", text),
                None => {
                    let message = format!("\"start_at\" of {} is not a supported time", self.owner);
                    diagnostics.push(Diagnostic::error(None, message).hint("choose one before the year 9999"));
                }
            },
        }
    }

    /// Writes value names; a list where all names stay the same.
    pub(super) fn renames(&mut self, key: &str, renames: Option<&Renames>) {
        let Some(renames) = renames else { return };
        if renames.iter().all(|(own_name, flow_name)| own_name == flow_name) {
            let names: Vec<String> = renames.keys().map(|name| value::text(name.as_str())).collect();
            self.put(key, format!("[{}]", names.join(", ")));
            return;
        }
        let mut table = Self::free(key);
        for (own_name, flow_name) in renames {
            table.text(own_name.as_str(), flow_name.as_str());
        }
        self.inline(key, &table);
    }

    /// Writes a table between braces.
    pub(super) fn inline(&mut self, key: &str, table: &Self) {
        let entries: Vec<String> = table.entries.iter().map(|(key, written)| format!("{key} = {written}")).collect();
        self.put(key, value::braces(&entries));
    }

    pub(super) fn value(&mut self, key: &str, content: &Value, diagnostics: &mut Vec<Diagnostic>) {
        let written = match content {
            Value::Json(json) => value::json(json.as_str()),
            Value::Bytes(_) => Err("bytes"),
            Value::Stored(_) => Err("a value that only the store of a server has"),
        };
        match written {
            Ok(written) => self.put(key, written),
            Err(problem) => diagnostics.push(self.not_representable(&format!("{key:?} in {}", self.owner), problem)),
        }
    }

    pub(super) fn list(&mut self, key: &str, values: &[Json], diagnostics: &mut Vec<Diagnostic>) {
        let mut elements = Vec::new();
        for element in values {
            match value::json(element.as_str()) {
                Ok(written) => elements.push(written),
                Err(problem) => {
                    diagnostics.push(self.not_representable(&format!("{key:?} of {}", self.owner), problem))
                }
            }
        }
        self.put(key, format!("[{}]", elements.join(", ")));
    }

    fn not_representable(&self, owner: &str, problem: &str) -> Diagnostic {
        let diagnostic = Diagnostic::error(None, format!("{owner} holds {problem}, which a flow file cannot"));
        diagnostic.hint("give it to the run as an input, and let tasks require it")
    }
}

fn format_timestamp(at: Timestamp) -> Option<String> {
    let micros = i64::try_from(at.as_micros()).ok()?;
    Some(jiff::Timestamp::from_microsecond(micros).ok()?.to_string())
}

//! The keys of each table of a flow file: the only list of them.
//!
//! The reader knows these keys and suggests them, the writer writes no other, wiring asks which of them configure a call, and a
//! test compares the tables in the documentation with them.

use std::sync::LazyLock;

use crate::{
    Backoff, Join, LimitOverrides, Limits, MissedPolicy, Otherwise, OverlapPolicy, Pattern, Recording, RetryPolicy,
    SkipReach, SourceOutcome,
};

/// A key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: &'static str,
    /// The type of its value, as the documentation has it.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares the documentation with it"))]
    form: String,
    /// Its default, as the documentation has it.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares the documentation with it"))]
    default: String,
    /// Whether other parts depend on it: a misspelt one counts as unreadable.
    pub(crate) is_needed: bool,
    /// Whether it configures the calls of a guest: a task without a guest must not have it.
    pub(crate) is_of_call: bool,
}

impl Key {
    fn new(name: &'static str, form: impl Into<String>, default: impl Into<String>) -> Self {
        Self { name, form: form.into(), default: default.into(), is_needed: false, is_of_call: false }
    }

    /// A key whose value is one of some words, of which the first is the default.
    fn word<T>(name: &'static str, words: &[(&'static str, T)]) -> Self {
        let default = words.first().map(|(word, _)| format!("`\"{word}\"`"));
        Self::new(name, choices(words), default.unwrap_or_default())
    }

    fn needed(self) -> Self {
        Self { is_needed: true, ..self }
    }

    fn of_call(self) -> Self {
        Self { is_of_call: true, ..self }
    }
}

/// Words as a list: `"a"`, `"b"` or `"c"`.
fn choices<T>(words: &[(&'static str, T)]) -> String {
    let words: Vec<String> = words.iter().map(|(word, _)| format!("`\"{word}\"`")).collect();
    match words.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => words.concat(),
    }
}

/// The keys of a table.
pub(crate) type Keys = LazyLock<Vec<Key>>;

/// The keys of the whole flow.
pub(crate) static FLOW: Keys = LazyLock::new(|| {
    let mut keys = vec![Key::new("name", "name", "required").needed()];
    keys.extend(body());
    keys.extend([
        Key::new("expires", "duration", "unlimited"),
        Key::new("persistent", "true or false", "`false`").needed(),
        Key::new("cyclic", "true or false", "`false`").needed(),
        Key::new("max_firings", "whole number from 1", "unlimited"),
        Key::new("max_parallel", "whole number from 1 to 10000", "100"),
        Key::new("listen", "tables", "none").needed(),
        Key::new("schedule", "tables", "none").needed(),
        Key::new("modules", "table", "none").needed(),
        Key::new("inputs", "table of values", "none").needed(),
    ]);
    keys
});

/// The keys of a nested flow.
pub(crate) static NESTED_FLOW: Keys = LazyLock::new(|| {
    let mut keys = vec![Key::new("name", "name", "required").needed()];
    keys.extend(body());
    keys
});

/// The keys that whole and nested flows have.
fn body() -> impl Iterator<Item = Key> {
    [
        Key::word("pattern", Pattern::WORDS).needed(),
        Key::new("order", "list of names", "their order in the file").needed(),
        Key::new("retry", "table", "none"),
        Key::new("start_after", "duration", "at once"),
        Key::new("start_at", "moment", "at once"),
        Key::new("task", "tables", "none").needed(),
        Key::new("link", "tables", "none").needed(),
        Key::new("flow", "tables", "none").needed(),
    ]
    .into_iter()
}

/// The keys of a task.
pub(crate) static TASK: Keys = LazyLock::new(|| {
    let mut keys = vec![
        Key::new("name", "name", "required").needed(),
        Key::new("use", "text", "this or `wait`").needed(),
        Key::new("wait", "text", "").needed(),
        Key::new("deadline", "duration", "unlimited"),
        Key::new("start_after", "duration", "at once"),
        Key::new("start_at", "moment", "at once"),
        Key::new("for_each", "name, or list of values", "it is called once").needed().of_call(),
        Key::new("as", "name", "`\"item\"`").needed().of_call(),
        Key::new("max_parallel", "whole number from 1 to 10000", "1000").of_call(),
        Key::new("requires", "table or list", "every parameter under its own name").needed().of_call(),
        Key::new("provides", "table or list", "all that the module declares").needed(),
        Key::new("with", "table of values", "none").needed().of_call(),
        Key::new("retry", "table", "the module's setting, or one attempt").of_call(),
        Key::new("allow", "table", "nothing").of_call(),
        Key::word("record", Recording::WORDS).of_call(),
        Key::new("memo", "true, false, `\"never\"` or duration", "`false`").of_call(),
        Key::new("args", "list of texts", "none").of_call(),
        Key::new("queue", "name", "`\"default\"`").of_call(),
        Key::new("priority", "whole number", "0").of_call(),
        Key::new("max_running", "whole number from 1 to 10000", "no limit").of_call(),
        Key::new("rate", "`\"10/s\"`, `\"100/m\"` or `\"5000/h\"`", "no limit").of_call(),
        Key::new("expires", "duration", "unlimited").of_call(),
        Key::new("delivery_limit", "1 to 50", "5, or the value in the worker's [settings](operations.md#settings)")
            .of_call(),
        Key::new("rollback", "true or false", "the module's setting").of_call(),
    ];
    let mut limits = LimitOverrides::from(Limits::default());
    keys.extend(limits.entries().map(|(name, limit)| {
        let default = if limit.is_text() { format!("`\"{limit}\"`") } else { limit.to_string() };
        Key::new(name, limit.form(), default).of_call()
    }));
    keys
});

/// The keys of a task's `allow`.
pub(crate) static ALLOW: Keys = LazyLock::new(|| {
    vec![
        Key::new("http", "list of texts", "none"),
        Key::new("sockets", "list of texts", "none"),
        Key::new("secrets", "list of names", "none"),
        Key::new("config", "list of names", "none"),
        Key::new("env", "list of names", "none"),
        Key::new("dirs", "list of names or tables", "none"),
        Key::new("clock", "true or false", "`false`"),
        Key::new("random", "true or false", "`false`"),
    ]
});

/// The keys of a directory in a task's `allow`.
pub(crate) static DIRECTORY: Keys = LazyLock::new(|| {
    vec![Key::new("name", "name", "required").needed(), Key::new("write", "true or false", "`false`")]
});

/// The keys of a task's own `retry`.
pub(crate) static POLICY: Keys = LazyLock::new(|| {
    let RetryPolicy { attempts, backoff: _, initial, max, jitter } = RetryPolicy::default();
    vec![
        Key::new("attempts", "whole number from 1", attempts.to_string()),
        Key::word("backoff", Backoff::WORDS),
        Key::new("initial", "duration", format!("`\"{}s\"`", initial.as_secs())),
        Key::new("max", "duration", format!("`\"{}s\"`", max.as_secs())),
        Key::new("jitter", "true or false", jitter.to_string()),
    ]
});

/// The keys of the `retry` of a flow: its retry controller.
pub(crate) static CONTROLLER: Keys = LazyLock::new(|| {
    let otherwise = Otherwise::default().as_str();
    vec![
        Key::new("times", "whole number", ""),
        Key::new("for_each", "list of values, or name of a value", "").needed(),
        Key::new("always", choices(Otherwise::WORDS), ""),
        Key::new("otherwise", choices(Otherwise::WORDS), format!("`\"{otherwise}\"`")),
        Key::new("provides", "name", "").needed(),
    ]
});

/// The keys of a link.
pub(crate) static LINK: Keys = LazyLock::new(|| {
    vec![
        Key::new("from", "name", "required").needed(),
        Key::new("to", "name", "required").needed(),
        Key::word("on", SourceOutcome::WORDS),
        Key::new("when", "text", "none"),
        Key::word("join", Join::WORDS).needed(),
        Key::word("reach", SkipReach::WORDS),
    ]
});

/// The keys of a listener.
pub(crate) static LISTEN: Keys = LazyLock::new(|| {
    vec![
        Key::new("flow", "name", "required").needed(),
        Key::new("task", "name", "required").needed(),
        Key::word("on", SourceOutcome::WORDS),
        Key::new("to", "name", "required").needed(),
    ]
});

/// The keys of a schedule.
pub(crate) static SCHEDULE: Keys = LazyLock::new(|| {
    vec![
        Key::new("cron", "text", "required"),
        Key::new("zone", "text", "`\"UTC\"`"),
        Key::new("to", "name", "required").needed(),
        Key::word("overlap", OverlapPolicy::WORDS),
        Key::word("missed", MissedPolicy::WORDS),
    ]
});

/// The keys of a file of edits.
pub(crate) static EDIT_FILE: Keys = LazyLock::new(|| vec![Key::new("edit", "tables", "required")]);

/// The kinds of edits, each with its additional keys.
pub(crate) const EDIT_KINDS: [(&str, &[&str]); 8] = [
    ("add", &[]),
    ("add_text", &[]),
    ("remove", &[]),
    ("link", &["on", "when", "reach", "join"]),
    ("unlink", &[]),
    ("use", &[]),
    ("set", &["with"]),
    ("require", &["requires"]),
];

/// The keys of an edit: those of every kind of edit.
pub(crate) static EDIT: Keys = LazyLock::new(|| {
    let kinds = EDIT_KINDS.iter().map(|(kind, _)| *kind);
    let additional = EDIT_KINDS.iter().flat_map(|(_, keys)| *keys).copied();
    kinds.chain(additional).map(|name| Key::new(name, "", "")).collect()
});

/// Whether a key belongs to the whole flow and not to a nested one.
pub(crate) fn is_of_whole_flow(name: &str) -> bool {
    let has = |keys: &Keys| keys.iter().any(|key| key.name == name);
    has(&FLOW) && !has(&NESTED_FLOW)
}

/// The names of some keys, for messages.
pub(crate) fn names(keys: &Keys) -> String {
    keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The cells of one key in a table of the documentation, by the header of their column.
    type Row = BTreeMap<String, String>;

    /// The rows of all tables in a text whose first column is headed `key…`, by the heading of their section and the key.
    fn documented(text: &str) -> BTreeMap<(String, String), Vec<Row>> {
        let mut rows: BTreeMap<(String, String), Vec<Row>> = BTreeMap::new();
        let (mut section, mut header, mut is_code): (String, Vec<String>, bool) = Default::default();
        for line in text.lines() {
            is_code ^= line.starts_with("```");
            if let Some(heading) = line.strip_prefix('#').filter(|_| !is_code) {
                section = heading.trim_start_matches('#').trim().to_owned();
            }
            let Some(line) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
                header.clear();
                continue;
            };
            let cells: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
            if header.is_empty() {
                header = cells;
            } else if header[0].starts_with("key") && !cells[0].starts_with("---") {
                let names: Vec<&str> = cells[0].split(", ").collect();
                for (place, name) in names.iter().enumerate() {
                    // A row with several keys has one type for all, or one for each.
                    let of_key = |cell: &String| match cell.split("; ").collect::<Vec<_>>() {
                        parts if parts.len() == names.len() => parts[place].to_owned(),
                        _ => cell.clone(),
                    };
                    let row = header.iter().cloned().zip(cells.iter().map(of_key)).collect();
                    let name = name.trim_matches(['`', '[', ']']).to_owned();
                    rows.entry((section.clone(), name)).or_default().push(row);
                }
            }
        }
        rows
    }

    #[test]
    fn the_documentation_has_each_key_with_its_type_and_its_default() {
        let guide = include_str!("../../../../docs/flow-file.md");
        let listeners = include_str!("../../../../docs/listeners.md");
        let times = include_str!("../../../../docs/people-and-time.md");
        let places = [
            (guide, "The whole flow", vec![&FLOW]),
            (guide, "Tasks", vec![&TASK, &POLICY]),
            (guide, "What a task may reach", vec![&ALLOW]),
            (guide, "Links", vec![&LINK]),
            (guide, "Retry controllers", vec![&CONTROLLER]),
            (listeners, "The rules", vec![&LISTEN]),
            (times, "Schedules", vec![&SCHEDULE]),
        ];
        for (text, section, tables) in places {
            let documented = documented(text);
            let known: Vec<&Key> = tables.iter().flat_map(|keys| keys.iter()).collect();
            for key in &known {
                let rows = documented.get(&(section.into(), key.name.into()));
                let rows = rows.unwrap_or_else(|| panic!("{section:?} does not document {:?}", key.name));
                let cells = |column: &str| -> Vec<&str> {
                    rows.iter().filter_map(|row| Some(row.get(column)?.as_str())).collect()
                };
                if !cells("type").is_empty() {
                    assert_eq!(cells("type").join(", or "), key.form, "the type of {:?} in {section:?}", key.name);
                }
                if !cells("default").is_empty() {
                    assert_eq!(cells("default").join(""), key.default, "the default of {:?} in {section:?}", key.name);
                }
            }
            let extra = documented
                .keys()
                .filter(|(in_section, name)| in_section == section && !known.iter().any(|key| key.name == name));
            assert_eq!(extra.collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "unknown keys");
        }
    }
}

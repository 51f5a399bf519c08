//! Reads `allow` of a task: what it asks for beyond its sandbox.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    str::FromStr,
};

use toml::{Spanned, de::DeValue};

use super::{
    foreign_keys, keys,
    reader::{Diagnostics, Reader, wrong_type},
};
use crate::{
    Access, Diagnostic, DirectoryName, DirectoryUse, Memo, Recording, SettingName, SocketPattern, parse_duration,
};

pub(super) fn read<'t>(toml: &'t Spanned<DeValue<'t>>, owner: &str, diagnostics: &mut Diagnostics) -> Access {
    let owner = format!("\"allow\" of {owner}");
    let example = "{ http = [\"GET https://example.com/v1/**\"] }";
    let Some(mut table) = Reader::open(toml, owner, &keys::ALLOW, example, diagnostics) else {
        return Access::default();
    };
    let flag = |table: &mut Reader<'_>, key, diagnostics: &mut Diagnostics| {
        table.boolean(key, diagnostics).is_some_and(|flag| flag.value)
    };
    let mut access = Access {
        http: BTreeSet::new(),
        secrets: BTreeSet::new(),
        config: BTreeSet::new(),
        variables: BTreeSet::new(),
        directories: BTreeMap::new(),
        sockets: BTreeSet::new(),
        arguments: Vec::new(),
        clock: flag(&mut table, "clock", diagnostics),
        random: flag(&mut table, "random", diagnostics),
        record: Recording::default(),
        memo: None,
    };
    let patterns = table.list("http", "a list such as [\"GET https://example.com/v1/**\"]", diagnostics);
    for toml in patterns.iter().flat_map(|patterns| patterns.value) {
        access.http.extend(parsed(toml, "http", &table.owner, diagnostics));
    }
    let sockets = table.list("sockets", "a list such as [\"db.example.com:5432\"]", diagnostics);
    for toml in sockets.iter().flat_map(|sockets| sockets.value) {
        access.sockets.extend(parsed::<SocketPattern>(toml, "sockets", &table.owner, diagnostics));
    }
    let secrets = table.list("secrets", "a list of names such as [\"LB_TOKEN\"]", diagnostics);
    for toml in secrets.iter().flat_map(|secrets| secrets.value) {
        access.secrets.extend(parsed(toml, "secrets", &table.owner, diagnostics));
    }
    for (key, names) in [("config", &mut access.config), ("env", &mut access.variables)] {
        let list = table.list(key, "a list of names such as [\"region\"]", diagnostics);
        for toml in list.iter().flat_map(|list| list.value) {
            names.extend(parsed::<SettingName>(toml, key, &table.owner, diagnostics));
        }
    }
    let directories = table.list("dirs", DIRECTORIES, diagnostics);
    for toml in directories.iter().flat_map(|directories| directories.value) {
        if let Some((name, directory_use)) = directory(toml, &table.owner, diagnostics) {
            let known = access.directories.entry(name).or_insert(directory_use);
            *known = (*known).max(directory_use);
        }
    }
    table.finish(foreign_keys::suggest_access_key, diagnostics);
    access
}

const MAX_ARGUMENTS_BYTES: usize = Access::MAX_ARGUMENTS_BYTES;

/// Reads the arguments of a program.
pub(super) fn arguments(table: &mut Reader<'_>, diagnostics: &mut Diagnostics) -> Vec<String> {
    let list = table.list("args", "a list of texts such as [\"--all\"]", diagnostics);
    let (mut arguments, mut used): (Vec<String>, usize) = (Vec::new(), 0);
    for toml in list.iter().flat_map(|list| list.value) {
        let owner = format!("an element of \"args\" in {}", table.owner);
        let diagnostic = match toml.get_ref().as_str() {
            Some(text) if text.contains('\0') => {
                Diagnostic::error(Some(toml.span()), format!("{owner} has a zero byte"))
            }
            Some(text) if used + text.len() >= MAX_ARGUMENTS_BYTES => {
                let reason = format!("the arguments of {} have more than {MAX_ARGUMENTS_BYTES} bytes", table.owner);
                diagnostics.push(Diagnostic::error(Some(toml.span()), reason).hint("pass large texts as inputs"));
                break;
            }
            Some(text) => {
                used += text.len() + 1;
                arguments.push(text.to_owned());
                continue;
            }
            None => wrong_type(&owner, "a text in quotes", toml.get_ref(), toml.span()),
        };
        diagnostics.push(diagnostic);
    }
    arguments
}

/// The word in a flow file for results that are not remembered.
pub(super) const MEMO_NEVER: &str = "never";

/// Reads for how long the results of a task are remembered.
pub(super) fn memo(table: &mut Reader<'_>, diagnostics: &mut Diagnostics) -> Option<Memo> {
    const EXPECTED: &str = "true, false, \"never\", or a duration such as \"7d\"";
    let toml = table.take("memo")?;
    let owner = table.describe_key("memo");
    let diagnostic = match (toml.get_ref().as_bool(), toml.get_ref().as_str()) {
        (Some(is_remembered), _) => return is_remembered.then_some(Memo::Unlimited),
        (None, Some(MEMO_NEVER)) => return Some(Memo::Never),
        (None, Some(text)) => match parse_duration(text) {
            Ok(time) if time.is_zero() => Diagnostic::error(Some(toml.span()), format!("{owner} is no time"))
                .hint("write for how long results are remembered, such as \"7d\", or leave it out"),
            Ok(time) => return Some(Memo::For(time)),
            Err(error) => Diagnostic::rejected(Some(toml.span()), &owner, &error),
        },
        (None, None) => wrong_type(&owner, EXPECTED, toml.get_ref(), toml.span()),
    };
    diagnostics.push(diagnostic);
    None
}

const DIRECTORIES: &str = "a list such as [\"menu\", { name = \"data\", write = true }]";

/// A directory to read by its name, or one by a table.
fn directory<'t>(
    toml: &'t Spanned<DeValue<'t>>,
    owner: &str,
    diagnostics: &mut Diagnostics,
) -> Option<(DirectoryName, DirectoryUse)> {
    if toml.get_ref().as_table().is_none() {
        return Some((parsed(toml, "dirs", owner, diagnostics)?, DirectoryUse::Read));
    }
    let owner = format!("an element of \"dirs\" in {owner}");
    let mut table = Reader::open(toml, owner, &keys::DIRECTORY, "{ name = \"data\", write = true }", diagnostics)?;
    if table.take("name").is_none() {
        diagnostics.push_missing(table.missing_key("name", "name = \"data\""));
    }
    let name = table.name("name", diagnostics);
    let writes = table.boolean("write", diagnostics).is_some_and(|flag| flag.value);
    table.finish(|_| None, diagnostics);
    Some((name?.value, if writes { DirectoryUse::Write } else { DirectoryUse::Read }))
}

fn parsed<T: FromStr<Err: Display>>(
    toml: &Spanned<DeValue<'_>>,
    key: &str,
    owner: &str,
    diagnostics: &mut Diagnostics,
) -> Option<T> {
    let owner = format!("an element of {key:?} in {owner}");
    let Some(text) = toml.get_ref().as_str() else {
        diagnostics.push(wrong_type(&owner, "a text in quotes", toml.get_ref(), toml.span()));
        return None;
    };
    text.parse().map_err(|error| diagnostics.push(Diagnostic::rejected(Some(toml.span()), &owner, &error))).ok()
}

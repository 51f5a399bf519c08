//! The directories of a `[[grant]]`: which directory of this machine a name stands for, and how much calls may put into it.

use std::path::{Component, Path, PathBuf};

use flow::{GrantedDirectory, Grants};
use serde::Deserialize;

use super::{located::Place, parser::Parser};

/// A directory, as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDirectory {
    path: String,
    write: bool,
    max: Option<String>,
}

impl RawDirectory {
    /// The directory, or what is wrong with it.
    pub(super) fn directory(&self) -> Result<GrantedDirectory, String> {
        let Self { path, write, max } = self;
        let path = PathBuf::from(path);
        let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        if !path.is_absolute() || !path.components().all(is_plain) || path.parent().is_none() {
            return Err("`path` is no full path of a directory, such as \"/srv/data\"".into());
        }
        let max_bytes = match (write, max) {
            (false, None) => None,
            (true, Some(max)) => Some(flow::parse_size(max).map_err(|error| format!("max: {error}"))?),
            (true, None) => {
                return Err("calls may write to it: say how large it may become, as in max = \"1GiB\"".into());
            }
            (false, Some(_)) => return Err("`max` is for a directory with `write = true`".into()),
        };
        // Without what is written twice, so that equal paths are equal texts.
        Ok(GrantedDirectory { path: path.components().collect(), max_bytes })
    }
}

/// Reports directories that lie inside others: a call with the outer one would reach the inner one, which may be of another namespace.
/// `places` has where the table of each grant is.
pub(super) fn check_overlaps(grants: &Grants, places: &[Place], parser: &mut Parser) {
    let paths = || {
        let tables = grants.0.iter().zip(places);
        tables.flat_map(|(grant, place)| grant.directories.values().map(move |directory| (&*directory.path, place)))
    };
    let mut reported: Vec<&Path> = Vec::new();
    for (inner, place) in paths() {
        let is_outer = |(outer, _): &(&Path, &Place)| *outer != inner && inner.starts_with(outer);
        if let Some((outer, of_outer)) = paths().find(is_outer)
            && !reported.contains(&inner)
        {
            reported.push(inner);
            parser.errors.push(format!(
                "{place}: [[grant]]: the directory {} is inside of {}, which {of_outer} grants: grant directories beside each other",
                inner.display(),
                outer.display()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_a_full_path_and_a_limit_if_it_is_written() {
        let read = |text: &str| toml::from_str::<RawDirectory>(text).unwrap().directory();
        let directory = |path: &str, max_bytes| Ok(GrantedDirectory { path: path.into(), max_bytes });
        assert_eq!(read("path = \"/srv//data/\""), directory("/srv/data", None));
        assert_eq!(read("path = \"/d\"\nwrite = true\nmax = \"1MiB\""), directory("/d", Some(1 << 20)));
        for (text, expected) in [
            ("", "`path` is no full path"),
            ("path = \"/\"", "`path` is no full path"),
            ("path = \"data\"", "`path` is no full path"),
            ("path = \"/srv/../etc\"", "`path` is no full path"),
            ("path = \"/d\"\nwrite = true", "calls may write to it"),
            ("path = \"/d\"\nmax = \"1MiB\"", "`max` is for a directory"),
            ("path = \"/d\"\nwrite = true\nmax = \"1\"", "max: "),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}

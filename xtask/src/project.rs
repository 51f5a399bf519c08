//! The folders of the clone and of builds.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The workspaces of guests. Their target is WebAssembly, so they cannot be members of the host's workspace.
const GUEST_WORKSPACES: [&str; 2] = ["examples-wasm", "tests/guests"];

/// The clone this program was built from.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ lies in the root of the clone")
}

/// The workspaces of guests.
pub fn guest_workspaces() -> impl Iterator<Item = PathBuf> {
    GUEST_WORKSPACES.iter().map(|folder| root().join(folder))
}

/// The workspace of the fuzzer. Its crates are compiled with other flags than those of the host's workspace.
pub fn fuzz_workspace() -> PathBuf {
    root().join("fuzz")
}

/// The workspaces besides that in the root.
pub fn other_workspaces() -> impl Iterator<Item = PathBuf> {
    guest_workspaces().chain([fuzz_workspace()])
}

/// The clone's own `target/`, for files that clones must not share, such as built guests and running brokers.
pub fn target() -> PathBuf {
    root().join("target")
}

/// The build folder of the host workspace. `CARGO_TARGET_DIR` overrides it.
pub fn build_folder() -> PathBuf {
    match set(env::var_os("CARGO_TARGET_DIR")) {
        Some(folder) => std::path::absolute(&folder).unwrap_or_else(|_| folder.into()),
        None => continuous_build_folder().unwrap_or_else(target),
    }
}

/// The build folder of continuous integration if this is one. It starts from a new clone each time, so its builds go to
/// a folder outside, which the next one uses again. `CARGO_TARGET_DIR` overrides it: that folder belongs to somebody.
pub fn continuous_build_folder() -> Option<PathBuf> {
    choose_continuous(env::var_os("CARGO_TARGET_DIR"), env::var_os("CI"), env::home_dir())
}

fn choose_continuous(target_dir: Option<OsString>, ci: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    match (set(target_dir), set(ci)) {
        (None, Some(_)) => Some(home?.join(".cache/waft/target")),
        (Some(_), _) | (None, None) => None,
    }
}

/// The value of a variable; one that is set to nothing counts as not set.
fn set(variable: Option<OsString>) -> Option<OsString> {
    variable.filter(|value| !value.is_empty())
}

/// A path as a user in the root of the clone would type it.
pub fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn continuous(target_dir: Option<&str>, ci: Option<&str>) -> Option<PathBuf> {
        choose_continuous(target_dir.map(Into::into), ci.map(Into::into), Some("/home/me".into()))
    }

    #[test]
    fn only_continuous_integration_builds_outside_the_clone() {
        assert_eq!(continuous(None, Some("true")).unwrap(), Path::new("/home/me/.cache/waft/target"));
        assert_eq!(continuous(None, None), None);
        assert_eq!(continuous(Some(""), Some("")), None);
        assert_eq!(choose_continuous(None, Some("true".into()), None), None);
    }

    #[test]
    fn an_explicit_folder_is_not_that_of_continuous_integration() {
        assert_eq!(continuous(Some("/elsewhere"), Some("true")), None);
    }

    #[test]
    fn paths_inside_the_clone_are_relative_to_its_root() {
        assert_eq!(short(&root().join("target/guests")), "target/guests");
        assert_eq!(short(Path::new("/elsewhere")), "/elsewhere");
    }
}

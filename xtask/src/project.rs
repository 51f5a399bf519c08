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

/// The build folder of the host workspace. Continuous integration starts from a new clone each time, so there it is a
/// folder outside, kept between runs. `CARGO_TARGET_DIR` overrides both.
pub fn build_folder() -> PathBuf {
    choose_build_folder(env::var_os("CARGO_TARGET_DIR"), env::var_os("CI"), env::home_dir())
}

fn choose_build_folder(target_dir: Option<OsString>, ci: Option<OsString>, home: Option<PathBuf>) -> PathBuf {
    let set = |variable: Option<OsString>| variable.filter(|value| !value.is_empty());
    match (set(target_dir), set(ci), home) {
        (Some(target_dir), _, _) => std::path::absolute(&target_dir).unwrap_or_else(|_| target_dir.into()),
        (None, Some(_), Some(home)) => home.join(".cache/waft/target"),
        (None, Some(_) | None, _) => target(),
    }
}

/// A path as a user in the root of the clone would type it.
pub fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(target_dir: Option<&str>, ci: Option<&str>) -> PathBuf {
        choose_build_folder(target_dir.map(Into::into), ci.map(Into::into), Some("/home/me".into()))
    }

    #[test]
    fn a_user_builds_inside_the_clone() {
        assert_eq!(choose(None, None), target());
        assert_eq!(choose(Some(""), Some("")), target());
    }

    #[test]
    fn continuous_integration_builds_outside_the_clone() {
        assert_eq!(choose(None, Some("true")), Path::new("/home/me/.cache/waft/target"));
        assert_eq!(choose_build_folder(None, Some("true".into()), None), target());
    }

    #[test]
    fn an_explicit_folder_overrides() {
        assert_eq!(choose(Some("/elsewhere"), Some("true")), Path::new("/elsewhere"));
        assert!(choose(Some("elsewhere"), None).is_absolute());
    }

    #[test]
    fn paths_inside_the_clone_are_relative_to_its_root() {
        assert_eq!(short(&root().join("target/guests")), "target/guests");
        assert_eq!(short(Path::new("/elsewhere")), "/elsewhere");
    }
}

//! Starts other programs, shows their commands and reads their output.

mod group;
mod transcript;

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub use group::Group;
pub use transcript::Transcript;

use crate::project;

/// A command without the variables that `cargo run` set for this process. Build scripts watch such variables, so passing
/// them on would recompile unchanged crates. Its standard input is empty.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        if is_of_cargo_run(&name) {
            command.env_remove(name);
        }
    }
    command
}

/// Cargo, for the host workspace. In continuous integration it writes no files for incremental compilation: they take
/// more room than all else, and the next build is of another state.
pub fn cargo() -> Command {
    let mut cargo = command("cargo");
    cargo.current_dir(project::root()).env("CARGO_TARGET_DIR", project::build_folder());
    if project::continuous_build_folder().is_some() {
        cargo.env("CARGO_INCREMENTAL", "0");
    }
    cargo
}

fn is_of_cargo_run(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let single = ["CARGO", "CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
    single.contains(&name) || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// Whether `program` starts and exits with success; its output is not shown.
pub fn answers(program: &mut Command) -> bool {
    program.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Finds `program` in `PATH` and then in `folders`.
pub fn find(program: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(folders.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A command as a user in the root of the clone would type it.
pub fn shown(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        // The build folder is the same for every command, and a user has set any other value.
        if let Some(value) = value
            && name != "CARGO_TARGET_DIR"
        {
            words.push(format!("{}={}", name.to_string_lossy(), quoted(value)));
        }
    }
    words.push(quoted(command.get_program()));
    words.extend(command.get_args().map(quoted));
    let line = words.join(" ");
    match command.get_current_dir() {
        Some(folder) if folder != project::root() => {
            format!("(cd {} && {line})", quoted(folder.as_os_str()))
        }
        Some(_) | None => line,
    }
}

/// Quotes one word for a shell, with paths of the clone relative to its root.
fn quoted(word: &OsStr) -> String {
    let word = match Path::new(word) {
        path if path.is_absolute() => OsString::from(project::short(path)),
        _ => word.to_owned(),
    };
    let word = word.to_string_lossy();
    let plain = |char: char| char.is_alphanumeric() || "-_./=:,+@%".contains(char);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_cargo_run_are_recognised() {
        for name in ["CARGO", "CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH"] {
            assert!(is_of_cargo_run(OsStr::new(name)), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_TERM_COLOR", "CARGO_NET_OFFLINE", "PATH"] {
            assert!(!is_of_cargo_run(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_command_is_shown_as_typed_in_a_shell() {
        let mut command = Command::new("waft");
        command.args(["run", "--set", "text=two words", "it's", ""]).env("WAFT_STORE", project::target().join("store"));
        assert_eq!(shown(&command), r"WAFT_STORE=target/store waft run --set 'text=two words' 'it'\''s' ''");
    }

    #[test]
    fn a_command_for_another_folder_names_it() {
        let mut command = Command::new("cargo");
        command.arg("test").current_dir(project::root().join("examples-wasm"));
        assert_eq!(shown(&command), "(cd examples-wasm && cargo test)");
    }

    #[test]
    fn a_program_is_found_by_path_and_then_in_the_folders() {
        assert!(find("sh", &[]).is_some());
        assert_eq!(find("no-such-program", &["/bin"]), None);
    }
}

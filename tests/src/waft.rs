//! The `waft` binary, with its own store and cache.

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{cloud::CLOUD_TOKEN, from_xtask};

/// The variables that would change what a command does. Each command gets the variables of the store, the cache and the logbook.
const OTHER_SETTINGS: [&str; 19] = [
    "WAFT_BROKER",
    "WAFT_BROKER_FILE",
    "WAFT_LOGBOOK_FILE",
    "WAFT_SERVER",
    "WAFT_SERVER_AUTHORITY",
    "WAFT_CLIENT_CERTIFICATE",
    "WAFT_CLIENT_KEY",
    "WAFT_TOKEN",
    "WAFT_TOKEN_FILE",
    "WAFT_METRICS_TOKEN",
    "WAFT_METRICS_TOKEN_FILE",
    "WAFT_LOG",
    "WAFT_LOG_FORMAT",
    "TRACEPARENT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_TRACES_SAMPLER",
];

/// A folder to run `waft` in, with its own store and an environment without other settings.
pub struct Waft {
    folder: TempDir,
    cache: PathBuf,
}

/// The result of a command.
#[derive(Debug)]
pub struct CommandOutput {
    /// Its exit code; `None` when it was killed.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Default for Waft {
    fn default() -> Self {
        // Tests share compiled code; another test shows that waft verifies it.
        let cache = std::env::temp_dir().join("waft-tests-cache");
        Self { folder: tempfile::tempdir().expect("a temporary folder"), cache }
    }
}

impl Waft {
    /// Uses its own empty cache, as on a machine that has never seen a module.
    ///
    /// # Panics
    /// When no temporary folder can be created.
    #[must_use]
    pub fn with_own_cache() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = folder.path().join("cache");
        Self { folder, cache }
    }

    /// The folder that commands run in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the folder.
    ///
    /// # Panics
    /// When it cannot.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder().join(name);
        fs::write(&path, contents).expect("the folder can be written");
        path
    }

    /// Sets the limits of the operator in the settings file of the user, and replaces those before.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn set_limits(&self, limits: &str) {
        self.set_settings(&format!("[limits]\n{limits}\n"));
    }

    /// Writes the settings file of the user, in place of the one before.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn set_settings(&self, settings: &str) {
        let configuration = self.folder().join("configuration/waft");
        fs::create_dir_all(&configuration).expect("the folder can be written");
        fs::write(configuration.join("config.toml"), settings).expect("the folder can be written");
    }

    /// Writes a file with a secret into the folder: only its owner may read it.
    ///
    /// # Panics
    /// When it cannot.
    pub fn write_private(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.write(name, contents);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("the file is ours");
        path
    }

    /// Writes a flow file that may use the guests of `tests/guests` by their names.
    pub fn flow(&self, text: &str) -> PathBuf {
        let used = |name: &&str| text.contains(&format!("use = \"{name}"));
        let module = |name: &str| format!("{name} = {:?}\n", crate::guest(name));
        let modules: String = crate::GUESTS.into_iter().filter(used).map(module).collect();
        self.write("flow.toml", format!("{text}\n[modules]\n{modules}"))
    }

    /// Runs a flow from its text to its end, with JSON output.
    pub fn run_flow(&self, text: &str, arguments: &[&str]) -> CommandOutput {
        let flow = self.flow(text);
        self.run(
            [OsStr::new("run"), flow.as_os_str(), OsStr::new("--json")]
                .into_iter()
                .chain(arguments.iter().map(OsStr::new)),
        )
    }

    /// Builds a command to run in the folder.
    #[must_use]
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(from_xtask("WAFT_TEST_BINARY"));
        for variable in OTHER_SETTINGS {
            command.env_remove(variable);
        }
        command.env("WAFT_STORE", self.folder().join("store")).env("WAFT_CACHE", &self.cache).env("NO_COLOR", "1");
        command.env("WAFT_LOGBOOK", self.folder().join("logbook.db"));
        // Not the settings of who runs the tests.
        command.env("XDG_CONFIG_HOME", self.folder().join("configuration"));
        command.env("XDG_STATE_HOME", std::env::temp_dir().join("waft-tests-state"));
        // The settings of the examples refer to it.
        command.env("CLOUD_TOKEN", CLOUD_TOKEN);
        command.current_dir(self.folder()).stdin(Stdio::null()).args(arguments);
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> CommandOutput {
        self.command(arguments).output().expect("waft starts").into()
    }
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("waft prints UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("waft prints UTF-8"),
        }
    }
}

impl CommandOutput {
    /// Asserts the exit code; on another code, it shows all output.
    ///
    /// # Panics
    /// When the exit code is another.
    #[track_caller]
    pub fn expect(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The lines of standard output, each a JSON object.
    ///
    /// # Panics
    /// When one is not.
    #[must_use]
    pub fn json(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The last line of `waft run --json`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn end(&self) -> Value {
        self.json().pop().unwrap_or_else(|| panic!("nothing was printed; stderr:\n{}", self.stderr))
    }

    /// The states of nodes, in order: `mix:running mix:success`.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        let states = self.json().into_iter().filter(|line| line["event"] == "state");
        states.map(|line| format!("{}:{}", text(&line["name"]), text(&line["state"]))).collect()
    }

    /// The final failure of a task: kind and message.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn failure(&self, task: &str) -> (String, String) {
        let failure = &self.end()["failures"][task];
        assert!(failure.is_object(), "{task} has not failed: {}", self.end());
        (text(&failure["kind"]), text(&failure["message"]))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

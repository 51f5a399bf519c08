//! The cloud of the examples, which a test can kill: its requests, its ledger, and the flows that call it.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;
use xtask::ports::free_port;

use crate::{Process, Waft, from_xtask, root};

/// The token of the cloud. Each command of [`Waft`] has it in the variable `CLOUD_TOKEN`.
pub const CLOUD_TOKEN: &str = "t0ken-of-the-cloud-in-tests";

/// The address that the flows of the examples name.
const ADDRESS_IN_FILES: &str = "127.0.0.1:7480";

/// A cloud with a ledger of its own.
pub struct Cloud {
    process: Option<Process>,
    folder: TempDir,
    address: SocketAddr,
}

/// An answer of the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, as they were sent.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body, which is JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends requests to a cloud.
#[derive(Debug, Clone, Copy)]
pub struct CloudClient {
    address: SocketAddr,
}

impl CloudClient {
    /// Sends a request with the token, and `headers` as further lines.
    ///
    /// # Errors
    /// When the cloud closes the connection without an answer.
    pub fn request(&self, method: &str, path: &str, headers: &[&str], body: &str) -> io::Result<Answer> {
        let token = format!("authorization: Bearer {CLOUD_TOKEN}");
        self.send(method, path, &[&[&*token], headers].concat(), body)
    }

    /// Sends a request with these lines as headers.
    ///
    /// # Errors
    /// When the cloud closes the connection without an answer.
    pub fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> io::Result<Answer> {
        let mut stream = self.write(method, path, headers, body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let no_answer = || io::Error::new(io::ErrorKind::UnexpectedEof, "no answer");
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_answer)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(no_answer)?;
        Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
    }

    /// Sends a request with the token, and closes the connection.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn send_and_leave(&self, method: &str, path: &str, header: &str, body: &str) {
        let token = format!("authorization: Bearer {CLOUD_TOKEN}");
        drop(self.write(method, path, &[&token, header], body).expect("it can be sent"));
    }

    fn write(&self, method: &str, path: &str, headers: &[&str], body: &str) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}", self.address);
        // In one piece, so that nobody receives half of it.
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes())?;
        Ok(stream)
    }
}

impl Cloud {
    /// Starts a cloud with these arguments, at a free port.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = (Ipv4Addr::LOCALHOST, free_port().expect("a free port")).into();
        let mut cloud = Self { process: None, folder, address };
        cloud.restart(arguments);
        cloud
    }

    /// Kills the cloud with SIGKILL, and starts it again with its ledger, at the same address.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self, arguments: &[&str]) {
        self.process.take().into_iter().for_each(Process::kill);
        let mut process = Process::spawn(self.command().args(["--listen", &self.address.to_string()]).args(arguments));
        process.wait_for("cloud listens on");
        self.process = Some(process);
    }

    /// Kills the cloud, and returns all lines that it has printed since it started.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop(&mut self) -> String {
        let mut process = self.process.take().expect("it runs");
        process.signal("KILL");
        process.wait();
        process.output()
    }

    /// The command of this cloud, with its ledger.
    #[must_use]
    pub fn command(&self) -> Command {
        // Cargo puts the programs of the workspace beside each other.
        let program = PathBuf::from(from_xtask("WAFT_TEST_BINARY")).with_file_name("cloud");
        assert!(program.is_file(), "{} is not built: run `cargo xtask test`", program.display());
        let mut command = Command::new(program);
        command.env("CLOUD_TOKEN", CLOUD_TOKEN).arg("--ledger").arg(self.ledger_file());
        command
    }

    /// The process, whose lines name each request.
    ///
    /// # Panics
    /// Never: it runs.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    /// A client of this cloud, for another thread.
    #[must_use]
    pub fn client(&self) -> CloudClient {
        CloudClient { address: self.address }
    }

    /// See [`CloudClient::request`].
    ///
    /// # Errors
    /// As there.
    pub fn request(&self, method: &str, path: &str, headers: &[&str], body: &str) -> io::Result<Answer> {
        self.client().request(method, path, headers, body)
    }

    /// The lines of the ledger.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn ledger(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.ledger_file()).expect("the ledger can be read");
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// The resources of a kind, such as `server`, that the request with a key has made. Without those that were deleted, if
    /// `only_existing`.
    #[must_use]
    pub fn made(&self, kind: &str, key: &str, only_existing: bool) -> Vec<Value> {
        let ledger = self.ledger();
        let is_deleted = |resource: &Value| ledger.iter().any(|line| line["deleted"]["id"] == resource["id"]);
        let made = ledger.iter().map(|line| &line["made"]).filter(|made| made["request"]["key"] == key);
        let resources = made.map(|made| made["resource"][kind].clone()).filter(Value::is_object);
        resources.filter(|resource| !(only_existing && is_deleted(resource))).collect()
    }

    /// The number of resources that exist.
    #[must_use]
    pub fn existing(&self) -> usize {
        let ledger = self.ledger();
        let count = |name: &str| ledger.iter().filter(|line| line[name].is_object()).count();
        count("made") - count("deleted")
    }

    /// Copies the flows of an example into the folder of `waft`, with the address of this cloud, and sets the settings of
    /// the operator that the examples have.
    ///
    /// # Panics
    /// When a file is missing or cannot be written.
    #[must_use]
    pub fn example(&self, waft: &Waft, name: &str) -> PathBuf {
        let settings = fs::read_to_string(root().join("examples/cloud/waft/config.toml")).expect("it is there");
        waft.set_settings(&self.with_address(&settings));
        let to = waft.folder().join(name);
        self.copy(&root().join("examples-wasm").join(name), &to);
        to
    }

    fn copy(&self, from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("the folder can be written");
        for entry in fs::read_dir(from).expect("the example is there") {
            let path = entry.expect("it can be read").path();
            let name = path.file_name().expect("it has a name");
            if path.is_dir() && name != "src" {
                self.copy(&path, &to.join(name));
            } else if path.extension().is_some_and(|extension| extension == "toml") && name != "Cargo.toml" {
                let text = self.with_address(&fs::read_to_string(&path).expect("it is text"));
                // The modules are where they were built.
                let built = format!("\"{}/target/", root().join("examples-wasm").display());
                let text = text.replace("\"../../target/", &built).replace("\"../target/", &built);
                fs::write(to.join(name), text).expect("the folder can be written");
            }
        }
    }

    fn with_address(&self, text: &str) -> String {
        assert!(text.contains(ADDRESS_IN_FILES) || !text.contains("http"), "it names the cloud: {text}");
        text.replace(ADDRESS_IN_FILES, &self.address.to_string())
    }

    fn ledger_file(&self) -> PathBuf {
        self.folder.path().join("ledger.jsonl")
    }
}

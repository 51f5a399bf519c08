//! The process environment of a guest: arguments, variables, standard input, and its exit.

use std::collections::BTreeMap;

use bytes::Bytes;
use wasmtime::component::Resource;
use wasmtime_wasi::{
    async_trait,
    p2::bindings::cli::{environment, exit, stderr, stdin, stdout},
};
use wasmtime_wasi_io::{
    poll::Pollable,
    streams::{DynInputStream, DynOutputStream, InputStream, StreamError, StreamResult},
};

use super::{HostState, stdio::Stdout};
use crate::call::Standard;

/// The process input of a guest. A component of the contract has none; a command gets its job.
#[derive(Debug, Default)]
pub(crate) struct Process {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Why the guest does not see a variable that its flow asks for.
    missing_variable: Option<String>,
    stdin: Bytes,
    stdout: Stdout,
}

impl Process {
    /// The input of a command, which writes its outputs to standard output.
    pub(crate) fn command(
        arguments: Vec<String>,
        environment: Vec<(String, String)>,
        stdin: String,
        stdout: Stdout,
    ) -> Self {
        Self { arguments, environment, missing_variable: None, stdin: stdin.into(), stdout }
    }

    /// Adds the variables that are granted.
    pub(super) fn with_variables(mut self, variables: &BTreeMap<String, Result<String, String>>) -> Self {
        for (name, value) in variables {
            match value {
                Ok(value) => self.environment.push((name.clone(), value.clone())),
                Err(reason) => drop(self.missing_variable.get_or_insert_with(|| reason.clone())),
            }
        }
        self
    }

    /// Adds arguments of the flow. A component of the contract has no name to put before them.
    pub(super) fn with_arguments(mut self, arguments: &[String]) -> Self {
        if self.arguments.is_empty() && !arguments.is_empty() {
            self.arguments.push(String::new());
        }
        self.arguments.extend_from_slice(arguments);
        self
    }

    pub(crate) fn stdout(&self) -> Stdout {
        self.stdout
    }
}

/// The exit status of a guest that ended itself. wasmtime passes it to the host as an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it exited with status {0}")]
pub(crate) struct Exited(pub(crate) u8);

impl environment::Host for HostState {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        // A guest reads all variables at once, so nobody knows which of them it needs.
        if let Some(reason) = self.process.missing_variable.clone() {
            self.denied.note(|| reason);
        }
        Ok(self.process.environment.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.process.arguments.clone())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl exit::Host for HostState {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(Exited(u8::from(status.is_err())).into())
    }

    fn exit_with_code(&mut self, status: u8) -> wasmtime::Result<()> {
        Err(Exited(status).into())
    }
}

impl stdin::Host for HostState {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        // Standard input is read once, through the first handle.
        let stdin = Stdin(std::mem::take(&mut self.process.stdin));
        Ok(self.table.push(Box::new(stdin) as DynInputStream)?)
    }
}

impl stdout::Host for HostState {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        Ok(self.table.push(self.streams.writer(Standard::Output))?)
    }
}

impl stderr::Host for HostState {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        Ok(self.table.push(self.streams.writer(Standard::Error))?)
    }
}

/// The standard input that is not read yet.
struct Stdin(Bytes);

#[async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {}
}

impl InputStream for Stdin {
    fn read(&mut self, max: usize) -> StreamResult<Bytes> {
        if self.0.is_empty() {
            return Err(StreamError::Closed);
        }
        Ok(self.0.split_to(max.min(self.0.len())))
    }
}

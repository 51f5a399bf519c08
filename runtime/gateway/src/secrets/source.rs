//! Where the values of secrets come from: a text, a file, a command, or a server of Vault.

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use flow::SecretName;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use reqwest::{Client, Request, Url};
use tokio::{io::AsyncReadExt as _, process::Command};
use tracing::warn;

use super::without_value;
use crate::HttpError;

/// How long a command, or an answer of Vault, may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a failure is kept: calls that wait for the value do not ask again one after the other.
const FAILURE_KEPT: Duration = Duration::from_secs(2);

/// After this time, the log says again why a secret has no value.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// The maximum size of what a command prints, in bytes: longer ones are no secrets.
const MAX_PRINTED_BYTES: u64 = 64 << 10;

/// The maximum size of an answer of Vault, in bytes: the one that Vault has for a request by default is 32 MiB, but an entry with
/// secrets has a few.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Where the value of a secret comes from.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// The value itself.
    Text(String),
    /// A file, which is read for each request: a replaced file takes effect with the next one.
    File(PathBuf),
    /// What a program prints.
    Command {
        /// The absolute path of the program, and its arguments.
        command: Vec<String>,
        /// How long a value is used before the program is run again.
        refresh: Duration,
    },
    /// A field of an entry of Vault.
    Vault(VaultEntry),
}

/// A field of an entry of the key-value store of Vault, version 2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VaultEntry {
    /// The address of the entry: that of the server, `/v1/`, and the path.
    pub url: Url,
    /// The field.
    pub field: String,
    /// The file with the token, which is read for each answer that is needed.
    pub token_file: PathBuf,
    /// The namespace in Vault.
    pub namespace: Option<String>,
    /// How long a value is used before it is asked for again.
    pub refresh: Duration,
}

/// The value, and the arguments of a command, are not shown.
impl fmt::Debug for SecretSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => out.write_str("Text"),
            Self::File(path) => out.debug_tuple("File").field(path).finish(),
            Self::Command { command, .. } => out.debug_tuple("Command").field(&command.first()).finish(),
            Self::Vault(entry) => out.debug_tuple("Vault").field(entry).finish(),
        }
    }
}

/// The values that were fetched, for as long as they may be used.
#[derive(Debug, Default)]
pub(crate) struct FetchedValues {
    slots: Mutex<HashMap<SecretSource, Arc<Slot>>>,
    /// Why secrets had no value, and when the log said so.
    logged: Mutex<HashMap<SecretName, (String, Instant)>>,
}

/// The last result of one source. Whoever holds the lock fetches, so that a source is asked once at a time.
type Slot = tokio::sync::Mutex<Option<Fetched>>;

struct Fetched {
    /// The value, or why there is none. Neither is what the source has answered otherwise.
    result: Result<String, String>,
    at: Instant,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Fetched").finish_non_exhaustive()
    }
}

impl FetchedValues {
    /// The value of a secret now. `client` sends requests to the servers that the operator names.
    ///
    /// # Errors
    /// The reason why there is none. It may name files and addresses, so it is only for the operator.
    pub(crate) async fn get(
        &self,
        source: &SecretSource,
        client: impl Future<Output = Result<Client, HttpError>>,
    ) -> Result<String, String> {
        let refresh = match source {
            SecretSource::Text(text) => return Ok(text.clone()),
            SecretSource::File(path) => return read(path).await,
            SecretSource::Command { refresh, .. } | SecretSource::Vault(VaultEntry { refresh, .. }) => *refresh,
        };
        let slot = self.slot(source);
        let mut last = slot.lock().await;
        if let Some(Fetched { result, at }) = &*last {
            let kept = if result.is_ok() { refresh } else { refresh.min(FAILURE_KEPT) };
            if at.elapsed() < kept {
                return result.clone();
            }
        }
        let fetch = async {
            match source {
                SecretSource::Command { command, .. } => print(command).await,
                SecretSource::Vault(entry) => {
                    let client = client.await.map_err(|error| error.to_string())?;
                    ask_vault(entry, &client).await
                }
                SecretSource::Text(_) | SecretSource::File(_) => unreachable!("they are not kept"),
            }
        };
        let result = tokio::time::timeout(FETCH_TIMEOUT, fetch).await;
        let result = result.unwrap_or_else(|_| Err(format!("{} did not answer in {FETCH_TIMEOUT:?}", what(source))));
        *last = Some(Fetched { result: result.clone(), at: Instant::now() });
        result
    }

    /// The error for a guest whose request needs a secret that has no value. Only the log says why.
    pub(crate) fn unavailable(&self, name: &SecretName, reason: String) -> HttpError {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        // A guest can try again as often as it likes.
        let is_logged = |(known, at): &(String, Instant)| *known == reason && at.elapsed() < LOG_AGAIN;
        if !logged.get(name).is_some_and(is_logged) {
            warn!(secret = %name, reason, "a secret of a guest has no value");
            logged.insert(name.clone(), (reason, Instant::now()));
        }
        without_value(name, "the log of its worker says why")
    }

    /// The value of a secret, without asking for it: of a command or of Vault, the last one that was fetched.
    pub(crate) async fn known(&self, source: &SecretSource) -> Option<String> {
        match source {
            SecretSource::Text(text) => Some(text.clone()),
            SecretSource::File(path) => read(path).await.ok(),
            SecretSource::Command { .. } | SecretSource::Vault(_) => {
                let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(source).cloned()?;
                let last = slot.lock().await;
                last.as_ref().and_then(|fetched| fetched.result.clone().ok())
            }
        }
    }

    fn slot(&self, source: &SecretSource) -> Arc<Slot> {
        // A panic in another thread cannot leave the map half changed.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if !slots.contains_key(source) {
            // Sources that the settings no longer have are forgotten with their values.
            slots.retain(|known, slot| {
                let is_fresh = |fetched: &Fetched| fetched.at.elapsed() < refresh_of(known);
                slot.try_lock().map_or(true, |last| last.as_ref().is_some_and(is_fresh))
            });
        }
        slots.entry(source.clone()).or_default().clone()
    }
}

fn refresh_of(source: &SecretSource) -> Duration {
    match source {
        SecretSource::Command { refresh, .. } | SecretSource::Vault(VaultEntry { refresh, .. }) => *refresh,
        SecretSource::Text(_) | SecretSource::File(_) => Duration::ZERO,
    }
}

fn what(source: &SecretSource) -> String {
    match source {
        SecretSource::Command { command, .. } => program(command).to_owned(),
        SecretSource::Vault(VaultEntry { url, .. }) => format!("Vault at {url}"),
        SecretSource::Text(_) | SecretSource::File(_) => "it".to_owned(),
    }
}

fn program(command: &[String]) -> &str {
    command.first().map_or("", String::as_str)
}

/// Reads the secret in a file.
async fn read(path: &Path) -> Result<String, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || credentials::read_secret("the secret", &path)).await;
    read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Runs a program, and returns what it prints. Dropping the future kills it.
async fn print(command: &[String]) -> Result<String, String> {
    let program = program(command);
    let failed = |error: io::Error| format!("{program} could not be run: {error}");
    let mut child = Command::new(program)
        .args(command.iter().skip(1))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // It may contain a part of the secret.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut printed = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_PRINTED_BYTES + 1).read_to_end(&mut printed).await.map_err(failed)?;
    }
    if printed.len() as u64 > MAX_PRINTED_BYTES {
        return Err(format!("{program} prints more than {MAX_PRINTED_BYTES} bytes"));
    }
    let status = child.wait().await.map_err(failed)?;
    if !status.success() {
        return Err(format!("{program} failed: {status}"));
    }
    credentials::parse_secret(printed).map_err(|reason| format!("what {program} prints cannot be used: {reason}"))
}

/// Asks Vault for a field of an entry: see "Read Secret Version" of its API.
async fn ask_vault(entry: &VaultEntry, client: &Client) -> Result<String, String> {
    let VaultEntry { url, field, token_file, namespace, refresh: _ } = entry;
    let token = read(token_file).await?;
    let header = |what: &str, text: &str| {
        let value = HeaderValue::from_str(text).map_err(|_| format!("a header cannot contain the {what} for Vault"))?;
        Ok::<_, String>(value)
    };
    let mut request = Request::new(Method::GET, url.clone());
    let mut token = header("token", &token)?;
    token.set_sensitive(true);
    request.headers_mut().insert(HeaderName::from_static("x-vault-token"), token);
    // An agent of Vault may require it, against requests that a browser was tricked into.
    request.headers_mut().insert(HeaderName::from_static("x-vault-request"), HeaderValue::from_static("true"));
    if let Some(namespace) = namespace {
        request.headers_mut().insert(HeaderName::from_static("x-vault-namespace"), header("namespace", namespace)?);
    }
    let of_vault = |reason: &str| format!("Vault at {url}: {reason}");
    let mut response = client.execute(request).await.map_err(|error| of_vault(&HttpError::of(error).to_string()))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::FORBIDDEN => {
            return Err(of_vault("status 403: the token is not valid, or its policy does not let it read the path"));
        }
        StatusCode::NOT_FOUND => {
            return Err(of_vault(
                "status 404: there is no such entry, its version was deleted, or the path lacks `data` after the mount",
            ));
        }
        StatusCode::SERVICE_UNAVAILABLE => return Err(of_vault("status 503: it is sealed, or in maintenance")),
        other => return Err(of_vault(&format!("status {}", other.as_u16()))),
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| of_vault(&HttpError::of(error).to_string()))? {
        if body.len() + part.len() > MAX_ANSWER_BYTES {
            return Err(of_vault(&format!("its answer has more than {MAX_ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&part);
    }
    let answer: serde_json::Value = serde_json::from_slice(&body).map_err(|_| of_vault("its answer is no JSON"))?;
    match answer.pointer("/data/data").and_then(|data| data.get(field)) {
        Some(serde_json::Value::String(value)) => credentials::parse_secret(value.clone().into_bytes())
            .map_err(|reason| of_vault(&format!("the field {field} cannot be used: {reason}"))),
        Some(_) => Err(of_vault(&format!("the field {field} is no text"))),
        None => Err(of_vault(&format!("the entry has no field {field}, or is not of a key-value store of version 2"))),
    }
}

#[cfg(test)]
mod tests;

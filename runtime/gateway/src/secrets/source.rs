//! Where the values of secrets come from: a text, a file, a command, or a server of Vault.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::{io::AsyncReadExt as _, process::Command};
use url::Url;

use crate::{
    HttpError,
    clients::{Client, ClientRequest},
};

/// How long a command, or an answer of Vault, may take.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of what a command prints, in bytes: longer ones are no secrets.
const MAX_PRINTED_BYTES: u64 = 64 << 10;

/// The maximum size of an answer of Vault, in bytes: the one that Vault has for a request by default is 32 MiB, but an entry with
/// secrets has a few.
pub(super) const MAX_ANSWER_BYTES: usize = 1 << 20;

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

/// Runs the command of a source, or asks Vault. `client` sends requests to the servers that the operator names.
///
/// # Errors
/// The reason why there is no value. It is not what the source has answered otherwise.
pub(super) async fn fetch(
    source: &SecretSource,
    client: impl Future<Output = Result<Client, HttpError>>,
) -> Result<String, String> {
    let fetch = async {
        match source {
            SecretSource::Text(text) => Ok(text.clone()),
            SecretSource::File(path) => read(path).await,
            SecretSource::Command { command, .. } => print(command).await,
            SecretSource::Vault(entry) => {
                let client = client.await.map_err(|error| error.to_string())?;
                ask_vault(entry, &client).await
            }
        }
    };
    let result = tokio::time::timeout(FETCH_TIMEOUT, fetch).await;
    result.unwrap_or_else(|_| Err(format!("{} did not answer in {FETCH_TIMEOUT:?}", what(source))))
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
pub(super) async fn read(path: &Path) -> Result<String, String> {
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
    let mut headers = HeaderMap::new();
    let mut token = header("token", &token)?;
    token.set_sensitive(true);
    headers.insert(HeaderName::from_static("x-vault-token"), token);
    // An agent of Vault may require it, against requests that a browser was tricked into.
    headers.insert(HeaderName::from_static("x-vault-request"), HeaderValue::from_static("true"));
    if let Some(namespace) = namespace {
        headers.insert(HeaderName::from_static("x-vault-namespace"), header("namespace", namespace)?);
    }
    let of_vault = |reason: &str| format!("Vault at {url}: {reason}");
    let too_long = || of_vault(&format!("its answer has more than {MAX_ANSWER_BYTES} bytes"));
    let failed = |error| match error {
        HttpError::TooLarge { .. } => too_long(),
        error => of_vault(&error.to_string()),
    };
    let request = ClientRequest { method: Method::GET, url: url.clone(), headers, body: Bytes::new() };
    let mut response = client.send(request).await.map_err(failed)?;
    match response.status {
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
    while let Some(part) = response.chunk().await.map_err(failed)? {
        if body.len() + part.len() > MAX_ANSWER_BYTES {
            return Err(too_long());
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

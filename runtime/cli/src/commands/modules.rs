//! `waft modules`: lists the contents of the store, and who signed them.

use api::{ModuleSignature, StoredModule};
use flow::Size;
use serde_json::json;

use super::{push, remote};
use crate::{
    arguments::ModulesCommand,
    exit::{CliError, Exit},
    keys::{self, SignerNames},
    modules,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, command: Option<ModulesCommand>, as_json: bool) -> Result<Exit, CliError> {
    match command {
        None => list(settings, as_json).await,
        Some(ModulesCommand::Sign { digest, key, tag, password_file }) => {
            let key = keys::read_secret(&key, password_file.as_deref())?;
            push::sign_stored(settings, &digest, tag.as_deref(), &key).await
        }
    }
}

async fn list(settings: &Settings, as_json: bool) -> Result<Exit, CliError> {
    let (location, contents) = if settings.server.is_chosen() {
        let client = remote::client(settings)?;
        let contents = client.modules().await.map_err(remote::cli_error)?.modules;
        (format!("the store of {}", client.server()), contents)
    } else {
        let store = modules::open_store_to_read(settings).await?;
        let contents = ::server::stored_modules(&*store, None).await.map_err(CliError::unreachable)?;
        (format!("the store {}", settings.store.display()), contents)
    };
    if contents.is_empty() {
        crate::output::note!("{location} is empty; `waft push FILE` stores a module");
    } else if !as_json {
        crate::output::say!("{:71}  {:>10}  {:19}  TAGS", "DIGEST", "SIZE", "STORED");
    }
    let names = SignerNames::read();
    for StoredModule { digest, size, stored_at, tags, signatures, .. } in contents {
        if as_json {
            crate::output::json(
                json!({"digest": digest, "size": size, "stored_at": stored_at, "tags": tags, "signatures": signatures}),
            );
        } else {
            let size = format!("{:#}", Size(size));
            let stored: String = stored_at.chars().take(19).collect();
            crate::output::say!("{}", format!("{digest}  {size:>10}  {stored}  {}", tags.join(" ")).trim_end());
            signatures.iter().for_each(|signature| print_signature(&names, signature));
        }
    }
    Ok(Exit::Success)
}

/// Prints who signed a module.
pub(super) fn print_signature(names: &SignerNames, ModuleSignature { signer, tag, signed_at, .. }: &ModuleSignature) {
    let at: String = signed_at.chars().take(19).collect();
    let tag = tag.as_ref().map(|tag| format!(" for {tag}")).unwrap_or_default();
    crate::output::say!("  signed by {}{tag} at {at}", names.of(signer));
}

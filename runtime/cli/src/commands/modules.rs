//! `waft modules`: lists the contents of the store, and who signed them.

use api::{ModuleSignature, Modules, ModulesQuery, StoredModule};
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

/// The number of contents that a server is asked for at once.
const PAGE: usize = 500;

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
    let mut listing = Listing { as_json, is_empty: true, names: SignerNames::read() };
    let location = if settings.server.is_chosen() {
        let client = remote::client(settings)?;
        let mut query = ModulesQuery { limit: Some(PAGE), ..ModulesQuery::default() };
        loop {
            let Modules { modules, next, .. } = client.modules(&query).await.map_err(remote::cli_error)?;
            listing.print(modules);
            let Some(next) = next else { break };
            query.after = Some(next);
        }
        format!("the store of {}", client.server())
    } else {
        let store = modules::open_store_to_read(settings).await?;
        let contents = ::server::stored_modules(&*store, None, ::server::ModulesPage::ALL).await;
        listing.print(contents.map_err(CliError::unreachable)?.modules);
        format!("the store {}", settings.store.display())
    };
    if listing.is_empty {
        crate::output::note!("{location} is empty; `waft push FILE` stores a module");
    }
    Ok(Exit::Success)
}

/// The contents that are printed, page by page.
struct Listing {
    as_json: bool,
    is_empty: bool,
    names: SignerNames,
}

impl Listing {
    fn print(&mut self, contents: Vec<StoredModule>) {
        let has_begun = !self.is_empty;
        self.is_empty &= contents.is_empty();
        if !has_begun && !self.is_empty && !self.as_json {
            crate::output::say!("{:71}  {:>10}  {:19}  TAGS", "DIGEST", "SIZE", "STORED");
        }
        for StoredModule { digest, size, stored_at, tags, signatures, .. } in contents {
            if self.as_json {
                crate::output::json(
                    json!({"digest": digest, "size": size, "stored_at": stored_at, "tags": tags, "signatures": signatures}),
                );
            } else {
                let size = format!("{:#}", Size(size));
                let stored: String = stored_at.chars().take(19).collect();
                crate::output::say!("{}", format!("{digest}  {size:>10}  {stored}  {}", tags.join(" ")).trim_end());
                signatures.iter().for_each(|signature| print_signature(&self.names, signature));
            }
        }
    }
}

/// Prints who signed a module.
pub(super) fn print_signature(names: &SignerNames, ModuleSignature { signer, tag, signed_at, .. }: &ModuleSignature) {
    let at: String = signed_at.chars().take(19).collect();
    let tag = tag.as_ref().map(|tag| format!(" for {tag}")).unwrap_or_default();
    crate::output::say!("  signed by {}{tag} at {at}", names.of(signer));
}

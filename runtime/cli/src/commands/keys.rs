//! `waft keys`: makes and lists the keys that sign modules.

use anyhow::anyhow;
use serde_json::json;

use crate::{
    arguments::KeysCommand,
    exit::{CliError, Exit},
    keys::{self, KnownKey},
};

pub(super) fn run(command: KeysCommand) -> Result<Exit, CliError> {
    match command {
        KeysCommand::Create { name, out, password_file } => {
            let folder = out.map_or_else(keys::folder, Ok)?;
            let password = password_file.as_deref().map(keys::read_password).transpose()?;
            let KnownKey { name, signer, file } = keys::create(&folder, &name, password.as_deref())?;
            crate::output::say!("{signer}");
            let secret = file.with_file_name(format!("{name}.key"));
            let protection = if password.is_some() { "encrypted" } else { "without a password" };
            crate::output::note!(
                "the line above is the public key, also in {}; the secret key, {protection}, is in {}",
                file.display(),
                secret.display()
            );
        }
        KeysCommand::List { json: as_json } => list(as_json)?,
        KeysCommand::Show { name } => {
            let known = keys::known().into_iter().find(|key| key.name == name);
            let key = known.ok_or_else(|| {
                CliError::invalid(anyhow!("there is no key {name}")).hint("`waft keys list` lists the keys")
            })?;
            crate::output::say!("{}", key.signer);
        }
    }
    Ok(Exit::Success)
}

fn list(as_json: bool) -> Result<(), CliError> {
    let known = keys::known();
    if known.is_empty() {
        let folder = keys::folder()?;
        crate::output::note!("{} has no keys; `waft keys create NAME` makes one", folder.display());
    } else if !as_json {
        crate::output::say!("{:20}  {:16}  PUBLIC KEY", "NAME", "KEY ID");
    }
    for KnownKey { name, signer, file } in known {
        if as_json {
            let (signer, key_id) = (signer.to_string(), signer.key_id());
            crate::output::json(json!({"name": name, "signer": signer, "key_id": key_id, "file": file}));
        } else {
            crate::output::say!("{name:20}  {}  {signer}", signer.key_id());
        }
    }
    Ok(())
}

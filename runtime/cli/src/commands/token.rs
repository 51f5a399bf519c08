//! `waft token`: makes, lists and revokes the tokens of a server.

use api::{NewToken, Scope, Token};
use flow::TokenName;

use super::remote;
use crate::{
    arguments::TokenCommand,
    exit::{CliError, Exit},
    output, sanitize,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, command: TokenCommand) -> Result<Exit, CliError> {
    match command {
        TokenCommand::Create { name, scope, expires, json } => create(settings, name, &scope, expires, json).await?,
        TokenCommand::List { json } => list(settings, json).await?,
        TokenCommand::Revoke { name } => {
            let name = TokenName::new(&name).map_err(CliError::invalid)?;
            let name = name.as_str();
            remote::client(settings)?.revoke_token(name).await.map_err(remote::cli_error)?;
            crate::output::note!("the token {name} is revoked");
        }
    }
    Ok(Exit::Success)
}

async fn create(
    settings: &Settings,
    name: String,
    scopes: &[String],
    expires: Option<String>,
    as_json: bool,
) -> Result<(), CliError> {
    let lifetime = expires.map(|text| flow::parse_duration(&text)).transpose();
    let lifetime = lifetime.map_err(|error| CliError::invalid(anyhow::anyhow!("--expires: {error}")))?;
    let scopes = scopes.iter().map(|scope| Scope::from(scope.as_str()));
    let new = NewToken::new(name, scopes);
    let new = match lifetime {
        Some(lifetime) => new.expires_in(lifetime),
        None => new,
    };
    let created = remote::client(settings)?.create_token(&new).await.map_err(remote::cli_error)?;
    if as_json {
        output::json(serde_json::to_string(&created).map_err(CliError::unreachable)?);
        return Ok(());
    }
    output::line(&created.secret);
    crate::output::note!(
        "the line above is the token {}: it is not shown again. Its owner sets WAFT_TOKEN to it",
        created.token.name
    );
    Ok(())
}

async fn list(settings: &Settings, as_json: bool) -> Result<(), CliError> {
    let client = remote::client(settings)?;
    let tokens = client.tokens().await.map_err(remote::cli_error)?.tokens;
    if as_json {
        for token in &tokens {
            output::json(serde_json::to_string(token).map_err(CliError::unreachable)?);
        }
        return Ok(());
    }
    if tokens.is_empty() {
        crate::output::note!("{} has no tokens; `waft token create NAME --scope SCOPES` makes one", client.server());
        return Ok(());
    }
    let width = tokens.iter().map(|token| token.name.len()).max().unwrap_or(0).max(4);
    let scopes = |token: &Token| token.scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(",");
    let scope_width = tokens.iter().map(|token| scopes(token).len()).max().unwrap_or(0).max(6);
    crate::output::say!("{:width$}  {:scope_width$}  {:19}  EXPIRES", "NAME", "SCOPES", "MADE");
    for token in &tokens {
        let second = |at: &str| at.chars().take(19).collect::<String>();
        let expires = token.expires_at.as_deref().map_or_else(|| "never".into(), second);
        let (name, made) = (&token.name, second(&token.created_at));
        let line = format!("{name:width$}  {:scope_width$}  {made:19}  {expires}", scopes(token));
        output::line(&sanitize::one_line(&line));
    }
    Ok(())
}

//! `waft token`: makes, lists and revokes the tokens of a server.

use api::{NewToken, Scope};
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
        TokenCommand::Create { name, scope, namespace, expires, json } => {
            let new = NewToken::new(name, scope.iter().map(|scope| Scope::from(scope.as_str())));
            let new = match namespace {
                Some(namespace) => new.namespace(namespace),
                None => new,
            };
            create(settings, new, expires, json).await?;
        }
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

async fn create(settings: &Settings, new: NewToken, expires: Option<String>, as_json: bool) -> Result<(), CliError> {
    let lifetime = expires.map(|text| flow::parse_duration(&text)).transpose();
    let lifetime = lifetime.map_err(|error| CliError::invalid(anyhow::anyhow!("--expires: {error}")))?;
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
        sanitize::one_line(&created.token.name)
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
    let second = |at: &str| at.chars().take(19).collect::<String>();
    let mut rows = vec![["NAME", "SCOPES", "NAMESPACE", "MADE", "EXPIRES"].map(str::to_owned)];
    rows.extend(tokens.iter().map(|token| {
        [
            token.name.clone(),
            token.scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(","),
            token.namespace.clone().unwrap_or_else(|| "all".into()),
            second(&token.created_at),
            token.expires_at.as_deref().map_or_else(|| "never".into(), second),
        ]
    }));
    let widths = [0, 1, 2, 3].map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    for [name, scopes, namespace, made, expires] in &rows {
        let [name_width, scopes_width, namespace_width, made_width] = widths;
        let line = format!(
            "{name:name_width$}  {scopes:scopes_width$}  {namespace:namespace_width$}  {made:made_width$}  {expires}"
        );
        output::line(&sanitize::one_line(&line));
    }
    Ok(())
}

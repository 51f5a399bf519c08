//! The users of a node: `guest`, and one for each role of waft. Only the binary `waft` knows the permissions of the roles.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    process::{self, shown},
    project,
};

/// The password of each user of a role.
pub(super) const PASSWORD: &str = "waft";

/// The user with the role that declares exchanges.
pub(super) const ENGINE: &str = "engine";

/// The virtual host of a node.
const VHOST: &str = "/";

/// The users of a node and their permissions, in RabbitMQ's format of definitions. A node that reads these when it starts makes
/// no user itself, so they contain `guest`.
pub(super) fn definitions(waft: &Path) -> Result<String> {
    let printed = output(waft, &["broker", "permissions", "--json", "--vhost", VHOST])?;
    let roles: serde_json::Result<Vec<Value>> = printed.lines().map(serde_json::from_str).collect();
    let roles = roles.with_context(|| format!("{} broker permissions --json prints no JSON", waft.display()))?;
    Ok(definitions_of(&roles).to_string())
}

fn definitions_of(roles: &[Value]) -> Value {
    let mut users = vec![json!({"name": "guest", "password": "guest", "tags": "administrator"})];
    let mut permissions =
        vec![json!({"user": "guest", "vhost": VHOST, "configure": ".*", "write": ".*", "read": ".*"})];
    let mut topic_permissions = Vec::new();
    for role in roles {
        let (user, vhost) = (&role["user"], &role["vhost"]);
        users.push(json!({"name": user, "password": PASSWORD, "tags": ""}));
        permissions.push(json!({
            "user": user, "vhost": vhost,
            "configure": role["configure"], "write": role["write"], "read": role["read"],
        }));
        for topic in role["topics"].as_array().into_iter().flatten() {
            topic_permissions.push(json!({
                "user": user, "vhost": vhost,
                "exchange": topic["exchange"], "write": topic["write"], "read": topic["read"],
            }));
        }
    }
    json!({
        "vhosts": [{"name": VHOST}], "users": users, "permissions": permissions, "topic_permissions": topic_permissions,
    })
}

/// Declares the exchanges of waft and the queue of jobs `default`: only an engine may declare them.
pub(super) fn declare_shared(waft: &Path, url: &str) -> Result<()> {
    output(waft, &["broker", "setup", "--queues", "default", "--broker", url]).map(drop)
}

/// Runs the binary without the settings of the user who runs this, and returns its standard output.
fn output(waft: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = without_settings(waft);
    let command = command.args(arguments);
    let output = command.output().with_context(|| format!("could not run `{}`", shown(command)))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{}` failed; if the binary is old, build it again:\n{stderr}", shown(command));
    String::from_utf8(output.stdout).with_context(|| format!("`{}` prints no UTF-8", shown(command)))
}

fn without_settings(waft: &Path) -> Command {
    let mut command = process::command(waft);
    let settings = std::env::vars_os().map(|(name, _)| name);
    for name in settings.filter(|name| name.to_string_lossy().starts_with("WAFT_")) {
        command.env_remove(name);
    }
    command.current_dir(project::root()).env("XDG_CONFIG_HOME", "/nowhere");
    command
}

/// The address of a broker for another user. The password is written as in an address.
pub fn with_user(url: &str, user: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("amqp", url));
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{user}:{password}@{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_another_user() {
        for (url, expected) in [
            ("amqp://guest:guest@127.0.0.1:5672/%2f", "amqp://worker:waft@127.0.0.1:5672/%2f"),
            ("amqp://localhost", "amqp://worker:waft@localhost"),
            ("amqps://eve@[::1]:5671?cacertfile=/a@b.pem", "amqps://worker:waft@[::1]:5671?cacertfile=/a@b.pem"),
        ] {
            assert_eq!(with_user(url, "worker", "waft"), expected);
        }
    }

    #[test]
    fn definitions_contain_guest_and_each_role_with_its_permissions() {
        let role = json!({
            "role": "listener", "user": "listener", "vhost": "/", "configure": "c", "write": "w", "read": "r",
            "topics": [{"exchange": "e", "write": "tw", "read": "tr"}],
        });
        let definitions = definitions_of(&[role]);
        let names: Vec<&Value> = definitions["users"].as_array().unwrap().iter().map(|user| &user["name"]).collect();
        assert_eq!(names, ["guest", "listener"]);
        assert_eq!(
            definitions["permissions"][1],
            json!({"user": "listener", "vhost": "/", "configure": "c", "write": "w", "read": "r"})
        );
        assert_eq!(
            definitions["topic_permissions"],
            json!([{"user": "listener", "vhost": "/", "exchange": "e", "write": "tw", "read": "tr"}])
        );
    }
}

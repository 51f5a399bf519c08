//! Settings of an operator that a guest reads by their names: configuration values and environment variables.

use super::AccessDenial;

/// Where a guest reads a setting of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingKind {
    /// `wasi:config/store`.
    Config,
    /// The environment variables.
    Variable,
}

/// The value of a setting that a flow asks for, or why the call does not get it.
pub type Setting = Result<String, AccessDenial>;

impl SettingKind {
    /// The key of `allow` and of a grant.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Variable => "env",
        }
    }

    pub(super) fn describe(self, name: &str) -> String {
        match self {
            Self::Config => format!("the configuration value {name}"),
            Self::Variable => format!("the environment variable {name}"),
        }
    }

    /// The denial of a setting that the flow does not ask for. A guest chose the name.
    #[must_use]
    pub fn not_asked(self, name: &str) -> AccessDenial {
        let name: String = name.chars().take(MAX_SHOWN_CHARS).collect();
        let ask = format!("allow = {{ {} = [{name:?}] }}", self.key());
        AccessDenial::NotAsked { tried: self.describe(&name.escape_debug().to_string()), ask }
    }
}

/// The maximum length of a guest's own text in a denial, in characters: as long as names may be.
const MAX_SHOWN_CHARS: usize = 100;

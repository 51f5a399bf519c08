//! `wasi:config/store`: the configuration values that the operator grants, by their names.
//!
//! The interface is a draft of WASI, and its two versions in use are the same. It is linked by hand, since a library for two functions
//! would be more code.

use flow::SettingKind;
use wasmtime::{
    StoreContextMut,
    component::{ComponentType, Linker, Lower},
};

use super::HostState;

/// The versions that guests import. No version of a draft stands for another, so each is linked.
const VERSIONS: [&str; 2] = ["wasi:config/store@0.2.0-draft", "wasi:config/store@0.2.0-rc.1"];

/// The error of the interface.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(variant)]
enum ConfigError {
    /// The value is denied.
    #[component(name = "upstream")]
    Upstream(String),
    /// No value of waft is read from a device.
    #[component(name = "io")]
    #[expect(dead_code, reason = "the interface has it")]
    Io(String),
}

type Get = Result<Option<String>, ConfigError>;
type GetAll = Result<Vec<(String, String)>, ConfigError>;

/// Links the interface.
pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    for version in VERSIONS {
        let mut store = linker.instance(version)?;
        store.func_wrap("get", |store: StoreContextMut<'_, HostState>, (name,): (String,)| {
            Ok((store.data().config_value(&name),))
        })?;
        store.func_wrap("get-all", |store: StoreContextMut<'_, HostState>, (): ()| {
            Ok((store.data().config_values(),))
        })?;
    }
    Ok(())
}

impl HostState {
    /// The value of a name. A name that the call may not read is an error, not a missing value: the guest would go on without it.
    fn config_value(&self, name: &str) -> Get {
        let reason = match self.config.get(name) {
            Some(Ok(value)) => return Ok(Some(value.clone())),
            Some(Err(reason)) => reason.clone(),
            None => SettingKind::Config.not_asked(name).to_string(),
        };
        self.denied.note(|| reason.clone());
        Err(ConfigError::Upstream(reason))
    }

    /// The values that the call may read.
    fn config_values(&self) -> GetAll {
        let value = |(name, value): (&String, &Result<String, String>)| Some((name.clone(), value.clone().ok()?));
        Ok(self.config.iter().filter_map(value).collect())
    }
}

//! Reads values by `wasi:config/store`.

use bindings::wasi::config::store;

mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "config",
        generate_all,
    });
}

/// The value of a name, or why it cannot be read.
pub(super) fn get(name: &str) -> Result<Option<String>, String> {
    store::get(name).map_err(|error| match error {
        // The failure of the call gets the reason from the host.
        store::Error::Upstream(_) => "it is not allowed".into(),
        store::Error::Io(reason) => reason,
    })
}

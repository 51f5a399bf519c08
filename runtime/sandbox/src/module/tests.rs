//! The imports of a module.

use wasmtime::{
    Engine,
    component::{Linker, ResourceType},
};

use super::*;
use crate::host_state::{self, HostState};

/// One item of each granted interface.
const INTERFACE_ITEMS: [(&str, &str); 32] = [
    ("waft:task/host", "progress"),
    ("waft:task/types", ""),
    ("wasi:cli/environment", "get-environment"),
    ("wasi:cli/exit", "exit"),
    ("wasi:cli/stderr", "get-stderr"),
    ("wasi:cli/stdin", "get-stdin"),
    ("wasi:cli/stdout", "get-stdout"),
    ("wasi:cli/terminal-input", "terminal-input"),
    ("wasi:cli/terminal-output", "terminal-output"),
    ("wasi:cli/terminal-stderr", "get-terminal-stderr"),
    ("wasi:cli/terminal-stdin", "get-terminal-stdin"),
    ("wasi:cli/terminal-stdout", "get-terminal-stdout"),
    ("wasi:clocks/monotonic-clock", "now"),
    ("wasi:clocks/wall-clock", "now"),
    ("wasi:config/store", "get"),
    ("wasi:filesystem/preopens", "get-directories"),
    ("wasi:filesystem/types", "descriptor"),
    ("wasi:http/outgoing-handler", "handle"),
    ("wasi:http/types", "fields"),
    ("wasi:io/error", "error"),
    ("wasi:io/poll", "poll"),
    ("wasi:io/streams", "input-stream"),
    ("wasi:random/insecure", "get-insecure-random-u64"),
    ("wasi:random/insecure-seed", "insecure-seed"),
    ("wasi:random/random", "get-random-u64"),
    ("wasi:sockets/instance-network", "instance-network"),
    ("wasi:sockets/ip-name-lookup", "resolve-addresses"),
    ("wasi:sockets/network", "network"),
    ("wasi:sockets/tcp", "tcp-socket"),
    ("wasi:sockets/tcp-create-socket", "create-tcp-socket"),
    ("wasi:sockets/udp", "udp-socket"),
    ("wasi:sockets/udp-create-socket", "create-udp-socket"),
];

/// Whether a linker has this item: it then cannot be defined a second time. Only one of WASI's patch versions is linked.
fn has(linker: &mut Linker<HostState>, interface: &str, item: &str) -> bool {
    let versions: Vec<String> = match interface.starts_with("waft:") {
        true => vec!["1.0.0".into()],
        false if interface.starts_with("wasi:config/") => vec!["0.2.0-draft".into(), "0.2.0-rc.1".into()],
        false => (0..100).map(|patch| format!("0.2.{patch}")).collect(),
    };
    versions.iter().any(|version| {
        let mut instance = linker.instance(&format!("{interface}@{version}")).unwrap();
        instance.resource(item, ResourceType::host::<()>(), |_, _| Ok(())).is_err()
    })
}

#[test]
fn granted_interfaces_equal_linked_interfaces() {
    let mut linker = Linker::<HostState>::new(&Engine::default());
    host_state::link(&mut linker).unwrap();
    assert_eq!(INTERFACE_ITEMS.map(|(interface, _)| interface), GRANTED);
    // Interfaces that have only types need no linking.
    for (interface, item) in INTERFACE_ITEMS.into_iter().filter(|(_, item)| !item.is_empty()) {
        assert!(has(&mut linker, interface, item), "{interface} has no {item}");
    }
    assert!(
        !has(&mut linker, "wasi:http/incoming-handler", "handle"),
        "an interface that is not granted is not linked"
    );
}

#[test]
fn compatible_versions_are_granted() {
    assert!(is_granted("wasi:cli/stdin@0.2.0"));
    assert!(is_granted("wasi:cli/stdin@0.2.12"));
    assert!(is_granted("waft:task/host@1.3.0"));
    for other in
        ["wasi:cli/stdin@0.3.0", "wasi:cli/stdin", "waft:task/host@2.0.0", "wasi:http/incoming-handler@0.2.0", "stdin"]
    {
        assert!(!is_granted(other), "{other}");
    }
}

//! Tests that a guest cannot block the threads of its worker with lookups.

use std::time::Duration;

use futures::future::join_all;
use gateway::LookupShare;
use wasmtime_wasi_io::poll::Pollable as _;

use super::*;

/// The sockets of a call that may connect to every host.
fn sockets(lookups: &LookupShare) -> Sockets {
    let access = flow::Access { sockets: ["*:80".parse().unwrap()].into_iter().collect(), ..flow::Access::default() };
    let grants = flow::Grants(vec![flow::Grant { access: access.clone(), ..flow::Grant::default() }]);
    let digest = flow::Digest::from_bytes([0; 32]);
    let access = Arc::new(grants.of_call(&access, &"f".parse().unwrap(), &"t".parse().unwrap(), &digest));
    Sockets::new(Granted::Granted { access, lookups: lookups.clone() }, 1 << 20, Denied::default())
}

fn look_up(view: &mut SocketsView<'_>, name: &str) -> SocketResult<Resource<ResolveAddressStream>> {
    use wasmtime_wasi::p2::bindings::sockets::instance_network::Host as _;
    let network = view.wasmtime_view().instance_network().unwrap();
    ip_name_lookup::Host::resolve_addresses(view, network, name.to_owned())
}

fn next(view: &mut SocketsView<'_>, lookup: &Resource<ResolveAddressStream>) -> SocketResult<Option<IpAddress>> {
    ip_name_lookup::HostResolveAddressStream::resolve_next_address(view, Resource::new_borrow(lookup.rep()))
}

#[tokio::test]
async fn lookups_wait_for_places_among_those_of_all_calls() {
    let lookups = LookupShare::default();
    let (mut sockets, mut table) = (sockets(&lookups), ResourceTable::new());
    let mut view = SocketsView { sockets: &mut sockets, table: &mut table };
    let places = join_all((0..4).map(|_| lookups.place())).await;
    let running: Vec<_> = (0..3).map(|_| look_up(&mut view, "localhost").unwrap()).collect();
    let first = view.table.get_mut(&lookup_of(&running[0])).unwrap();
    tokio::time::timeout(Duration::from_millis(500), first.ready()).await.expect_err("all places are taken");
    for lookup in &running {
        let error = next(&mut view, lookup).unwrap_err();
        assert!(matches!(error.downcast().unwrap(), ErrorCode::WouldBlock), "all places are taken");
    }
    let address = look_up(&mut view, "127.0.0.1").unwrap();
    assert!(next(&mut view, &address).unwrap().is_some(), "it needs no place");
    assert!(next(&mut view, &address).unwrap().is_none());
    drop(places);
    // A guest that asks for the last one only.
    let last = view.table.get_mut(&lookup_of(&running[2])).unwrap();
    tokio::time::timeout(Duration::from_secs(60), last.ready()).await.expect("nobody has to poll the others");
    assert!(next(&mut view, &running[2]).unwrap().is_some());
    let known = view.sockets.rules.hosts.lock().unwrap().values().flatten().count();
    assert!(known > 0, "a connection to the address is one to the host");
    for lookup in running {
        ip_name_lookup::HostResolveAddressStream::drop(&mut view, lookup).unwrap();
    }
}

#[tokio::test]
async fn a_call_looks_up_a_maximum_number_of_names() {
    let (mut sockets, mut table) = (sockets(&LookupShare::default()), ResourceTable::new());
    let mut view = SocketsView { sockets: &mut sockets, table: &mut table };
    for _ in 0..MAX_LOOKUPS {
        look_up(&mut view, "localhost").unwrap();
        look_up(&mut view, "127.0.0.1").unwrap();
    }
    assert!(look_up(&mut view, "localhost").is_err());
    look_up(&mut view, "127.0.0.1").unwrap();
}

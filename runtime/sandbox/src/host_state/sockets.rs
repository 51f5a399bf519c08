//! The TCP connections of a guest: `wasi:sockets`, of which every guest has the interfaces, and which connects where the guest is granted.
//!
//! A guest looks up hosts that it may connect to, and connects to an address. The connection is allowed if the address itself is, or a
//! host that the guest has looked up, and that has this address. `wasmtime-wasi` makes the connections.

mod lookup;
mod streams;
mod tcp;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use flow::{CallAccess, SocketHost};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::{
    WasiCtxBuilder,
    p2::{
        Network, SocketError, SocketResult,
        bindings::sockets::ip_name_lookup::ResolveAddressStream,
        bindings::sockets::tcp::TcpSocket,
        bindings::sockets::{
            instance_network, ip_name_lookup,
            network::{self, ErrorCode, IpAddress, IpAddressFamily},
            tcp as tcp_bindings, tcp_create_socket,
        },
    },
    sockets::{SocketAddrUse, WasiSockets, WasiSocketsCtx, WasiSocketsCtxView},
};
use wasmtime_wasi_io::poll::DynPollable;

use super::{HostState, denied::Denied};
use crate::call::Sockets as Granted;

use lookup::Lookup;
use streams::Budget;

/// The maximum number of sockets that a guest has at a time.
const MAX_SOCKETS: usize = 16;

/// The maximum number of names that a call looks up.
const MAX_LOOKUPS: usize = 64;

/// The maximum number of concurrent lookups of a call, so that other calls of its namespace need not wait for all of its names.
const MAX_CONCURRENT_LOOKUPS: usize = 2;

/// The sockets of one call.
pub(crate) struct Sockets {
    context: WasiSocketsCtx,
    rules: Arc<Rules>,
    budget: Budget,
    places: Arc<Semaphore>,
    /// The places of open sockets, by their handles.
    open: HashMap<u32, OwnedSemaphorePermit>,
    /// The number of lookups so far, and the places of those that run.
    lookups: (usize, Arc<Semaphore>),
    denied: Denied,
}

/// What the call may connect to.
struct Rules {
    granted: Granted,
    /// The hosts that the guest has looked up, by their addresses.
    hosts: Mutex<BTreeMap<IpAddr, BTreeSet<SocketHost>>>,
}

impl Rules {
    fn access(&self) -> Result<&CallAccess, String> {
        match &self.granted {
            Granted::Granted { access, .. } => Ok(access),
            Granted::Denied(reason) => Err(reason.clone()),
        }
    }

    fn check_connect(&self, address: SocketAddr) -> Result<(), String> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<SocketHost> = hosts.get(&address.ip().to_canonical()).into_iter().flatten().cloned().collect();
        drop(hosts);
        self.access()?.check_connect(address, &names).map_err(|denial| denial.to_string())
    }

    /// Whether `wasmtime-wasi` may use an address. It asks at each connection.
    fn allows(&self, address: SocketAddr, used_for: SocketAddrUse) -> bool {
        match used_for {
            SocketAddrUse::TcpConnect => self.check_connect(address).is_ok(),
            // A connection takes any free port of this machine.
            SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
            SocketAddrUse::TcpListen
            | SocketAddrUse::TcpAccept
            | SocketAddrUse::UdpBind
            | SocketAddrUse::UdpSend
            | SocketAddrUse::UdpReceive => false,
        }
    }
}

impl Sockets {
    /// The sockets of a call. All of them together send and receive at most `max_bytes`.
    pub(super) fn new(granted: Granted, max_bytes: u64, denied: Denied) -> Self {
        let rules = Arc::new(Rules { granted, hosts: Mutex::default() });
        let is_granted = rules.access().is_ok();
        Self {
            context: if is_granted { context(&rules) } else { WasiSocketsCtx::default() },
            rules,
            budget: Budget::new(max_bytes),
            places: Arc::new(Semaphore::new(MAX_SOCKETS)),
            open: HashMap::new(),
            lookups: (0, Arc::new(Semaphore::new(MAX_CONCURRENT_LOOKUPS))),
            denied,
        }
    }

    /// Denies something, and notes the reason.
    fn deny(&self, reason: String) -> SocketError {
        self.denied.note(|| reason);
        ErrorCode::AccessDenied.into()
    }
}

/// The context of `wasmtime-wasi` for a call that may connect. A new one allows nothing. Hosts are looked up elsewhere.
fn context(rules: &Arc<Rules>) -> WasiSocketsCtx {
    let rules = rules.clone();
    let mut builder = WasiCtxBuilder::new();
    builder.allow_tcp(true).allow_udp(false).allow_ip_name_lookup(false);
    builder.socket_addr_check(move |address, used_for| {
        let is_allowed = rules.allows(address, used_for);
        Box::pin(async move { is_allowed })
    });
    builder.build().sockets().clone()
}

/// The sockets of a call, and its resources.
pub(super) struct SocketsView<'a> {
    sockets: &'a mut Sockets,
    table: &'a mut ResourceTable,
}

struct HasSockets;

impl HasData for HasSockets {
    type Data<'a> = SocketsView<'a>;
}

/// Links the interfaces. UDP is denied to every guest.
pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    fn wasmtime_view(state: &mut HostState) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView { ctx: &mut state.sockets.context, table: &mut state.table }
    }
    fn own(state: &mut HostState) -> SocketsView<'_> {
        SocketsView { sockets: &mut state.sockets, table: &mut state.table }
    }
    fn udp(state: &mut HostState) -> WasiSocketsCtxView<'_> {
        state.denied.note(|| "it opened a UDP socket, and guests have none".into());
        wasmtime_view(state)
    }
    use wasmtime_wasi::p2::bindings::sockets::{udp as udp_bindings, udp_create_socket};
    let options = network::LinkOptions::default();
    network::add_to_linker::<_, WasiSockets>(linker, &options, wasmtime_view)?;
    instance_network::add_to_linker::<_, WasiSockets>(linker, wasmtime_view)?;
    ip_name_lookup::add_to_linker::<_, HasSockets>(linker, own)?;
    tcp_create_socket::add_to_linker::<_, HasSockets>(linker, own)?;
    tcp_bindings::add_to_linker::<_, HasSockets>(linker, own)?;
    udp_create_socket::add_to_linker::<_, WasiSockets>(linker, udp)?;
    udp_bindings::add_to_linker::<_, WasiSockets>(linker, udp)
}

impl SocketsView<'_> {
    /// What `wasmtime-wasi` does by itself.
    fn wasmtime_view(&mut self) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView { ctx: &mut self.sockets.context, table: self.table }
    }
}

impl network::HostNetwork for SocketsView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.wasmtime_view(), network)
    }
}

impl network::Host for SocketsView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.wasmtime_view().convert_error_code(error)
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasmtime_view().network_error_code(error)
    }
}

impl tcp_create_socket::Host for SocketsView<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        if let Err(reason) = self.sockets.rules.access() {
            return Err(self.sockets.deny(format!("it opened a TCP socket: {reason}")));
        }
        let permit = self.sockets.places.clone().try_acquire_owned().map_err(|_| ErrorCode::NewSocketLimit)?;
        let socket = self.wasmtime_view().create_tcp_socket(family)?;
        self.sockets.open.insert(socket.rep(), permit);
        Ok(socket)
    }
}

impl ip_name_lookup::Host for SocketsView<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        // Only a guest that may use the network has one.
        self.table.get(&network)?;
        let rules = self.sockets.rules.clone();
        let (access, lookups) = match &rules.granted {
            Granted::Granted { access, lookups } => (access, lookups.clone()),
            Granted::Denied(reason) => {
                return Err(self.sockets.deny(format!("it looked up the address of a host: {reason}")));
            }
        };
        let host = SocketHost::parse(&name).ok_or(ErrorCode::InvalidArgument)?;
        access.check_lookup(&host).map_err(|denial| self.sockets.deny(denial.to_string()))?;
        let (count, own) = &mut self.sockets.lookups;
        *count += usize::from(!host.is_address());
        if *count > MAX_LOOKUPS && !host.is_address() {
            return Err(ErrorCode::TemporaryResolverFailure.into());
        }
        let lookup = self.table.push(Lookup::start(host, lookups, own.clone()))?;
        Ok(Resource::new_own(lookup.rep()))
    }
}

/// The lookup behind a handle, whose type is one of `wasmtime-wasi`.
fn lookup_of(handle: &Resource<ResolveAddressStream>) -> Resource<Lookup> {
    Resource::new_borrow(handle.rep())
}

impl ip_name_lookup::HostResolveAddressStream for SocketsView<'_> {
    fn resolve_next_address(&mut self, lookup: Resource<ResolveAddressStream>) -> SocketResult<Option<IpAddress>> {
        let lookup = self.table.get_mut(&lookup_of(&lookup))?;
        let found = lookup.next()?;
        // An address is a host by itself, and a guest may look up any number of them.
        if let Some(address) = found
            && !lookup.host().is_address()
        {
            let mut hosts = self.sockets.rules.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.entry(address).or_default().insert(lookup.host().clone());
        }
        Ok(found.map(IpAddress::from))
    }

    fn subscribe(&mut self, lookup: Resource<ResolveAddressStream>) -> wasmtime::Result<Resource<DynPollable>> {
        wasmtime_wasi_io::poll::subscribe(self.table, lookup_of(&lookup))
    }

    fn drop(&mut self, lookup: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Lookup>::new_own(lookup.rep()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

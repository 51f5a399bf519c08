//! The operations on TCP sockets: connections are checked here, and nothing is bound or listens.

use std::net::SocketAddr;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{
    Network, SocketResult,
    bindings::sockets::{
        network::{ErrorCode, IpAddressFamily, IpSocketAddress},
        tcp::{Host, HostTcpSocket, ShutdownType, TcpSocket},
    },
};
use wasmtime_wasi_io::{
    poll::DynPollable,
    streams::{DynInputStream, DynOutputStream},
};

use super::{
    SocketsView,
    streams::{Received, Sent},
};

type Socket = Resource<TcpSocket>;

impl SocketsView<'_> {
    fn deny_server<T>(&self) -> SocketResult<T> {
        Err(self.sockets.deny("it bound a TCP socket to a port, and guests only connect".into()))
    }
}

impl Host for SocketsView<'_> {}

impl HostTcpSocket for SocketsView<'_> {
    async fn start_bind(&mut self, _: Socket, _: Resource<Network>, _: IpSocketAddress) -> SocketResult<()> {
        self.deny_server()
    }

    fn finish_bind(&mut self, _: Socket) -> SocketResult<()> {
        Err(ErrorCode::NotInProgress.into())
    }

    fn start_connect(
        &mut self,
        socket: Socket,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        let checked = self.sockets.rules.check_connect(SocketAddr::from(address));
        checked.map_err(|reason| self.sockets.deny(reason))?;
        self.wasmtime_view().start_connect(socket, network, address)
    }

    fn finish_connect(
        &mut self,
        socket: Socket,
    ) -> SocketResult<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let owner = Resource::<TcpSocket>::new_borrow(socket.rep());
        let (input, output) = self.wasmtime_view().finish_connect(socket)?;
        let (input, output) = (self.table.delete(input)?, self.table.delete(output)?);
        let (budget, denied) = (self.sockets.budget.clone(), self.sockets.denied.clone());
        let received = Received { stream: input, budget: budget.clone(), denied: denied.clone() };
        let sent = Sent { stream: output, budget, denied };
        let received = self.table.push_child(Box::new(received) as DynInputStream, &owner)?;
        Ok((received, self.table.push_child(Box::new(sent) as DynOutputStream, &owner)?))
    }

    async fn start_listen(&mut self, _: Socket) -> SocketResult<()> {
        self.deny_server()
    }

    fn finish_listen(&mut self, _: Socket) -> SocketResult<()> {
        Err(ErrorCode::NotInProgress.into())
    }

    fn accept(&mut self, _: Socket) -> SocketResult<(Socket, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        self.deny_server()
    }

    fn drop(&mut self, socket: Socket) -> wasmtime::Result<()> {
        self.sockets.open.remove(&socket.rep());
        HostTcpSocket::drop(&mut self.wasmtime_view(), socket)
    }

    fn local_address(&mut self, socket: Socket) -> SocketResult<IpSocketAddress> {
        self.wasmtime_view().local_address(socket)
    }

    fn remote_address(&mut self, socket: Socket) -> SocketResult<IpSocketAddress> {
        self.wasmtime_view().remote_address(socket)
    }

    fn is_listening(&mut self, socket: Socket) -> wasmtime::Result<bool> {
        self.wasmtime_view().is_listening(socket)
    }

    fn address_family(&mut self, socket: Socket) -> wasmtime::Result<IpAddressFamily> {
        self.wasmtime_view().address_family(socket)
    }

    fn set_listen_backlog_size(&mut self, socket: Socket, value: u64) -> SocketResult<()> {
        self.wasmtime_view().set_listen_backlog_size(socket, value)
    }

    fn keep_alive_enabled(&mut self, socket: Socket) -> SocketResult<bool> {
        self.wasmtime_view().keep_alive_enabled(socket)
    }

    fn set_keep_alive_enabled(&mut self, socket: Socket, value: bool) -> SocketResult<()> {
        self.wasmtime_view().set_keep_alive_enabled(socket, value)
    }

    fn keep_alive_idle_time(&mut self, socket: Socket) -> SocketResult<u64> {
        self.wasmtime_view().keep_alive_idle_time(socket)
    }

    fn set_keep_alive_idle_time(&mut self, socket: Socket, value: u64) -> SocketResult<()> {
        self.wasmtime_view().set_keep_alive_idle_time(socket, value)
    }

    fn keep_alive_interval(&mut self, socket: Socket) -> SocketResult<u64> {
        self.wasmtime_view().keep_alive_interval(socket)
    }

    fn set_keep_alive_interval(&mut self, socket: Socket, value: u64) -> SocketResult<()> {
        self.wasmtime_view().set_keep_alive_interval(socket, value)
    }

    fn keep_alive_count(&mut self, socket: Socket) -> SocketResult<u32> {
        self.wasmtime_view().keep_alive_count(socket)
    }

    fn set_keep_alive_count(&mut self, socket: Socket, value: u32) -> SocketResult<()> {
        self.wasmtime_view().set_keep_alive_count(socket, value)
    }

    fn hop_limit(&mut self, socket: Socket) -> SocketResult<u8> {
        self.wasmtime_view().hop_limit(socket)
    }

    fn set_hop_limit(&mut self, socket: Socket, value: u8) -> SocketResult<()> {
        self.wasmtime_view().set_hop_limit(socket, value)
    }

    fn receive_buffer_size(&mut self, socket: Socket) -> SocketResult<u64> {
        self.wasmtime_view().receive_buffer_size(socket)
    }

    fn send_buffer_size(&mut self, socket: Socket) -> SocketResult<u64> {
        self.wasmtime_view().send_buffer_size(socket)
    }

    /// The machine chooses its buffers: large ones would cost memory of the worker.
    fn set_receive_buffer_size(&mut self, _: Socket, _: u64) -> SocketResult<()> {
        Ok(())
    }

    /// As [`Self::set_receive_buffer_size`].
    fn set_send_buffer_size(&mut self, _: Socket, _: u64) -> SocketResult<()> {
        Ok(())
    }

    fn subscribe(&mut self, socket: Socket) -> wasmtime::Result<Resource<DynPollable>> {
        self.wasmtime_view().subscribe(socket)
    }

    fn shutdown(&mut self, socket: Socket, how: ShutdownType) -> SocketResult<()> {
        self.wasmtime_view().shutdown(socket, how)
    }
}

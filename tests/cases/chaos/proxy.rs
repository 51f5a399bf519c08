//! A network proxy that can cut connections, or stop forwarding without notice.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Forwards connections to another port.
pub(crate) struct Proxy {
    port: u16,
    silent: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// Listens on its own port. It ends with the test's process.
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let (silent, open) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let (is_silent, opened) = (silent.clone(), open.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, target))) else {
                    continue;
                };
                let directions = [(&client, &server), (&server, &client)];
                for (from, to) in directions.map(|(from, to)| (from.try_clone(), to.try_clone())) {
                    if let (Ok(from), Ok(to)) = (from, to) {
                        let silent = is_silent.clone();
                        thread::spawn(move || forward(from, to, &silent));
                    }
                }
                opened.lock().expect("no thread panics while it holds the lock").extend([client, server]);
            }
        });
        Self { port, silent, open }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection; new connections are possible.
    pub(crate) fn cut(&self) {
        for stream in self.open.lock().expect("no thread panics while it holds the lock").drain(..) {
            // The connection may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Sets whether it stops forwarding; the ends are not notified.
    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, silent: &AtomicBool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read) = from.read(&mut buffer) {
        while silent.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

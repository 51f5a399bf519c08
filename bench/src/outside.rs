//! Measures the requests of guests beside those of a native client, to one server on this machine.
//!
//! A guest is called once with requests and once without, so that the cost of the call itself does not count.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use anyhow::{Context, ensure};
use credentials::ClientTls;
use flow::{Access, CallAccess, Digest, Grant, Grants, Value};
use gateway::{Gateway, Rules};
use sandbox::{Call, Compiled, Completion, Outside, Sandbox};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::{
    Bench,
    instance::{self, NoopObserver},
    report::Pairs,
};

/// The number of calls of a round with one request each.
const CALLS: usize = 300;

/// The number of requests of a call that sends many.
const REQUESTS: usize = 300;

/// The number of rounds. The first two warm up.
const ROUNDS: usize = 12;

/// The bytes that a call may send and receive.
const MAX_BYTES: u64 = 1 << 30;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let server = Server::start().await?;
    let guest = Guest::compile(bench, &server).await?;
    let (mut first, mut further) = (Pairs::default(), Pairs::default());
    for round in 0..ROUNDS {
        let without = guest.seconds(0, CALLS).await?;
        let with_one = guest.seconds(1, CALLS).await?;
        let native_one = native_seconds(&server, CALLS, 0).await?;
        let with_many = guest.seconds(1 + REQUESTS, 1).await?;
        let native_many = native_seconds(&server, REQUESTS, 1).await?;
        if round >= 2 {
            first.push(with_one - without, native_one);
            further.push((with_many - with_one) / REQUESTS as f64, native_many);
        }
    }
    first.print_times("the request of a call", "native client");
    further.print_times("its further requests", "native client");
    Ok(())
}

/// The seconds of a request of a native client that keeps so many unused connections.
async fn native_seconds(server: &Server, requests: usize, max_idle: usize) -> anyhow::Result<f64> {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(max_idle).build()?;
    let started = Instant::now();
    for _ in 0..requests {
        let response = client.get(&server.url).send().await?;
        ensure!(response.bytes().await? == "ok", "another answer");
    }
    Ok(started.elapsed().as_secs_f64() / requests as f64)
}

/// A guest that sends requests.
struct Guest {
    sandbox: Sandbox,
    compiled: Compiled,
    gateway: Arc<Gateway>,
    access: Arc<CallAccess>,
    url: String,
}

impl Guest {
    async fn compile(bench: &Bench, server: &Server) -> anyhow::Result<Self> {
        let path = bench.text_guest.with_file_name("outside.wasm");
        let bytes = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        let module = sandbox::Module::componentize(&bytes)?.into_bytes();
        let digest = Digest::from_bytes([2; 32]);
        let sandbox = Sandbox::new(sandbox::Config { slots: 4, ..sandbox::Config::default() })?;
        let compiled = sandbox.compile(digest, module).await?;
        let access = Access { http: BTreeSet::from([format!("GET {}", server.url).parse()?]), ..Access::default() };
        let grants = Grants(vec![Grant { access: access.clone(), ..Grant::default() }]);
        let access = Arc::new(grants.of_call(&access, &"bench".parse()?, &"visit".parse()?, &digest));
        let gateway = Arc::new(Gateway::new(ClientTls::default()));
        Ok(Self { sandbox, compiled, gateway, access, url: server.url.clone() })
    }

    /// The seconds of a call with so many requests, one after the other.
    async fn seconds(&self, requests: usize, calls: usize) -> anyhow::Result<f64> {
        let urls = Value::json(&vec![self.url.as_str(); requests].into());
        let started = Instant::now();
        for _ in 0..calls {
            // Each call has connections of its own.
            let gateway = self.gateway.for_call(None, self.access.clone(), Arc::new(Rules::default()), MAX_BYTES);
            let call = Call {
                export: Some("visit".parse()?),
                inputs: [("urls".parse()?, urls.clone())].into_iter().collect(),
                required_outputs: vec!["outcomes".parse()?],
                outside: Outside { gateway: Some(Arc::new(gateway)), ..Outside::default() },
                ..instance::call()
            };
            let report = self.sandbox.call(&self.compiled, call, Arc::new(NoopObserver)).await;
            let Completion::Succeeded(values) = report.completion else {
                anyhow::bail!("the guest failed: {:?}", report.completion)
            };
            let outcomes = format!("{values:?}").matches("200").count();
            ensure!(outcomes == requests, "{outcomes} of {requests} requests succeeded: {values:?}");
        }
        Ok(started.elapsed().as_secs_f64() / calls as f64)
    }
}

/// A server that answers each request at once.
struct Server {
    url: String,
    _accepting: AbortOnDropHandle<()>,
}

impl Server {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://127.0.0.1:{}/ok", listener.local_addr()?.port());
        let tasks = TaskTracker::new();
        let connections = tasks.clone();
        let accepting = tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream));
            }
        });
        Ok(Self { url, _accepting: AbortOnDropHandle::new(accepting) })
    }
}

/// Answers the requests of a connection. They have no bodies, and each arrives at once.
async fn answer(mut stream: TcpStream) {
    let mut request = [0; 4_096];
    while let Ok(1..) = stream.read(&mut request).await {
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

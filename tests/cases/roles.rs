//! Tests a RabbitMQ on which each part of waft has a user of its own, with exactly the permissions that `waft broker permissions`
//! prints: everything works, and a worker's user is only a worker.

use std::time::{Duration, Instant};

use broker::{
    Amqp, Binding, Broker, ConsumeError, DeclareError, Destination, Exchange, ExchangeKind, Message, Options,
    Properties, PublishError, Queue, QueueKind, Routing,
};
use protocol::topology;
use serde_json::Value;
use waft_tests::{CommandOutput, Process, Waft};
use xtask::rabbitmq::Rabbit;

/// Only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A RabbitMQ with a user for each role, who have no permissions except their own.
struct Roles {
    waft: Waft,
    rabbit: Rabbit,
    _folder: tempfile::TempDir,
}

impl Roles {
    fn new() -> Self {
        let (waft, folder) = (Waft::with_own_cache(), tempfile::tempdir().expect("a temporary folder"));
        let rabbit = Rabbit::start(folder.path()).expect("RabbitMQ starts");
        let roles = Self { waft, rabbit, _folder: folder };
        roles.control(&["add_vhost", "waft"]);
        for role in ["engine", "worker", "listener", "operator"] {
            roles.control(&["add_user", role, "pw"]);
        }
        for (role, limits) in [
            ("engine", &[][..]),
            ("worker", &["--queues", "default"]),
            ("listener", &["--listeners", "of-f"]),
            ("operator", &[]),
        ] {
            let arguments = ["broker", "permissions", "--vhost", "waft", "--role", role];
            let printed = roles.waft.run(arguments.iter().chain(limits));
            for line in printed.expect(0).stdout.lines().filter(|line| !line.starts_with('#')) {
                // No word of these commands contains a space.
                let words: Vec<&str> = line.split(' ').map(|word| word.trim_matches('\'')).collect();
                assert_eq!(words[0], "rabbitmqctl", "{line}");
                roles.control(&words[1..]);
            }
        }
        roles
    }

    fn control(&self, arguments: &[&str]) {
        self.rabbit.control(arguments).expect("rabbitmqctl works");
    }

    /// The address of the broker for the user of a role.
    fn url(&self, role: &str) -> String {
        let guest = self.rabbit.url();
        guest.replace("guest:guest", &format!("{role}:pw")).replace("%2f", "waft")
    }

    /// Runs a command of waft as the user of a role.
    fn run(&self, role: &str, arguments: &[&str]) -> CommandOutput {
        let url = self.url(role);
        self.waft.run(arguments.iter().copied().chain(["--broker", &url]))
    }

    /// Starts an engine; returns it with the address of its server.
    fn serve(&self) -> (Process, String) {
        let url = self.url("engine");
        let serve = ["serve", "--listen", "127.0.0.1:0", "--broker", &url];
        let mut server = Process::spawn(&mut self.waft.command(serve));
        let line = server.wait_for("waft listens on ");
        let address = line.trim_start_matches("waft listens on ").trim().to_owned();
        (server, address)
    }
}

/// Runs an operation at a broker.
fn at_broker<T>(url: &str, operation: impl AsyncFnOnce(&dyn Broker) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(async {
        let broker = Amqp::connect(Options::new(url)).await.expect("the broker is there");
        let result = operation(&broker).await;
        broker.close().await;
        result
    })
}

fn message(exchange: &str, key: &str) -> Message {
    Message {
        exchange: exchange.to_owned(),
        key: key.to_owned(),
        routing: Routing::Mandatory,
        persistent: true,
        priority: 0,
        properties: Properties { message_id: Some("forged".into()), ..Properties::default() },
        body: "forged".into(),
    }
}

/// A flow whose first task passes a large value on, and whose second task has a permit.
const LARGE: &str = "name = \"f\"\n[[task]]\nname = \"large\"\nuse = \"hostile#big\"\nwith = { bytes = 1048576 }\n\
                     [[task]]\nname = \"echo\"\nuse = \"hostile#echo-bytes\"\nrequires = { bytes = \"big\" }\nmax_running = 1\n";

const SLEEPS: &str =
    "name = \"sleeps\"\n[[task]]\nname = \"t\"\nuse = \"hostile#sleep\"\nwith = { ms = 600000 }\nprovides = []\n";

#[test]
fn each_part_has_the_permissions_of_its_role_and_no_others() {
    let roles = Roles::new();
    let worker_url = roles.url("worker");
    let refused = roles.run("worker", &["worker", "--name", "early"]);
    let stderr = &refused.expect(4).stderr;
    assert!(stderr.contains("ACCESS_REFUSED") && stderr.contains("waft broker setup"), "{stderr}");
    assert!(roles.run("worker", &["broker", "setup"]).expect(4).stderr.contains("--role engine"));
    roles.run("engine", &["broker", "setup"]).expect(0);
    for listener in [["--listener", "of-f", "--to", "f.echo"], ["--listener", "other", "--to", "sleeps"]] {
        let setup = roles.run("engine", &[&["broker", "setup"][..], &listener].concat());
        assert!(setup.expect(0).stderr.contains(listener[1]), "{setup:?}");
    }

    // Before any engine.
    let mut worker = Process::spawn(&mut roles.waft.command(["worker", "--name", "w", "--broker", &worker_url]));
    worker.wait_for("may not declare");
    worker.wait_for("takes jobs");
    let (_server, address) = roles.serve();
    let at_server = |arguments: &[&str]| roles.waft.run(arguments.iter().copied().chain(["--server", &address]));

    let listening = std::thread::scope(|scope| {
        let listener_url = roles.url("listener");
        let (ready, is_ready) = std::sync::mpsc::channel();
        let listening = scope.spawn(move || {
            at_broker(&listener_url, async |broker| {
                let mut notifications = broker.consume("listen.of-f", 10).await.expect("it may listen to this flow");
                a_listener_only_consumes(broker).await;
                ready.send(()).expect("the test waits");
                let next = async {
                    let delivery = notifications.next().await.expect("a notification");
                    let body: Value = serde_json::from_slice(&delivery.message.body).expect("it is JSON");
                    delivery.accept();
                    body["name"].clone()
                };
                tokio::time::timeout(TIMEOUT, next).await.expect("a notification arrives")
            })
        });
        is_ready.recv().expect("the listener is ready");
        roles.waft.flow(LARGE);
        let run = at_server(&["submit", "flow.toml", "--run-id", "large", "--wait"]);
        run.expect(0);
        listening.join().expect("it does not panic")
    });
    assert_eq!(listening, "echo");

    roles.waft.flow(SLEEPS);
    at_server(&["submit", "flow.toml", "--run-id", "sleeps"]).expect(0);
    let until = Instant::now() + TIMEOUT;
    while roles.run("operator", &["workers", "--json"]).expect(0).json()[0]["busy"] != 1 {
        assert!(Instant::now() < until, "the call starts");
    }
    at_server(&["cancel", "sleeps"]).expect(0);
    // Ends with the exit code of a run that was rolled back.
    at_server(&["watch", "sleeps"]).expect(1);
    assert_eq!(at_server(&["workers", "--json"]).expect(0).json()[0]["name"], "w");

    quarantine_works(&roles, &at_server);
    roles.run("operator", &["doctor"]).expect(0);
    at_server(&["doctor"]).expect(0);
    a_worker_is_only_a_worker(&roles);
}

/// What the user of a listener cannot do.
async fn a_listener_only_consumes(broker: &dyn Broker) {
    assert!(broker.consume("listen.other", 1).await.is_err(), "it has one queue");
    for queue in ["listen.of-f", "listen.new", "amq.gen-new"] {
        let kind = QueueKind::Transient { expires: TIMEOUT };
        assert!(broker.declare_queue(&Queue { name: queue.into(), kind }).await.is_err(), "{queue}");
        let exchange = Exchange { name: queue.into(), kind: ExchangeKind::Topic };
        assert!(broker.declare_exchange(&exchange).await.is_err(), "{queue}");
    }
    let to = Destination::Queue("listen.of-f".into());
    let bound = broker.bind(&Binding { exchange: topology::NOTIFICATIONS.into(), key: "#.#".into(), to }).await;
    assert!(matches!(bound, Err(DeclareError::AccessRefused { .. })), "{bound:?}");
    let private = Queue { name: "private".into(), kind: QueueKind::Private };
    assert!(broker.declare_queue(&private).await.is_err(), "it has no queues of its own");
}

/// A worker puts a message into the quarantine, and an operator releases and drops it, at the broker and by the server.
fn quarantine_works(roles: &Roles, at_server: &dyn Fn(&[&str]) -> CommandOutput) {
    let id = |output: &CommandOutput| output.expect(0).json().first().map(|message| message["id"].clone());
    let wait = || {
        let until = Instant::now() + TIMEOUT;
        while id(&roles.run("operator", &["quarantine", "list", "--json"])) != Some("forged".into()) {
            assert!(Instant::now() < until, "the worker quarantines what is no job");
        }
    };
    at_broker(&roles.url("engine"), async |broker| {
        broker.publish(message(topology::JOBS, "default")).await.expect("an engine publishes jobs");
    });
    wait();
    roles.run("operator", &["quarantine", "release", "forged"]).expect(0);
    // It is no job this time either.
    wait();
    at_server(&["quarantine", "release", "forged"]).expect(0);
    wait();
    let listed = at_server(&["quarantine", "list", "--json"]).expect(0).json();
    assert_eq!(listed[0]["id"], "forged", "{listed:?}");
    assert_eq!(listed[0]["queue"], "waft.jobs.default", "{listed:?}");
    at_server(&["quarantine", "drop", "forged"]).expect(0);
    assert_eq!(id(&roles.run("operator", &["quarantine", "list", "--json"])), None);
    at_broker(&roles.url("engine"), async |broker| {
        broker.publish(message(topology::JOBS, "default")).await.expect("an engine publishes jobs");
    });
    wait();
    roles.run("operator", &["quarantine", "drop", "--all"]).expect(0);
}

/// A topic exchange behind an exchange of engines could make them slow: see decision 049.
async fn a_worker_uses_no_exchange_of_its_own(broker: &dyn Broker, queue: &str) {
    for name in ["waft.reply.x", "waft.control.x", "amq.gen-x", "listen.x", "x"] {
        let exchange = Exchange { name: name.into(), kind: ExchangeKind::Topic };
        let declared = broker.declare_exchange(&exchange).await;
        assert!(matches!(declared, Err(DeclareError::AccessRefused { .. })), "{name}: {declared:?}");
    }
    // The names with which workers reserve their own are also names for exchanges, which then lead nowhere.
    let exchange = Exchange { name: "waft.worker.x".into(), kind: ExchangeKind::Topic };
    broker.declare_exchange(&exchange).await.expect("it may declare what it cannot use");
    let [to, own] = [Destination::Exchange(exchange.name.clone()), Destination::Queue(queue.to_owned())];
    for (exchange, to) in [(topology::CONTROL, to.clone()), (topology::REPLIES, to), (&*exchange.name, own)] {
        let bound = broker.bind(&Binding { exchange: exchange.into(), key: "#.#".into(), to }).await;
        assert!(matches!(bound, Err(DeclareError::AccessRefused { .. })), "{exchange}: {bound:?}");
    }
    let lock = Queue { name: "waft.worker.y".into(), kind: QueueKind::Exclusive };
    broker.declare_queue(&lock).await.expect("it reserves a name");
    let to = Destination::Queue(lock.name);
    let bound = broker.bind(&Binding { exchange: topology::CONTROL.into(), key: String::new(), to }).await;
    assert!(matches!(bound, Err(DeclareError::AccessRefused { .. })), "{bound:?}");
}

/// What the user of a worker cannot do while an engine runs.
fn a_worker_is_only_a_worker(roles: &Roles) {
    roles.run("engine", &["broker", "setup", "--queues", "default,ovens"]).expect(0);
    at_broker(&roles.url("worker"), async |broker| {
        for exchange in [
            topology::JOBS,
            topology::ENGINES,
            topology::REPLIES,
            topology::NOTIFICATIONS,
            topology::RUNS,
            topology::CONTROL,
            topology::RELEASED,
            "",
        ] {
            let published = broker.publish(message(exchange, "waft.engine.0")).await;
            let Err(PublishError::Refused { reason, .. }) = published else { panic!("{exchange:?}: {published:?}") };
            assert!(reason.contains("ACCESS_REFUSED"), "{reason}");
        }
        let own = Queue { name: "waft.reply.thief".into(), kind: QueueKind::Private };
        broker.declare_queue(&own).await.expect("it has queues for replies");
        a_worker_uses_no_exchange_of_its_own(broker, &own.name).await;
        for exchange in [
            topology::JOBS,
            topology::REPORTS,
            topology::ENGINES,
            topology::CONTENT,
            topology::NOTIFICATIONS,
            topology::RUNS,
        ] {
            let to = Destination::Queue(own.name.clone());
            let bound = broker.bind(&Binding { exchange: exchange.into(), key: "default".into(), to }).await;
            assert!(matches!(bound, Err(DeclareError::AccessRefused { .. })), "{exchange}: {bound:?}");
        }
        for queue in ["waft.engine.0", "waft.store.shared", "waft.jobs.ovens", topology::QUARANTINE] {
            let consumed = broker.consume(queue, 1).await;
            let Err(ConsumeError::Refused { reason, .. }) = consumed else { panic!("it consumes {queue}") };
            assert!(reason.contains("ACCESS_REFUSED"), "{reason}");
        }
        for queue in ["waft.engine.0", "waft.jobs.default", topology::QUARANTINE] {
            let deleted = broker.delete_queue(queue).await;
            assert!(matches!(deleted, Err(DeclareError::AccessRefused { .. })), "{queue}: {deleted:?}");
        }
        let job = broker::topology::declare_jobs(broker, &"new".parse().expect("a name")).await;
        assert!(matches!(job, Err(DeclareError::AccessRefused { .. })), "{job:?}");
        broker.consume("waft.jobs.default", 1).await.expect("it takes its own jobs");
        // The refusals close channels; what it may publish still arrives.
        broker.publish(message(topology::REPORTS, "waft.engine.0")).await.expect("it reports to engines");
    });
}

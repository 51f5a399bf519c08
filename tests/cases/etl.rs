//! Tests the example `etl`: pages of an HTTP API, loaded into a real PostgreSQL. Each page is loaded once, also if its worker is
//! killed in the middle, and a run that fails leaves no row.

use std::{path::PathBuf, process::Stdio};

use serde_json::json;
use waft_tests::{
    Cloud, CommandOutput, Process, Role, TestBroker, WAREHOUSE_PASSWORD, Waft, Warehouse, unique, wait_until,
};

/// The rows and batches of a day: five pages with 20 orders each, of which two are cancelled.
const DAY: [u64; 3] = [90, 90, 5];

/// The example with a cloud and a warehouse of its own.
struct Etl {
    waft: Waft,
    cloud: Cloud,
    warehouse: Warehouse,
    folder: PathBuf,
}

impl Etl {
    fn new() -> Self {
        let (waft, cloud, warehouse) = (Waft::default(), Cloud::start(&[]), Warehouse::create());
        let folder = cloud.example(&waft, "etl");
        warehouse.adapt(&waft, &folder);
        Self { waft, cloud, warehouse, folder }
    }

    fn flow(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        let flow = self.flow("flow.toml");
        self.waft.run(["run", &flow, "--json"].into_iter().chain(arguments.iter().copied()))
    }

    /// Lets the trigger of a statement wait, at an order in the middle of the third page, while a test holds the lock 7. Then it
    /// notes the server process.
    fn pause(&self, trigger: &str) {
        self.warehouse.execute(&format!(
            "CREATE TABLE paused (process integer);
             CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
                 IF coalesce(NEW.id, OLD.id) LIKE '%-55' THEN
                     PERFORM pg_advisory_xact_lock_shared(7);
                     INSERT INTO paused VALUES (pg_backend_pid());
                 END IF;
                 RETURN coalesce(NEW, OLD);
             END $$;
             {trigger} FOR EACH ROW EXECUTE FUNCTION pause()"
        ));
    }

    /// Runs the flow over RabbitMQ, and kills its worker while the trigger waits. Another worker waits for the transaction of
    /// the dead one, until the test releases the lock. Returns the server process of the dead worker's transaction too.
    fn run_with_killed_worker(&self, trigger: &str, arguments: &[&str]) -> (CommandOutput, u32) {
        let (broker, queue) = (TestBroker::shared(), unique("q"));
        self.pause(trigger);
        let lock = self.warehouse.lock(7);
        let flow = std::fs::read_to_string(self.flow("flow.toml")).expect("it is there");
        let flow =
            self.waft.write("etl/queue.toml", flow.replace("\nuse = ", &format!("\nqueue = \"{queue}\"\nuse = ")));
        let flow = flow.to_str().expect("the path is text");
        let worker = |number: usize| {
            Process::worker(&self.waft, &broker, &["--queues", &queue, "--name", &format!("{queue}-{number}")])
        };
        let first = worker(1);
        let mut run = self.waft.command(["run", flow, "--broker", &broker.url(Role::Engine), "--json"]);
        run.args(["--run-id", &queue]).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = run.spawn().expect("waft starts");
        wait_until(|| self.warehouse.waiting().len() == 1);
        let process = self.warehouse.waiting()[0];
        first.kill();
        let _second = worker(2);
        wait_until(|| self.warehouse.waiting().len() == 2);
        lock.release();
        (run.wait_with_output().expect("it ends").into(), process)
    }
}

#[test]
fn etl_loads_each_page_and_a_poor_day_is_rolled_back() {
    let etl = Etl::new();
    let output = etl.run(&["--run-id", "first"]);
    let end = output.expect(0).end();
    assert_eq!(etl.warehouse.counts(), DAY);
    let total = &end["provides"]["total"];
    let cents = etl.warehouse.execute("SELECT sum(cents) FROM orders");
    assert_eq!((&total["rows"], total["cents"].to_string()), (&json!(90), cents));
    let batch = etl.warehouse.execute("SELECT DISTINCT batch FROM orders WHERE id = '2026-03-01-55'");
    assert_eq!(batch, "first.load-page[2].1");
    let told = format!("{}{}{}", output.stdout, output.stderr, etl.waft.run(["logs", "first"]).stdout);
    assert!(told.contains("page 3 has 18 rows") && !told.contains(WAREHOUSE_PASSWORD), "{told}");

    let poor = etl.run(&["--run-id", "second", "--set", "min_rows=1000"]);
    let (kind, message) = poor.expect(1).failure("check-total");
    assert_eq!((&*kind, &*message), ("permanent", "only 90 rows were loaded, and 1000 are the minimum of a day"));
    assert_eq!(etl.warehouse.counts(), DAY, "the batches of the second run are deleted, and only these");
    assert_eq!(etl.warehouse.execute("SELECT count(*) FROM orders WHERE batch NOT LIKE 'first.%'"), "0");
}

#[test]
fn a_page_that_fails_leaves_no_row() {
    let etl = Etl::new();
    etl.warehouse.execute("ALTER TABLE orders ADD CONSTRAINT no_55 CHECK (id NOT LIKE '%-55')");
    let (kind, message) = etl.run(&["--run-id", "r"]).expect(1).failure("load-page[2]");
    assert!(kind == "permanent" && message.contains("no_55") && message.ends_with("(23514)"), "{kind}: {message}");
    assert_eq!(etl.warehouse.counts(), [0; 3]);
    // The same run, with the same batches.
    etl.warehouse.execute("ALTER TABLE orders DROP CONSTRAINT no_55");
    etl.waft.run(["retry", "r"]).expect(0);
    assert_eq!(etl.warehouse.counts(), DAY);
}

#[test]
fn a_worker_killed_before_its_commit_leaves_each_row_once() {
    let etl = Etl::new();
    let (output, dead) = etl.run_with_killed_worker("CREATE TRIGGER pause BEFORE INSERT ON orders", &[]);
    assert_eq!(output.expect(0).end()["provides"]["total"]["rows"], 90);
    assert_eq!(etl.warehouse.counts(), DAY);
    let loaded_by: u32 = etl.warehouse.execute("SELECT process FROM paused").parse().expect("one process");
    assert_ne!(loaded_by, dead, "the transaction of the dead worker was rolled back");
}

#[test]
fn a_worker_killed_after_its_commit_leaves_each_row_once() {
    let etl = Etl::new();
    // The server waits in COMMIT, which the dead worker has sent.
    let at_commit = "CREATE CONSTRAINT TRIGGER pause AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED";
    let (output, dead) = etl.run_with_killed_worker(at_commit, &[]);
    assert_eq!(output.expect(0).end()["provides"]["total"]["rows"], 90);
    assert_eq!(etl.warehouse.counts(), DAY);
    let loaded_by: u32 = etl.warehouse.execute("SELECT process FROM paused").parse().expect("one process");
    assert_eq!(loaded_by, dead, "the dead worker has loaded the page, and the second one found it");
}

#[test]
fn a_worker_killed_in_a_rollback_leaves_only_the_rows_of_other_runs() {
    let etl = Etl::new();
    etl.run(&["--run-id", "first"]).expect(0);
    let (output, _) =
        etl.run_with_killed_worker("CREATE TRIGGER pause BEFORE DELETE ON orders", &["--set", "min_rows=1000"]);
    assert_eq!(output.expect(1).end()["state"], "rolled-back");
    assert_eq!(etl.warehouse.counts(), DAY);
    assert_eq!(etl.warehouse.execute("SELECT count(*) FROM orders WHERE batch NOT LIKE 'first.%'"), "0");
}

#[test]
fn a_wrong_password_or_a_missing_grant_loads_nothing() {
    let etl = Etl::new();
    let file = etl.waft.folder().join("configuration/waft/config.toml");
    let settings = std::fs::read_to_string(&file).expect("it is there");
    // A rollback cannot know that nothing was loaded, so the run waits for the operator.
    etl.waft.set_settings(&settings.replace(WAREHOUSE_PASSWORD, "another-password"));
    let (kind, message) = etl.run(&["--run-id", "r"]).expect(3).failure("load-page[0]");
    assert!(kind == "permanent" && message.contains("password authentication failed"), "{kind}: {message}");
    etl.waft.set_settings(&settings.replace("config = {", "config = { OTHER = \"value\" }\n#"));
    etl.waft.run(["retry", "r"]).expect(3);
    let shown = etl.waft.run(["show", "r"]).stdout;
    assert!(shown.contains("denied") && shown.contains("WAREHOUSE_PASSWORD"), "{shown}");
    etl.waft.set_settings(&settings);
    etl.waft.run(["retry", "r"]).expect(1);
    assert_eq!(etl.warehouse.counts(), [0; 3]);
}

#[test]
fn etl_loads_the_orders_of_each_night() {
    let etl = Etl::new();
    let flow = etl.flow("nightly.toml");
    let text = std::fs::read_to_string(&flow).expect("it is there");
    // Nights are a second long, and there are two of them.
    let short = text
        .replace("\"0 3 * * *\"", "\"* * * * * *\"")
        .replace("persistent = true", "persistent = true\nmax_firings = 2");
    assert_ne!(short.len(), text.len());
    std::fs::write(&flow, short).expect("it can be written");
    etl.waft.run(["run", &flow, "--run-id", "nightly"]).expect(0);
    assert_eq!(etl.warehouse.counts(), [180, 180, 10]);
    for night in 1..=2 {
        let sql = format!("SELECT min(id) FROM orders WHERE batch = 'nightly.load-page[4].{night}' AND id LIKE '20%'");
        let id = etl.warehouse.execute(&sql);
        assert!(id.ends_with("-81"), "the day of the schedule, and the first order of the page: {id}");
    }
    let _ = etl.cloud;
}

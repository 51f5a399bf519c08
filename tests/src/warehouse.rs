//! The warehouse of the example `etl`: a database with a user of its own, on the PostgreSQL of the tests.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Stdio},
    thread,
};

use xtask::postgres::{POSTGRES, psql};

use crate::{Waft, example, from_xtask, unique};

/// The address and the password in the files of the example.
const IN_FILES: [&str; 3] = ["etl@127.0.0.1:5432/warehouse", "127.0.0.1:5432", "only-for-practice"];

/// The password of the user, which guests see.
pub const WAREHOUSE_PASSWORD: &str = "password-of-the-warehouse-in-tests";

/// A warehouse, which is deleted at the end of the test.
pub struct Warehouse {
    /// The address of the server, without a database. Its user may do everything.
    server: String,
    /// The name of the database and of its user.
    name: String,
}

/// A lock that a session holds.
pub struct HeldLock {
    session: Child,
}

impl Warehouse {
    /// Makes a warehouse as the README of the example says.
    ///
    /// # Panics
    /// When the database server refuses it.
    #[must_use]
    pub fn create() -> Self {
        let url = from_xtask(POSTGRES);
        let (server, _) = url.rsplit_once('/').expect("the address names a database");
        let name = unique("etl").to_lowercase().replace('-', "_");
        execute(&url, &format!("CREATE ROLE {name} LOGIN PASSWORD '{WAREHOUSE_PASSWORD}'"));
        execute(&url, &format!("CREATE DATABASE {name}"));
        let warehouse = Self { server: server.to_owned(), name };
        let schema = fs::read_to_string(example("etl/schema.sql")).expect("it is text");
        warehouse.execute(&schema.replace(" TO etl;", &format!(" TO {};", warehouse.name)));
        warehouse
    }

    /// Lets the copied flows in a folder, and the settings of `waft`, name this warehouse.
    ///
    /// # Panics
    /// When a file cannot be read or written.
    pub fn adapt(&self, waft: &Waft, flows: &Path) {
        let files = fs::read_dir(flows).expect("it is a folder").map(|entry| entry.expect("it can be read").path());
        for file in files.chain([waft.folder().join("configuration/waft/config.toml")]) {
            let (_, host_and_port) = self.server.rsplit_once('@').expect("the address names a user");
            let address = format!("{0}@{host_and_port}/{0}", self.name);
            let mut text = fs::read_to_string(&file).expect("it is text");
            for (in_file, here) in IN_FILES.iter().zip([&*address, host_and_port, WAREHOUSE_PASSWORD]) {
                text = text.replace(in_file, here);
            }
            fs::write(&file, text).expect("it can be written");
        }
    }

    /// Executes statements as an administrator, and returns the values that they print.
    ///
    /// # Panics
    /// When one fails.
    #[track_caller]
    pub fn execute(&self, statements: &str) -> String {
        execute(&self.address(), statements)
    }

    /// The number of rows, of different orders, and of batches.
    #[must_use]
    pub fn counts(&self) -> [u64; 3] {
        let printed = self.execute("SELECT count(*), count(DISTINCT (batch, id)), count(DISTINCT batch) FROM orders");
        let counts: Vec<u64> = printed.split('|').map(|count| count.parse().expect("it is a number")).collect();
        counts.try_into().expect("three columns")
    }

    /// The server processes that wait for an advisory lock.
    #[must_use]
    pub fn waiting(&self) -> Vec<u32> {
        let printed = self.execute(
            "SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database
             WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted",
        );
        printed.lines().map(|pid| pid.parse().expect("it is a number")).collect()
    }

    /// Takes an advisory lock, in a session of its own.
    ///
    /// # Panics
    /// When the session does not start.
    #[must_use]
    pub fn lock(&self, key: u32) -> HeldLock {
        let mut command = psql(&self.address()).expect("PostgreSQL is installed");
        let mut session = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql starts");
        let mut stdin = session.stdin.as_ref().expect("it is a pipe");
        writeln!(stdin, "SELECT 'locked' FROM pg_advisory_lock({key});").expect("psql reads it");
        let mut line = String::new();
        BufReader::new(session.stdout.take().expect("it is a pipe")).read_line(&mut line).expect("psql prints text");
        assert_eq!(line, "locked\n");
        HeldLock { session }
    }

    fn address(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }
}

impl HeldLock {
    /// Ends the session, and so its lock.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn release(mut self) {
        drop(self.session.stdin.take());
        self.session.wait().expect("it ends with its input");
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        // It has ended, if it was released.
        let _ = self.session.kill();
        let _ = self.session.wait();
    }
}

impl Drop for Warehouse {
    fn drop(&mut self) {
        // A failing test leaves it for inspection.
        if !thread::panicking() {
            let server = format!("{}/postgres", self.server);
            execute(&server, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
            execute(&server, &format!("DROP ROLE {}", self.name));
        }
    }
}

#[track_caller]
fn execute(address: &str, statements: &str) -> String {
    let output = psql(address).expect("PostgreSQL is installed").args(["--command", statements]).output();
    let output = output.expect("psql starts");
    assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("psql prints UTF-8").trim_end().to_owned()
}

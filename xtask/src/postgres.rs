//! A private PostgreSQL server that disturbs no other, for tests that need a real one.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    packages, ports,
    process::{self, Group, Transcript},
    tls::ServerTls,
};

/// The variable that names the database server for tests; if it is set, none is started.
pub const POSTGRES: &str = "WAFT_TEST_POSTGRES";

/// Debian's package of PostgreSQL.
const PACKAGE: &str = "postgresql";

/// Debian's folder with one subfolder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The poll interval while the server starts.
const PAUSE: Duration = Duration::from_millis(50);

/// Who may connect from this machine to a server without TLS. Users that a test makes prove their password.
const ACCESS: &str = "local all all trust
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
";

/// The database of a server with TLS whose clients must show a certificate. Its common name is their user.
pub const CERTIFIED: &str = "certified";

/// A running server. Dropping it kills the server and removes its files; the server also dies with this process.
#[derive(Debug)]
pub struct Postgres {
    /// `None` while it is killed.
    server: Option<Group>,
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Postgres {
    /// Starts a server with its own files, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed, or does not start; the error shows the end of its log.
    pub fn start() -> Result<Self> {
        Self::start_once(None)
    }

    /// Starts a server that also accepts TLS. The clients of its database [`CERTIFIED`] must show a certificate of the authority.
    ///
    /// # Errors
    ///
    /// Like [`start`](Self::start).
    pub fn start_with_tls(tls: &ServerTls) -> Result<Self> {
        let postgres = Self::start_once(Some(tls))?;
        postgres.database(CERTIFIED)?;
        Ok(postgres)
    }

    fn start_once(tls: Option<&ServerTls>) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let programs = programs()?;
        let name = format!("waft-postgres-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Not inside the project: the server's user may not be able to read it.
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let mut postgres = Self { server: None, programs, folder, port: ports::free_port()? };
        postgres.lay_out()?;
        if let Some(tls) = tls {
            postgres.set_up_tls(tls)?;
        }
        postgres.restart()?;
        Ok(postgres)
    }

    /// The address of its first database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Creates a database and returns its address.
    ///
    /// # Errors
    ///
    /// When the database exists already, or the server does not run.
    pub fn database(&self, name: &str) -> Result<String> {
        let port = self.port.to_string();
        let mut create = process::command(self.programs.join("createdb"));
        create.args(["--host", "127.0.0.1", "--port", &port, "--username", "postgres", name]);
        let output = create.output().context("could not run createdb")?;
        ensure!(output.status.success(), "createdb: {}", String::from_utf8_lossy(&output.stderr));
        Ok(format!("postgres://postgres@127.0.0.1:{port}/{name}"))
    }

    /// Kills the server, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    /// Starts the server again with the files on its disk; kills it first if it runs.
    ///
    /// # Errors
    ///
    /// When it does not start; the error shows the end of its log.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let mut server = Group::start(&self.server(), &self.log())?;
            while !self.answers() && !server.has_ended() && Instant::now() < deadline {
                thread::sleep(PAUSE);
            }
            if self.answers() {
                self.server = Some(server);
                return Ok(());
            }
            // The processes of a killed server may hold its shared memory for a moment.
            if Instant::now() > deadline {
                bail!("PostgreSQL does not start; its log ends with:\n{}", self.log_tail());
            }
            thread::sleep(PAUSE);
        }
    }

    /// Restarts the server as `pg_ctl restart -m immediate` does: it ends every session without a clean disconnect, and
    /// recovers from its disk.
    ///
    /// # Errors
    ///
    /// When it cannot be stopped, or does not start; the error shows the end of its log.
    pub fn restart_at_once(&mut self) -> Result<()> {
        let mut stop = self.unprivileged("pg_ctl");
        let stopped = stop.args(["stop", "-s", "-m", "immediate", "-D"]).arg(self.data()).output();
        let stopped = stopped.context("could not run pg_ctl")?;
        ensure!(stopped.status.success(), "pg_ctl: {}", String::from_utf8_lossy(&stopped.stderr));
        self.restart()
    }

    fn lay_out(&self) -> Result<()> {
        give_to_server(&[&self.folder])?;
        let mut initdb = self.unprivileged("initdb");
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"]);
        let output = initdb.arg(self.data()).output().context("could not run initdb")?;
        ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        fs::write(self.data().join("pg_hba.conf"), ACCESS).context("could not write pg_hba.conf")
    }

    fn set_up_tls(&self, tls: &ServerTls) -> Result<()> {
        let files = tls.write(&self.folder)?;
        give_to_server(&[&files.certificate, &files.key, &files.client_authority])?;
        let settings = format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nssl_ca_file = '{}'\n",
            files.certificate.display(),
            files.key.display(),
            files.client_authority.display()
        );
        let access = format!(
            "hostssl {CERTIFIED} all 127.0.0.1/32 cert\nhost {CERTIFIED} all 127.0.0.1/32 reject\n\
             host all all 127.0.0.1/32 trust\n"
        );
        // It is read after the file of initdb, and overrides it.
        fs::write(self.data().join("postgresql.auto.conf"), settings).context("could not write the settings")?;
        fs::write(self.data().join("pg_hba.conf"), access).context("could not write pg_hba.conf")
    }

    fn server(&self) -> Command {
        let mut server = self.unprivileged("postgres");
        let folder = self.folder.display();
        server.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-k", &folder.to_string()]);
        server.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=100"]);
        server
    }

    /// A program of the server, run as an unprivileged user: PostgreSQL refuses to run as root.
    fn unprivileged(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        if !is_root() {
            return process::command(program);
        }
        let mut as_postgres = process::command("setpriv");
        as_postgres.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        as_postgres
    }

    fn answers(&self) -> bool {
        let mut ready = process::command(self.programs.join("pg_isready"));
        process::answers(ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]))
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        // A failing test leaves the files for inspection.
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Makes files readable for the server, which does not run as root.
fn give_to_server(files: &[&Path]) -> Result<()> {
    if is_root() {
        let chown = process::command("chown").arg("postgres").args(files).status();
        ensure!(chown.is_ok_and(|status| status.success()), "there is no user postgres, and root may not serve");
    }
    Ok(())
}

fn is_root() -> bool {
    // The files of this process in `/proc` belong to its user.
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The folder with the programs of the newest version.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let newest = versions.filter(|folder| folder.join("postgres").is_file()).max();
    let in_path = || process::find("postgres", &[]).and_then(|file| file.parent().map(Path::to_owned));
    newest.or_else(in_path).with_context(|| {
        format!(
            "PostgreSQL is not installed: install it (Debian: `apt-get install {PACKAGE}`), or let {POSTGRES} name a server: \
             postgres://user:password@host/database"
        )
    })
}

/// Whether a server can be started.
#[must_use]
pub fn is_installed() -> bool {
    programs().is_ok()
}

/// `psql`, which executes statements in the database at an address, and prints only values: `|` is between columns. It stops
/// at the first error.
///
/// # Errors
///
/// When PostgreSQL is not installed.
pub fn psql(address: &str) -> Result<Command> {
    let mut psql = process::command(programs()?.join("psql"));
    psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", "--dbname"]);
    psql.arg(address);
    Ok(psql)
}

/// Installs PostgreSQL if it is missing.
///
/// # Errors
///
/// When it may not be installed; the error says what the user can do.
pub fn install_if_missing(transcript: &Transcript) -> Result<()> {
    let Err(missing) = programs() else { return Ok(()) };
    if !packages::can_install() {
        return Err(missing);
    }
    packages::install(transcript, &[PACKAGE], "the tests use a real database")?;
    programs().map(drop)
}

/// A database server for one command: the server that `WAFT_TEST_POSTGRES` names, or else one that runs as long as this
/// value exists.
#[derive(Debug)]
pub enum Database {
    /// An external server.
    External(String),
    /// A private server.
    Own(Postgres),
}

impl Database {
    /// Finds or starts a server, and installs PostgreSQL if it is missing.
    ///
    /// # Errors
    ///
    /// When it cannot be installed or does not start.
    pub fn find_or_start(transcript: &Transcript) -> Result<Self> {
        if let Some(url) = std::env::var(POSTGRES).ok().filter(|url| !url.is_empty()) {
            transcript.print(&format!("using the database server that {POSTGRES} names"));
            return Ok(Self::External(url));
        }
        install_if_missing(transcript)?;
        let postgres = Postgres::start()?;
        transcript.print(&format!("started a PostgreSQL at {}", postgres.url()));
        Ok(Self::Own(postgres))
    }

    /// The address for clients.
    pub fn url(&self) -> String {
        match self {
            Self::External(url) => url.clone(),
            Self::Own(postgres) => postgres.url(),
        }
    }
}

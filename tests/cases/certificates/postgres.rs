//! Tests TLS to a real PostgreSQL.

use xtask::postgres::{CERTIFIED, Postgres};

use super::authority::{Authority, Issued};

/// A server whose certificate the authority has issued.
struct TlsPostgres {
    postgres: Postgres,
    authority: Authority,
}

impl TlsPostgres {
    fn start() -> Self {
        let authority = Authority::new("authority");
        let postgres = Postgres::start_with_tls(&authority.server_tls()).expect("PostgreSQL starts");
        Self { postgres, authority }
    }

    /// The address of a database, with parameters.
    fn url(&self, database: &str, parameters: &str) -> String {
        let url = self.postgres.url();
        let (server, _) = url.rsplit_once('/').expect("an address names a database");
        format!("{server}/{database}?{parameters}")
    }

    /// The parameter that names the file of an authority.
    fn trusting(authority: &Authority) -> String {
        format!("sslmode=verify-full&sslrootcert={}", authority.file().display())
    }
}

fn showing(Issued { certificate, key }: &Issued) -> String {
    format!("&sslcert={}&sslkey={}", certificate.display(), key.display())
}

/// The reason why a logbook cannot be opened.
async fn refusal(url: &str) -> String {
    let opened = logbook::open(url).await;
    opened.err().unwrap_or_else(|| panic!("{url} is accepted")).to_string()
}

#[tokio::test]
async fn a_server_needs_a_certificate_of_the_right_authority_and_of_the_right_name() {
    let server = TlsPostgres::start();
    let trusting = TlsPostgres::trusting(&server.authority);
    let logbook = logbook::open(&server.url("postgres", &trusting)).await.expect("the certificate is trusted");
    logbook.check().await.expect("it can be written");
    let stranger = Authority::new("another authority");
    let other = TlsPostgres::trusting(&stranger);
    let refused = refusal(&server.url("postgres", &other)).await;
    assert!(refused.contains("invalid peer certificate") && refused.contains("sslrootcert"), "{refused}");
    let machine = refusal(&server.url("postgres", "sslmode=require")).await;
    assert!(machine.contains("invalid peer certificate: UnknownIssuer"), "{machine}");
    let other_name =
        server.url("postgres", &format!("{trusting}&hostaddr=127.0.0.1")).replace("@127.0.0.1", "@db.example");
    let refused = refusal(&other_name).await;
    assert!(refused.contains("NotValidForName") || refused.contains("not valid for name"), "{refused}");
}

#[tokio::test]
async fn a_database_may_need_a_certificate_of_the_client() {
    let server = TlsPostgres::start();
    let trusting = TlsPostgres::trusting(&server.authority);
    let url = |client: &str| server.url(CERTIFIED, &format!("{trusting}{client}"));
    let refused = refusal(&url("")).await;
    assert!(refused.contains("connection requires a valid client certificate"), "{refused}");
    let own = server.authority.issue("postgres", &[]);
    let logbook = logbook::open(&url(&showing(&own))).await.expect("the certificate is the user's");
    logbook.check().await.expect("it can be written");
    let of_another_user = server.authority.issue("eve", &[]);
    let refused = refusal(&url(&showing(&of_another_user))).await;
    assert!(refused.contains("certificate authentication failed for user \"postgres\""), "{refused}");
    let stranger = Authority::new("another authority");
    let refused = refusal(&url(&showing(&stranger.issue("postgres", &[])))).await;
    // The server ends the handshake, with an alert or without.
    assert!(!refused.contains("cannot be used"), "{refused}");
    let mixed = Issued { certificate: own.certificate, key: of_another_user.key };
    let refused = refusal(&url(&showing(&mixed))).await;
    assert!(refused.contains("eve.key cannot be used"), "{refused}");
}

//! Tests a server that asks its clients for certificates, through the binary.

use std::path::Path;

use waft_tests::{CommandOutput, Process, Waft};

use super::authority::{Authority, Issued};

/// A server over TLS with the token `secret`, whose clients must show a certificate of the authority.
struct TlsServer {
    waft: Waft,
    authority: Authority,
    address: String,
    process: Process,
}

impl TlsServer {
    fn start() -> Self {
        let (waft, authority) = (Waft::default(), Authority::new("authority"));
        let Issued { certificate, key } = authority.issue("server", &["127.0.0.1"]);
        let client_authority = authority.file();
        std::fs::create_dir_all(waft.folder().join("configuration/waft")).expect("the folder can be written");
        let token_file = waft.write_private("token", "secret\n");
        let settings = format!(
            "[serve]\ncertificate = {certificate:?}\nkey = {key:?}\nclient_authority = {client_authority:?}\n\
             token_file = {token_file:?}\n"
        );
        waft.write("configuration/waft/config.toml", settings);
        let mut process = Process::spawn(&mut waft.command(["serve", "--listen", "127.0.0.1:0"]));
        let line = process.wait_for("waft listens on ");
        let address = line.trim_start_matches("waft listens on ").trim().to_owned();
        Self { waft, authority, address, process }
    }

    /// Runs a command on a machine without settings.
    fn run(&self, arguments: &[&str], token: &str, authority: &Path, shown: Option<&Issued>) -> CommandOutput {
        let mut command = self.waft.command(arguments);
        command.env("XDG_CONFIG_HOME", self.waft.folder().join("no-configuration"));
        command.env("WAFT_SERVER", &self.address).env("WAFT_SERVER_AUTHORITY", authority).env("WAFT_TOKEN", token);
        if let Some(Issued { certificate, key }) = shown {
            command.env("WAFT_CLIENT_CERTIFICATE", certificate).env("WAFT_CLIENT_KEY", key);
        }
        command.output().expect("waft starts").into()
    }
}

#[test]
fn a_server_with_an_authority_serves_only_clients_with_its_certificates() {
    let server = TlsServer::start();
    let other = Authority::new("another authority");
    let own = server.authority.issue("build-7", &[]);
    let authority = server.authority.file();
    let list = |token: &str, authority: &Path, shown: Option<&Issued>| server.run(&["list"], token, authority, shown);
    let listed = list("secret", &authority, Some(&own));
    assert!(listed.expect(0).stderr.contains("there are no runs yet"), "{}", listed.stderr);
    let no_token = list("", &authority, Some(&own));
    assert!(no_token.expect(2).stderr.contains("a token is needed"), "{}", no_token.stderr);
    list("secret", &authority, None).expect(4);
    list("secret", &authority, Some(&other.issue("build-7", &[]))).expect(4);
    let untrusted = list("secret", &other.file(), Some(&own));
    assert!(untrusted.expect(4).stderr.contains("WAFT_SERVER_AUTHORITY"), "{}", untrusted.stderr);
    let wrong_file = list("secret", &server.waft.folder().join("missing.pem"), Some(&own));
    assert!(wrong_file.expect(2).stderr.contains("missing.pem cannot be used"), "{}", wrong_file.stderr);

    let create = ["token", "create", "reader", "--scope", "read"];
    server.run(&create, "secret", &authority, Some(&own)).expect(0);
    let audit = server.run(&["audit", "--json"], "secret", &authority, Some(&own)).expect(0).json();
    assert_eq!((&audit[0]["caller"], &audit[0]["subject"]), (&"(server token) (CN=build-7)".into(), &"reader".into()));
    assert!(!server.process.output().contains("secret"), "{}", server.process.output());
}

#[test]
fn settings_of_certificates_belong_together() {
    let waft = Waft::default();
    std::fs::create_dir_all(waft.folder().join("configuration/waft")).expect("the folder can be written");
    for (settings, message) in [
        ("[serve]\nclient_authority = \"ca.pem\"", "serve.client_authority: it needs serve.certificate and serve.key"),
        ("[serve]\nkey = \"key.pem\"", "serve.certificate: it belongs together with serve.key"),
        ("[client]\ncertificate = \"cert.pem\"", "client.certificate: it belongs together with client.key"),
    ] {
        waft.write("configuration/waft/config.toml", settings);
        let output = waft.run(["list"]);
        assert!(output.expect(2).stderr.contains(message), "{}", output.stderr);
    }
}

//! Who may use a server: certificates and tokens, through the binary.

use waft_tests::{CommandOutput, Waft};

use super::{TestServer, assert_error, serve};

#[test]
fn a_server_with_a_certificate_is_used_over_tls_only() {
    let waft = Waft::default();
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = waft.write("cert.pem", certified.cert.pem().as_bytes());
    let key = waft.write_private("key.pem", certified.signing_key.serialize_pem().as_bytes());
    let settings = |key: &std::path::Path| format!("[serve]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    std::fs::create_dir_all(waft.folder().join("configuration/waft")).unwrap();
    waft.write("configuration/waft/config.toml", settings(&waft.folder().join("missing.pem")).as_bytes());
    assert_error(&waft.run(["serve", "--listen", "127.0.0.1:0"]), 2, "missing.pem cannot be used");
    waft.write("configuration/waft/config.toml", settings(&key).as_bytes());
    let (_server, address) = serve(&waft, "127.0.0.1:0");
    let port = address.rsplit(':').next().unwrap();
    assert!(address.starts_with("https://"), "{address}");
    let list = |server: &str, trusts: bool| -> CommandOutput {
        let mut command = waft.command(["list", "--server", server]);
        if trusts {
            command.env("SSL_CERT_FILE", &certificate);
        }
        command.output().unwrap().into()
    };
    assert_error(&list(&address, true), 0, "there are no runs yet");
    assert_error(&list(&format!("https://localhost:{port}"), true), 0, "there are no runs yet");
    assert_error(&list(&address, false), 4, "certificate");
    assert_error(&list(&format!("http://127.0.0.1:{port}"), true), 2, "write https:// in the address");
}

#[test]
fn a_token_is_made_used_and_revoked() {
    let server = TestServer::new();
    let with = |token: &str, arguments: &[&str]| -> CommandOutput {
        let mut command = server.command(arguments);
        if !token.is_empty() {
            command.env("WAFT_TOKEN", token);
        }
        command.output().unwrap().into()
    };
    assert_error(&with("", &["token", "list"]), 0, "waft token create");
    let made = with("", &["token", "create", "reader", "--scope", "read", "--expires", "90d"]);
    let token = made.stdout.trim().to_owned();
    assert!(token.starts_with("waft_") && made.stderr.contains("it is not shown again"), "{}", made.stderr);
    assert_error(&with(&token, &["list"]), 0, "there are no runs yet");
    assert_error(&with(&token, &["cancel", "r"]), 2, "the token reader has the scopes read, and this needs operate");
    assert_error(&with(&token, &["token", "create", "more", "--scope", "admin"]), 2, "this needs admin");
    assert_error(&with("", &["token", "create", "reader", "--scope", "read"]), 2, "there is a token reader already");
    assert_error(&with("", &["token", "create", "x", "--scope", "root"]), 2, "the scopes are read, submit");
    let listed = with("", &["token", "list"]);
    assert!(listed.stdout.contains("reader  read") && !listed.stdout.contains(&token), "{}", listed.stdout);
    assert_error(&with("", &["token", "revoke", "reader"]), 0, "is revoked");
    let audit = with("", &["audit"]).stdout;
    assert!(audit.contains("create-token") && audit.contains("reader"), "{audit}");
    assert!(audit.lines().any(|line| line.contains("reader") && line.contains("cancel        403")), "{audit}");
    assert_error(&with(&token, &["list"]), 2, "revoked or expired");
    assert_error(&with("", &["token", "revoke", "reader"]), 2, "waft token list");
    assert!(!server.process.output().contains(&token), "{}", server.process.output());
}

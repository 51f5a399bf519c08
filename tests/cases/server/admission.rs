//! Which modules may run: keys, signatures and the policy of a server, through the binary.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use waft_tests::{Process, Waft, guest};

use super::{TestServer, assert_error, slow};

/// What a policy says that has changed.
const CHANGED: &str = "the admission policy has changed";

fn set_policy(waft: &Waft, admission: &str) {
    std::fs::create_dir_all(waft.folder().join("configuration/waft")).expect("it can be written");
    waft.write("configuration/waft/config.toml", admission);
}

/// Makes a key, and returns its public part.
fn create_key(waft: &Waft, name: &str) -> String {
    let made = waft.run(["keys", "create", name]);
    made.expect(0).stdout.trim().to_owned()
}

fn listed(signer: &str, tags: &str) -> String {
    format!("[admission]\nmodules = \"listed\"\n[[admission.allow]]\nsigner = \"{signer}\"\n{tags}")
}

fn denied(signer: &str) -> String {
    format!("[admission.deny]\nsigners = [\"{signer}\"]\n")
}

/// Changes the policy of a running process, and waits until the process uses it.
#[track_caller]
fn change_policy(waft: &Waft, process: &mut Process, admission: &str) {
    set_policy(waft, admission);
    process.wait_for(CHANGED);
}

fn push(server: &TestServer, file: &Path, arguments: &[&str]) -> waft_tests::CommandOutput {
    server.run(&[&["push", file.to_str().expect("it is there")], arguments].concat())
}

#[test]
fn a_key_is_made_once_for_its_owner_only() {
    let waft = Waft::default();
    assert_error(&waft.run(["keys", "list"]), 0, "waft keys create");
    let signer = create_key(&waft, "ci");
    assert!(signer.starts_with("RW"), "{signer}");
    let secret = waft.folder().join("configuration/waft/keys/ci.key");
    assert_eq!(secret.metadata().unwrap().mode() & 0o777, 0o600);
    assert_error(&waft.run(["keys", "create", "ci"]), 2, "already");
    assert_error(&waft.run(["keys", "create", "../ci"]), 2, "../ci");
    assert_eq!(waft.run(["keys", "show", "ci"]).expect(0).stdout.trim(), signer);
    assert_error(&waft.run(["keys", "show", "cd"]), 2, "there is no key cd");
    let keys = waft.run(["keys", "list", "--json"]).expect(0).json();
    assert_eq!((keys.len(), keys[0]["name"].as_str(), keys[0]["signer"].as_str()), (1, Some("ci"), Some(&*signer)));
    let password = waft.write_private("password", "eggs\n");
    let arguments = ["keys", "create", "boss", "--out", "elsewhere", "--password-file", password.to_str().unwrap()];
    waft.run(arguments).expect(0);
    let hostile = guest("hostile");
    let sign =
        |more: &[&str]| waft.run([&["push", hostile.to_str().unwrap(), "--sign", "elsewhere/boss.key"], more].concat());
    assert_error(&sign(&[]), 2, "--password-file");
    sign(&["--password-file", password.to_str().unwrap()]).expect(0);
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let open = waft.run(["push", hostile.to_str().unwrap(), "--sign", "ci"]);
    assert_error(&open, 2, "other users may read the secret key");
}

#[test]
fn a_server_refuses_an_unsigned_module_at_push_and_submit() {
    let mut server = TestServer::new();
    let hostile = guest("hostile");
    let digest = push(&server, &hostile, &[]).expect(0).stdout.trim().to_owned();
    let [ci, stranger] = ["ci", "stranger"].map(|name| create_key(&server.waft, name));
    slow(&server.waft, 1);
    change_policy(&server.waft, &mut server.process, &listed(&ci, ""));
    for arguments in [&[][..], &["--sign", "stranger"], &["--tag", "shop:1"]] {
        assert_error(&push(&server, &hostile, arguments), 2, "is not admitted: no [[admission.allow]] rule admits it");
    }
    assert_error(&push(&server, &hostile, &["--sign", "stranger"]), 2, &format!("no rule names its signer {stranger}"));
    assert_error(&server.run(&["submit", "flow.toml"]), 2, "it has no signature");
    assert!(server.run(&["modules"]).expect(0).stdout.lines().count() == 2, "a refused module is not signed");
    // The module was stored before, and is signed now.
    let signed = server.run(&["modules", "sign", &digest, "--key", "ci"]);
    assert!(signed.expect(0).stderr.contains(&format!("{ci} has signed {digest}")), "{}", signed.stderr);
    server.submit("r1");
    let modules = server.run(&["modules"]).expect(0).stdout.clone();
    assert!(modules.contains("signed by ci at "), "{modules}");
    let inspected = server.waft.run(["inspect", &digest]);
    assert!(inspected.expect(0).stdout.contains("signed by ci at "), "{}", inspected.stdout);
    let missing = format!("sha256:{}", "0".repeat(64));
    assert_error(&server.run(&["modules", "sign", &missing, "--key", "ci"]), 2, "is not in the store");
}

#[test]
fn a_revoked_signer_stops_a_running_flow_and_a_new_signature_lets_it_run() {
    let mut server = TestServer::new();
    let [leaked, new] = ["leaked", "new"].map(|name| create_key(&server.waft, name));
    let both = format!("{}[[admission.allow]]\nsigner = \"{new}\"\n", listed(&leaked, ""));
    change_policy(&server.waft, &mut server.process, &both);
    let digest = push(&server, &guest("hostile"), &["--sign", "leaked"]).expect(0).stdout.trim().to_owned();
    // The second task starts after the signer is revoked.
    slow(&server.waft, 6_000);
    server.submit("r1");
    change_policy(&server.waft, &mut server.process, &format!("{both}{}", denied(&leaked)));
    let watched = server.run(&["watch", "r1", "--json"]);
    let (kind, message) = watched.expect(1).failure("b");
    assert_eq!(kind, "module");
    assert!(message.contains(&digest) && message.contains("`signers` under [admission.deny]"), "{message}");
    assert_eq!(watched.trace().iter().filter(|state| *state == "b:running").count(), 1, "it is not retried");
    slow(&server.waft, 1);
    assert_error(&server.run(&["submit", "flow.toml"]), 2, &format!("its signer {leaked} is in `signers`"));
    assert_error(&server.run(&["modules", "sign", &digest, "--key", "leaked"]), 2, &leaked);
    server.run(&["modules", "sign", &digest, "--key", "new"]).expect(0);
    server.run(&["submit", "flow.toml", "--wait"]).expect(0);
    // A file that says nothing for a moment admits nothing more.
    set_policy(&server.waft, "");
    server.process.wait_for("the policy before stays in use");
    assert_error(&push(&server, &guest("liar"), &[]), 2, "is not admitted");
    set_policy(&server.waft, "[admission]\nmodules = \"some\"\n");
    server.process.wait_for("cannot be used");
    let liar = guest("liar");
    let mut pushing = server.command(&["push", liar.to_str().unwrap()]);
    // This command does not read the settings that cannot be used.
    let refused = pushing.env("XDG_CONFIG_HOME", server.waft.folder().join("other")).output().unwrap().into();
    assert_error(&refused, 2, "is not admitted");
}

#[test]
fn a_module_signed_for_one_tag_is_not_found_by_another() {
    let mut server = TestServer::new();
    let ci = create_key(&server.waft, "ci");
    change_policy(&server.waft, &mut server.process, &listed(&ci, "tags = [\"shop:*\"]\n"));
    let hostile = guest("hostile");
    push(&server, &hostile, &["--tag", "shop:1", "--sign", "ci"]).expect(0);
    let says = "signed it for the tag shop:1, and not for shop:2";
    assert_error(&push(&server, &hostile, &["--tag", "shop:2"]), 2, says);
    let liar = push(&server, &guest("liar"), &["--tag", "admin:1", "--sign", "ci"]);
    assert_error(&liar, 2, "signed it for the tag admin:1, and its rule is for shop:*");
    assert_error(&push(&server, &guest("liar"), &["--sign", "ci"]), 2, "signed it for no tag");
    let flow = |tag: &str| {
        let text = format!("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"m#noop\"\n[modules]\nm = \"{tag}\"\n");
        server.waft.write("tag.toml", text);
        server.run(&["submit", "tag.toml", "--wait"])
    };
    flow("shop:1").expect(0);
    // Whoever may write the store can move a tag, and cannot sign for it.
    let tags = server.waft.folder().join("store/tags");
    std::fs::copy(tags.join("shop:1"), tags.join("shop:2")).unwrap();
    assert_error(&flow("shop:2"), 2, says);
}

#[test]
fn the_audit_log_has_the_old_and_the_new_digest_of_a_tag() {
    let server = TestServer::new();
    let push = |name: &str| push(&server, &guest(name), &["--tag", "shop:1"]).expect(0).stdout.trim().to_owned();
    let (old, new) = (push("hostile"), push("ledger"));
    let audit = || server.run(&["audit", "shop:1", "--json"]).expect(0).json();
    // Entries are written in the background.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while audit().len() < 2 {
        assert!(std::time::Instant::now() < until, "the moves are not in the audit log");
    }
    let moves = audit();
    let details: Vec<&str> = moves.iter().map(|entry| entry["detail"].as_str().unwrap()).collect();
    assert_eq!(details, [format!("from {old} to {new}"), format!("from none to {old}")]);
    assert!(moves.iter().all(|entry| entry["action"] == "move-tag" && entry["caller"] == "(owner)"), "{moves:?}");
    let reader =
        server.run(&["token", "create", "reader", "--scope", "read,submit"]).expect(0).stdout.trim().to_owned();
    let hostile = guest("hostile");
    let mut pushing = server.command(&["push", hostile.to_str().unwrap(), "--tag", "shop:1"]);
    let refused = pushing.env("WAFT_TOKEN", reader).output().unwrap().into();
    assert_error(&refused, 2, "this needs push");
    assert_eq!(audit().len(), 2, "nothing has moved");
}

#[test]
fn commands_without_a_server_apply_the_policy_too() {
    let waft = Waft::default();
    let ci = create_key(&waft, "ci");
    let hostile = guest("hostile");
    let hostile = hostile.to_str().unwrap();
    set_policy(&waft, &listed(&ci, ""));
    let flow = waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    let flow = flow.to_str().unwrap();
    let call = format!("{hostile}#noop");
    for command in [&["check", flow][..], &["run", flow], &["call", &call], &["push", hostile]] {
        assert_error(&waft.run(command), 2, "is not admitted: no [[admission.allow]] rule admits it");
    }
    waft.run(["push", hostile, "--sign", "ci"]).expect(0);
    for command in [&["check", flow][..], &["run", flow], &["call", &call]] {
        waft.run(command).expect(0);
    }
    set_policy(&waft, &format!("{}{}", listed(&ci, ""), denied(&ci)));
    assert_error(&waft.run(["run", flow]), 2, "is in `signers` under [admission.deny]");
    waft.write("waft.toml", "[admission]\nmodules = \"any\"\n");
    assert_error(&waft.run(["run", flow]), 2, "waft.toml in this folder sets admission.modules");
}

#[test]
fn doctor_names_a_module_in_use_that_is_not_admitted() {
    let waft = Waft::default();
    let hostile = guest("hostile");
    waft.run(["push", hostile.to_str().unwrap(), "--tag", "shop:1"]).expect(0);
    let check = || {
        let found = waft.run(["doctor", "--json"]).json();
        found.into_iter().find(|line| line["check"] == "admission").expect("it checks the policy")
    };
    assert_eq!((check()["outcome"].as_str(), check()["detail"].as_str()), (Some("ok"), Some("every module runs")));
    let ci = create_key(&waft, "ci");
    set_policy(&waft, &listed(&ci, ""));
    let refused = check();
    assert_eq!(refused["outcome"], "warn");
    assert!(refused["detail"].as_str().unwrap().contains("modules in use: shop:1 (sha256:"), "{refused}");
}

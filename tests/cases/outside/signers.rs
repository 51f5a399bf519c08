//! Tests grants for the modules that a signer has signed.

use super::*;

fn create_key(waft: &Waft, name: &str) -> String {
    waft.run(["keys", "create", name]).expect(0).stdout.trim().to_owned()
}

#[test]
fn a_grant_may_be_for_what_a_signer_has_signed() {
    let waft = Waft::default();
    let [ci, other] = ["ci", "other"].map(|name| create_key(&waft, name));
    let settings = |signer: &str, more: &str| {
        waft.set_settings(&format!("[[grant]]\nsigner = \"{signer}\"\nconfig = {{ region = \"eu\" }}\n{more}"));
    };
    let text = flow("read-config", &json!({ "name": "region" }), "allow = { config = [\"region\"] }");
    let not_granted = "the configuration value region is denied: the flow asks for it, and no [[grant]]";
    settings(&ci, "");
    assert_denied(&waft.run_flow(&text, &[]), not_granted);
    let module = waft_tests::guest("outside");
    let digest = waft.run(["push".as_ref(), module.as_os_str()]).expect(0).stdout.trim().to_owned();
    waft.run(["modules", "sign", &digest, "--key", "other"]).expect(0);
    assert_denied(&waft.run_flow(&text, &[]), not_granted);
    let checked = |expected: &str| {
        waft.flow(&text);
        let output = waft.run(["check", "flow.toml"]);
        assert!(output.expect(0).stdout.contains(expected), "{}", output.stdout);
    };
    checked("config region (not granted here)");
    waft.run(["modules", "sign", &digest, "--key", "ci"]).expect(0);
    assert_eq!(provided(&waft.run_flow(&text, &[]), "value"), "eu");
    checked("config region (granted here)");
    // A denied signer's signature counts for nothing.
    settings(&ci, &format!("[admission.deny]\nsigners = [\"{ci}\"]\n"));
    assert_denied(&waft.run_flow(&text, &[]), not_granted);
    // The key may be in a file, and one that is none grants nothing: the command ends.
    let file = waft.write("other.pub", format!("{other}\n"));
    settings(&file.display().to_string(), "");
    assert_eq!(provided(&waft.run_flow(&text, &[]), "value"), "eu");
    for signer in ["/no/such/file.pub", "RWX"] {
        settings(signer, "");
        let stderr = waft.run_flow(&text, &[]).expect(2).stderr.clone();
        assert!(stderr.contains("[[grant]] number 1: signer: ") && stderr.contains(signer), "{stderr}");
    }
}

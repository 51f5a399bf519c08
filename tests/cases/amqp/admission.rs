//! Which modules a worker on another machine runs.

use waft_tests::guest;

use super::*;

fn set_policy(machine: &Waft, admission: &str) {
    std::fs::create_dir_all(machine.folder().join("configuration/waft")).expect("the folder can be written");
    machine.write("configuration/waft/config.toml", admission);
}

#[test]
fn a_worker_is_stricter_than_the_engine_and_refuses_a_revoked_signer_without_a_restart() {
    let (broker, queue) = (TestBroker::shared(), unique("admission"));
    let (waft, machine) = (Waft::default(), Waft::default());
    let signer = waft.run(["keys", "create", "ci"]).expect(0).stdout.trim().to_owned();
    let listed = format!("[admission]\nmodules = \"listed\"\n[[admission.allow]]\nsigner = \"{signer}\"\n");
    set_policy(&machine, &listed);
    let mut worker = Process::worker(&machine, &broker, &["--queues", &queue]);
    // Retries would not help.
    let flow = one_task(&queue, "hostile#noop", "retry = { attempts = 3 }\n");
    let run = || ended(start_run(&waft, &broker, &flow));
    let refused = run();
    let (kind, message) = refused.expect(1).failure("t");
    let calls = refused.trace().iter().filter(|state| *state == "t:running").count();
    assert_eq!((kind.as_str(), calls), ("module", 1), "{:?}", refused.trace());
    assert!(message.contains("is not admitted") && message.contains("it has no signature"), "{message}");
    let hostile = guest("hostile");
    waft.run(["push", hostile.to_str().expect("UTF-8"), "--sign", "ci"]).expect(0);
    run().expect(0);
    set_policy(&machine, &format!("{listed}[admission.deny]\nsigners = [\"{signer}\"]\n"));
    worker.wait_for("the admission policy has changed");
    let (kind, message) = run().expect(1).failure("t");
    assert_eq!(kind, "module");
    assert!(message.contains(&format!("its signer {signer} is in `signers`")), "{message}");
}

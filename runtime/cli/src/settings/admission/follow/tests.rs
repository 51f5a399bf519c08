//! Tests of files that change, and of files that cannot be used.

use std::{fs, process::Command};

use flow::Digest;
use store::{Modules, Rule, SigningKey};
use tempfile::TempDir;

use super::*;
use crate::settings::follow::MAX_WAITS;

/// A folder with settings and the files of three keys, of which the settings allow the first two.
struct World {
    folder: TempDir,
    signers: [Signer; 3],
    files: PolicyFiles,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signers = [(); 3].map(|()| SigningKey::generate().unwrap().signer());
        let settings = vec![folder.path().join("user.toml"), folder.path().join("system.toml")];
        let files = PolicyFiles::new(Admission::new(Policy::default()), settings, LastRead::default());
        let mut world = Self { folder, signers, files };
        (0..3).for_each(|number| world.write_key(number));
        world.write("system.toml", &world.rules());
        world.settle();
        assert_eq!(*world.files.admission.policy(), world.policy(&[0, 1], &[]));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn key_file(&self, number: usize) -> PathBuf {
        self.path(&format!("{number}.pub"))
    }

    /// Each writing changes the size, since the time may be the same.
    fn write(&self, name: &str, text: &str) {
        let size = fs::metadata(self.path(name)).map_or(0, |metadata| metadata.len());
        let padding = " ".repeat(usize::from(size == text.len() as u64 + 1));
        fs::write(self.path(name), format!("{text}\n{padding}")).unwrap();
    }

    fn write_key(&self, number: usize) {
        self.write(&format!("{number}.pub"), &self.signers[number].to_file());
    }

    fn rules(&self) -> String {
        let rule = |number| format!("[[admission.allow]]\nsigner = {:?}\n", self.key_file(number));
        format!("[admission]\nmodules = \"listed\"\n{}{}", rule(0), rule(1))
    }

    fn deny(&self, number: usize) -> String {
        format!("[admission.deny]\nsigners = [{:?}]\n", self.key_file(number))
    }

    fn policy(&self, allowed: &[usize], denied: &[usize]) -> Policy {
        let rule = |number: &usize| Rule::Signer { signer: self.signers[*number].clone(), tags: Vec::new() };
        Policy {
            modules: Modules::Listed(allowed.iter().map(rule).collect()),
            denied_digests: [].into(),
            denied_signers: denied.iter().map(|number| self.signers[*number].clone()).collect(),
        }
    }

    /// The first check notices a change, the second reads the files, and the others those that they newly name.
    fn settle(&mut self) {
        (0..4).for_each(|_| self.files.check());
    }

    #[track_caller]
    fn assert_policy(&mut self, allowed: &[usize], denied: &[usize]) {
        self.settle();
        assert_eq!(*self.files.admission.policy(), self.policy(allowed, denied));
    }

    #[track_caller]
    fn assert_unreadable(&self, says: &[&str]) {
        let faults = &self.files.faults.unreadable;
        assert!(
            faults.len() == says.len() && faults.iter().zip(says).all(|(fault, says)| fault.contains(says)),
            "{faults:?}"
        );
    }
}

#[test]
fn a_spoiled_key_file_ends_its_rule_and_delays_no_denial() {
    let mut world = World::new();
    world.write("1.pub", "spoiled");
    world.write("system.toml", &format!("{}{}", world.rules(), world.deny(0)));
    world.assert_policy(&[0], &[0]);
    world.assert_unreadable(&["1.pub has no public key of minisign"]);
    world.write_key(1);
    world.assert_policy(&[0, 1], &[0]);
    world.assert_unreadable(&[]);
}

#[test]
fn a_denied_signer_with_a_spoiled_key_file_stays_denied() {
    let mut world = World::new();
    // The denied signer spoils the file before the operator denies the key in it.
    world.write("1.pub", "spoiled");
    world.settle();
    world.write("system.toml", &format!("{}{}", world.rules(), world.deny(1)));
    world.assert_policy(&[0], &[1]);
    world.assert_unreadable(&["admits nothing until", "the key that the file had before stays denied"]);
    fs::remove_file(world.key_file(1)).unwrap();
    world.assert_policy(&[0], &[1]);
    world.write_key(1);
    world.assert_policy(&[0, 1], &[1]);
}

#[test]
fn a_pipe_or_a_device_in_the_place_of_a_file_is_no_key() {
    let mut world = World::new();
    fs::remove_file(world.key_file(0)).unwrap();
    assert!(Command::new("mkfifo").arg(world.key_file(0)).status().unwrap().success());
    fs::remove_file(world.key_file(1)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", world.key_file(1)).unwrap();
    world.assert_policy(&[], &[]);
    world.assert_unreadable(&[
        "0.pub cannot be read: it is no regular file",
        "1.pub cannot be read: it is no regular file",
    ]);
}

#[test]
fn settings_that_cannot_be_used_delay_no_denial_of_others() {
    let mut world = World::new();
    let digest = Digest::from_bytes([7; 32]);
    world.write("user.toml", "no settings");
    world.write("system.toml", &format!("{}{}", world.rules(), world.deny(1)));
    world.assert_policy(&[0, 1], &[1]);
    world.assert_unreadable(&["user.toml"]);
    // An error changes nothing that is allowed, and ends no denial.
    world.write("user.toml", "[admission]\nmodules = \"some\"\n");
    world.write("system.toml", &format!("{}[admission.deny]\ndigests = [\"{digest}\", \"x\"]\n", world.rules()));
    world.settle();
    let policy = Policy { denied_digests: [digest].into(), ..world.policy(&[0, 1], &[1]) };
    assert_eq!(*world.files.admission.policy(), policy);
    assert!(world.files.faults.errors.concat().contains("\"x\" is no digest"), "{:?}", world.files.faults);
}

#[test]
fn a_file_that_changes_all_the_time_delays_no_denial() {
    let mut world = World::new();
    world.write("system.toml", &format!("{}{}", world.rules(), world.deny(0)));
    for number in 0..=MAX_WAITS {
        fs::write(world.key_file(1), "x".repeat(number as usize)).unwrap();
        world.files.check();
    }
    assert_eq!(*world.files.admission.policy(), world.policy(&[0], &[0]));
}

#[test]
fn a_missing_table_loosens_nothing() {
    let mut world = World::new();
    world.write("system.toml", "");
    world.assert_policy(&[0, 1], &[]);
    assert!(world.files.faults.errors.concat().contains("has no [admission] any more"), "{:?}", world.files.faults);
    fs::remove_file(world.path("system.toml")).unwrap();
    world.assert_policy(&[0, 1], &[]);
    world.write("system.toml", "[admission]\nmodules = \"any\"");
    world.settle();
    assert_eq!(*world.files.admission.policy(), Policy::default());
}

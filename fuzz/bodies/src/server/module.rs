//! The bytes of a module that somebody uploads: recognised, checked, and made a component.

use std::{
    panic::resume_unwind,
    sync::{
        Mutex, OnceLock, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
};

use sandbox::Module;

/// The stack of the thread that checks modules. The parsers of WebAssembly descend into nested types, and waft lets a child process
/// check modules for this reason: its end is an answer. Here it would end the fuzzer, which looks for other faults.
const STACK: usize = 1 << 30;

/// The input is a file.
pub fn run(input: &[u8]) {
    if let Ok(imports) = sandbox::imports(input) {
        drop(imports);
    }
    deep(input.to_vec());
}

/// Checks a module on a thread with a deep stack.
fn deep(bytes: Vec<u8>) {
    static CHECKER: OnceLock<Mutex<Checker>> = OnceLock::new();
    let checker = CHECKER.get_or_init(|| Mutex::new(Checker::start()));
    let mut checker = checker.lock().unwrap_or_else(PoisonError::into_inner);
    if checker.modules.send(bytes).is_err() || checker.checked.recv().is_err() {
        let ended = std::mem::replace(&mut *checker, Checker::start()).thread.join();
        resume_unwind(ended.expect_err("it ends only with a panic"));
    }
}

/// A thread that checks modules.
struct Checker {
    modules: SyncSender<Vec<u8>>,
    checked: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Checker {
    fn start() -> Self {
        let (modules, received) = mpsc::sync_channel::<Vec<u8>>(1);
        let (done, checked) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().stack_size(STACK).spawn(move || {
            while let Ok(bytes) = received.recv() {
                check(&bytes);
                let _ = done.send(());
            }
        });
        Self { modules, checked, thread: thread.expect("a thread starts") }
    }
}

fn check(bytes: &[u8]) {
    match Module::componentize(bytes) {
        Ok(module) => {
            let component = module.into_bytes();
            let again = Module::componentize(&component).map(Module::into_bytes);
            assert_eq!(again.as_ref(), Ok(&component), "a component is accepted unchanged");
            assert!(sandbox::imports(&component).is_ok());
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
}

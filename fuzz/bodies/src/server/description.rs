//! The answer of a guest's `describe`: it lies in the memory of the guest, who may have written anything there.

use flow::ModuleContent;

use super::{block_on, guest, sandbox};

/// The input is the memory of a guest, from the address that its `describe` returns: first the address and the length of the list
/// of tasks.
pub fn run(input: &[u8]) {
    let component = guest::component(input);
    let digest = store::digest_of(&component);
    block_on(async {
        let compiled = sandbox().compile(digest, component.into()).await;
        let compiled = compiled.expect("the template compiles with any data");
        match sandbox().describe(&compiled).await {
            Ok(ModuleContent::Tasks(tasks)) => assert!(!tasks.is_empty(), "a module without tasks is refused"),
            Ok(ModuleContent::Command) => panic!("the template is no command"),
            Err(refused) => assert!(!refused.to_string().is_empty()),
        }
    });
}

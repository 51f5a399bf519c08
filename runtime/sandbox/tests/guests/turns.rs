//! Modules that take long to describe themselves delay only their namespace.

use flow::Namespace;
use futures::FutureExt as _;
use sandbox::DescribeError;

use crate::support::{Image, compile, guest, sandbox};

/// A guest that computes forever as soon as it is instantiated.
fn spinning_from_its_start() -> Vec<u8> {
    guest(&Image::new(), "(func $spin (loop $l (br $l))) (start $spin)", "unreachable")
}

#[tokio::test]
async fn only_so_many_modules_of_one_namespace_wait() {
    let sandbox = sandbox();
    let compiled = compile(&sandbox, &spinning_from_its_start()).await;
    let (shop, bank) = (Namespace::new("shop").unwrap(), Namespace::new("bank").unwrap());
    let describe = |owner| Box::pin(sandbox.describe_for(Some(owner), &compiled));
    // Two describe themselves, and the others wait.
    let mut waiting: Vec<_> = (0..2 + 16).map(|_| describe(&shop)).collect();
    assert!(waiting.iter_mut().all(|waiting| waiting.now_or_never().is_none()), "they take long");
    let refused = describe(&shop).await.unwrap_err();
    assert_eq!(refused, DescribeError::Busy { digest: compiled.digest() });
    let mut other = describe(&bank);
    assert!((&mut other).now_or_never().is_none(), "it takes long too");
    // Who gives up makes room.
    waiting.pop();
    assert!(describe(&shop).now_or_never().is_none());
}

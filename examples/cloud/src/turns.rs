//! Handles requests with the same idempotency key one after the other, in the order of their arrival.
//!
//! So a request that takes back another one also takes it back if that one is still in progress.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio_util::sync::{CancellationToken, DropGuard};

/// The last request for each key: its token is cancelled when it ends.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    last: Mutex<HashMap<String, CancellationToken>>,
}

/// The place of a request behind the earlier ones with its key.
#[derive(Debug)]
pub(crate) struct Place {
    before: Option<CancellationToken>,
    ended: DropGuard,
}

/// The turn of a request. It lasts until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _ended: DropGuard,
}

impl Turns {
    /// Gives a request its place. A request that has a place must also wait for its turn, because later ones wait for it alone.
    pub(crate) fn place(&self, key: &str) -> Place {
        let ended = CancellationToken::new();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, ended| !ended.is_cancelled());
        let before = last.insert(key.to_owned(), ended.clone());
        Place { before, ended: ended.drop_guard() }
    }
}

impl Place {
    /// Waits until all earlier requests with the key have been handled.
    pub(crate) async fn turn(self) -> Turn {
        if let Some(before) = self.before {
            before.cancelled().await;
        }
        Turn { _ended: self.ended }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use super::*;

    #[tokio::test]
    async fn requests_with_the_same_key_wait_for_each_other_in_the_order_of_their_arrival() {
        let turns = Turns::default();
        let [first, second, third] = ["a"; 3].map(|key| turns.place(key));
        let _other = turns.place("b").turn().await;
        // The last one asks first.
        let mut third = pin!(third.turn());
        let mut second = pin!(second.turn());
        let is_ready = async |turn: std::pin::Pin<&mut dyn Future<Output = Turn>>| {
            let mut turn = turn;
            std::future::poll_fn(|context| Poll::Ready(turn.as_mut().poll(context).is_ready())).await
        };
        assert!(!is_ready(third.as_mut()).await && !is_ready(second.as_mut()).await);
        drop(first.turn().await);
        assert!(!is_ready(third.as_mut()).await);
        drop(second.await);
        assert!(is_ready(third.as_mut()).await);
    }
}

//! The client of a request that does more than read. When the client leaves, the request goes on, so that the audit log has it. But a
//! request that has changed nothing yet stops reading.

use axum::http::StatusCode;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::problem::Problem;

/// The client of a request.
#[derive(Clone)]
pub(crate) struct Client {
    left: CancellationToken,
}

impl Client {
    /// A client that is present until the guard is dropped.
    pub(crate) fn new() -> (Self, DropGuard) {
        let left = CancellationToken::new();
        (Self { left: left.clone() }, left.drop_guard())
    }

    /// Reads what a request needs, unless its client leaves.
    ///
    /// # Errors
    /// [`Problem`] when it cannot be read, or the client has left; the audit log has its status then.
    pub(crate) async fn while_present<Data, Error: Into<Problem>>(
        &self,
        read: impl Future<Output = Result<Data, Error>>,
    ) -> Result<Data, Problem> {
        match self.left.run_until_cancelled(read).await {
            Some(result) => result.map_err(Into::into),
            None => Err(client_left()),
        }
    }
}

fn client_left() -> Problem {
    // As servers commonly note it: nobody receives it.
    let status = StatusCode::from_u16(499).expect("it has three digits");
    Problem::new(status, "client-left", "the client has left", "the client has left before anything was changed")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_read_ends_when_its_client_leaves() {
        let (client, present) = Client::new();
        assert_eq!(client.while_present(async { Ok::<_, Problem>(1) }).await.unwrap(), 1);
        let (in_memory, is_dropped) = tokio::sync::oneshot::channel::<()>();
        let mut read = Box::pin(client.while_present(async move {
            let _in_memory = in_memory;
            std::future::pending::<Result<(), Problem>>().await
        }));
        assert!(read.as_mut().now_or_never().is_none());
        drop(present);
        let problem = read.await.unwrap_err().into_document();
        assert_eq!(problem.status, 499);
        assert!(is_dropped.await.is_err(), "nothing of it is in memory");
    }
}

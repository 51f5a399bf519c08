//! The permission to send a request. It is decided when the head of the request has arrived, and again later: until the body
//! has arrived, or while the answer is a stream, the sender may lose it.

use std::sync::Arc;

use axum::{
    http::{HeaderMap, header},
    response::Response,
};
use tracing::info;

use super::{check, identify, peer::Peer, scope::Requirement};
use crate::{shares::Sender, state::State};

/// What decides whether a request may be sent: its sender and its subject.
pub(crate) struct Permission {
    pub(super) state: Arc<State>,
    pub(super) sender: Sender,
    /// The headers that identify the sender, without the others.
    pub(super) headers: HeaderMap,
    pub(super) peer: Arc<Peer>,
    pub(super) required: Requirement,
    /// The run or token that the path of the request names.
    pub(super) subject: Option<String>,
}

/// The headers that identify the sender of a request.
pub(super) fn identifying(headers: &HeaderMap) -> HeaderMap {
    let identifying = headers.iter().filter(|(name, _)| [header::AUTHORIZATION, header::HOST].contains(name));
    identifying.map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl Permission {
    /// Who sends the request.
    pub(crate) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Decides again whether the sender may send the request: its token may have been revoked, and the run of this id may be
    /// another one, in another namespace.
    ///
    /// # Errors
    /// The answer to a request that its sender may not send any more.
    pub(super) async fn check_again(&self) -> Result<(), Response> {
        let caller = identify(&self.state, &self.headers, &self.peer).await?;
        check(&self.state, &caller, &self.required, self.subject.as_deref()).await
    }

    /// Whether the sender may still send the request. If the logbook cannot be read, a later check decides.
    pub(crate) async fn still_holds(&self) -> bool {
        let Err(refusal) = self.check_again().await else { return true };
        let is_lost = refusal.status().is_client_error();
        if is_lost {
            info!(sender = ?self.sender, status = refusal.status().as_u16(), "a sender may no longer do what it began: its event stream or its request ends");
        }
        !is_lost
    }
}

//! The permission to send a request. It is decided when the head of the request has arrived, and again later: until the body
//! has arrived, or while the answer is a stream, the sender may lose it.

use std::sync::Arc;

use axum::{
    http::{HeaderMap, header},
    response::Response,
};

use super::{Caller, check, identify, peer::Peer, scope::Requirement};
use crate::state::State;

/// What decides whether a request may be sent: its sender and its subject.
pub(crate) struct Permission {
    state: Arc<State>,
    /// The headers that identify the sender, without the others.
    headers: HeaderMap,
    peer: Arc<Peer>,
    required: Requirement,
    /// The run or token that the path of the request names.
    subject: Option<String>,
}

impl Permission {
    pub(super) fn new(
        state: Arc<State>,
        headers: &HeaderMap,
        peer: Arc<Peer>,
        required: Requirement,
        subject: Option<String>,
    ) -> Self {
        let identifying = headers.iter().filter(|(name, _)| [header::AUTHORIZATION, header::HOST].contains(name));
        let headers = identifying.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { state, headers, peer, required, subject }
    }

    /// Decides again whether the sender may send the request: its token may have been revoked, and the run of this id may be
    /// another one, in another namespace.
    ///
    /// # Errors
    /// The answer to a request that its sender may not send any more.
    pub(super) async fn check_again(&self) -> Result<(), Response> {
        let caller: Caller = identify(&self.state, &self.headers, &self.peer).await?;
        check(&self.state, &caller, &self.required, self.subject.as_deref()).await
    }
}

//! What a coordinator does with the requests and updates of engines.

use std::collections::{BTreeMap, BTreeSet};

use flow::{CallId, Shard};
use protocol::{Permit, PermitRequest, PermitUpdate, RequestedCall};

use super::{Leadership, PermitCoordinator, QueuePosition, QueuedRequest, Requester, SILENT_SHARD_TICKS};

impl PermitCoordinator {
    /// Handles a request. Returns whether it has returned a permit, or may have: then it counts again for the next coordinator.
    pub(super) fn on_request(&mut self, request: PermitRequest) -> bool {
        let shard = request.shard.clone();
        if self.requesters.get(&shard).is_some_and(|current| current.is_outdated(&request)) {
            return false;
        }
        let is_probing = matches!(self.stage, Leadership::Probing { .. });
        if is_probing {
            self.requests_while_probing.insert(shard.clone(), request.clone());
        }
        let earlier = self.requesters.remove(&shard);
        self.absent.remove(&shard);
        let positions = earlier.map(|earlier| earlier.requests).unwrap_or_default();
        let permit = |call: &CallId| {
            let (shard, engine) = (request.shard.clone(), request.engine.clone());
            Permit { call: call.clone(), shard, engine, request_number: request.number }
        };
        let (requests, granted) = self.enqueue(&shard, &request.wanted, positions, permit);
        let mentioned = mentioned_calls(&request);
        let permits = self.permits.len();
        self.permits.retain(|call, permit| {
            let is_newer = permit.engine == request.engine && permit.request_number >= request.number;
            permit.shard != shard || mentioned.contains(call) || is_newer || request.unloaded.contains(&call.run)
        });
        let returns_permits = self.permits.len() < permits;
        self.permits.extend(request.held.iter().map(|call| (call.clone(), permit(call))));
        if self.stage == Leadership::Active && (request.wants_reply || !granted.is_empty()) {
            self.send_grant(shard.clone(), request.engine.clone(), request.number, granted);
        }
        if !requests.is_empty() || !request.held.is_empty() {
            let PermitRequest { engine, since, number, pace, .. } = request;
            self.requesters.insert(shard, Requester { engine, since, number, pace, silent: 0, requests });
        }
        is_probing || returns_permits
    }

    /// Handles what has changed since the last message of an engine. Returns whether it has returned a permit.
    pub(super) fn on_update(&mut self, update: PermitUpdate) -> bool {
        let PermitUpdate { shard, engine, number, follows, released, wanted } = update;
        // While it is probing, a snapshot that is delivered later may have permits that this update returns, and only a request
        // names all that an engine has.
        let is_active = self.stage == Leadership::Active;
        let follows_last = |last: &&mut Requester| is_active && last.engine == engine && last.number == follows;
        let Some(requester) = self.requesters.get_mut(&shard).filter(follows_last) else {
            // A message was lost, or this coordinator is a new one: the engine sends a request again.
            if is_active {
                self.send_grant(shard, String::new(), 0, Vec::new());
            }
            return false;
        };
        (requester.number, requester.silent) = (number, 0);
        let positions = std::mem::take(&mut requester.requests);
        let permit = |call: &CallId| {
            let (shard, engine) = (shard.clone(), engine.clone());
            Permit { call: call.clone(), shard, engine, request_number: number }
        };
        let (requests, granted) = self.enqueue(&shard, &wanted, positions, permit);
        if let Some(requester) = self.requesters.get_mut(&shard) {
            requester.requests = requests;
        }
        let permits = self.permits.len();
        for call in &released {
            if self.permits.get(call).is_some_and(|permit| permit.shard == shard) {
                self.permits.remove(call);
            }
        }
        let returns_permits = self.permits.len() < permits;
        if !granted.is_empty() {
            self.send_grant(shard, engine, number, granted);
        }
        returns_permits
    }

    /// Puts the calls that a shard requests into the queue, in their former positions if they had any, and removes the others. Returns
    /// the positions, and the calls that hold a permit already.
    fn enqueue(
        &mut self,
        shard: &Shard,
        wanted: &[RequestedCall],
        mut positions: BTreeMap<CallId, QueuePosition>,
        permit: impl Fn(&CallId) -> Permit,
    ) -> (BTreeMap<CallId, QueuePosition>, Vec<CallId>) {
        let (mut requests, mut granted) = (BTreeMap::new(), Vec::new());
        for RequestedCall { call, priority } in wanted {
            if let Some(existing) = self.permits.get_mut(call) {
                *existing = permit(call);
                granted.push(call.clone());
                continue;
            }
            let position = positions.remove(call).unwrap_or_else(|| {
                self.arrivals += 1;
                QueuePosition { priority: *priority, run: call.run.clone(), arrival: self.arrivals }
            });
            let priority = position.priority;
            self.queue.insert(&position, QueuedRequest { shard: shard.clone(), call: call.clone(), priority });
            requests.insert(call.clone(), position);
        }
        for position in positions.into_values() {
            self.queue.remove(&position);
        }
        (requests, granted)
    }

    /// It is the active coordinator: it has received all requests and snapshots of earlier ones. A request that was delivered before
    /// the snapshot may have returned permits in it.
    pub(super) fn become_active(&mut self) {
        self.stage = Leadership::Active;
        for (shard, request) in std::mem::take(&mut self.requests_while_probing) {
            let mentioned = mentioned_calls(&request);
            self.permits.retain(|call, permit| {
                let is_older = permit.engine == request.engine && permit.request_number < request.number;
                permit.shard != shard || !is_older || mentioned.contains(call) || request.unloaded.contains(&call.run)
            });
        }
    }
}

/// The calls that hold a permit or wait for one, as the engine that sends a request knows it.
fn mentioned_calls(request: &PermitRequest) -> BTreeSet<&CallId> {
    request.held.iter().chain(request.wanted.iter().map(|wanted| &wanted.call)).collect()
}

impl Requester {
    /// Whether this request is late, or comes from an engine that no longer drives the shard.
    pub(super) fn is_outdated(&self, request: &PermitRequest) -> bool {
        if self.engine == request.engine {
            return request.number <= self.number;
        }
        self.silent < SILENT_SHARD_TICKS && (request.since, &request.engine) < (self.since, &self.engine)
    }
}

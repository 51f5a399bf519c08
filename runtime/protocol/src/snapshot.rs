//! Snapshots as bytes: the state from which a long run is loaded.

mod firing;
mod node;
mod triggers;

use std::collections::BTreeMap;

use flow::{NodeIndex, Revision, Size, Timestamp, Values};
use machine::{GivenValues, NotificationKeys, Snapshot};

use self::{firing::WireFiring, triggers::WireTriggerState};
use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, MessageKind},
    flow_wire::WireFlow,
    wire::{Invalid, WireValues, values_from_wire, values_to_wire},
};

#[derive(Encode, BorrowDecode)]
struct WireSnapshot<'a> {
    flow: WireFlow<'a>,
    revision: u64,
    /// All firings; exactly one for a run that fires once.
    firings: Vec<WireFiring<'a>>,
    /// Present for a run that fires more than once.
    triggers: Option<WireTriggerState<'a>>,
    /// The hashes of the notifications that the run has received.
    notifications: Vec<u64>,
    /// When the last record was decided.
    latest_micros: u64,
}

/// A snapshot that is too large: [`decode_snapshot`] would refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the snapshot of the run is larger than waft reads, {} with its nodes: it is not saved before the run gets smaller",
    Size(codec::MAX_DECODED_BYTES as u64)
)]
pub struct SnapshotTooLarge;

/// Encodes a snapshot, so that [`decode_snapshot`] reads it.
///
/// # Errors
/// [`SnapshotTooLarge`], before more memory is taken than for the largest snapshot that can be read.
pub fn encode_snapshot(snapshot: &Snapshot) -> Result<Vec<u8>, SnapshotTooLarge> {
    let Snapshot { flow, revision, firings, triggers, notifications, latest } = snapshot;
    let wire = WireSnapshot {
        flow: (&**flow).into(),
        revision: revision.get(),
        firings: firings.iter().map(WireFiring::from).collect(),
        triggers: triggers.as_ref().map(WireTriggerState::from),
        notifications: notifications.hashes().collect(),
        latest_micros: latest.as_micros(),
    };
    let bytes = codec::encode_bounded(MessageKind::SNAPSHOT, &wire).ok_or(SnapshotTooLarge)?;
    drop(wire);
    // The decoder counts what it allocates, which is more than the bytes. So only the decoder knows.
    let decoded: Result<WireSnapshot<'_>, DecodeError> = codec::decode(MessageKind::SNAPSHOT, &bytes);
    decoded.map(drop).map_err(|_| SnapshotTooLarge)?;
    Ok(bytes)
}

/// Decodes a snapshot.
///
/// # Errors
/// [`DecodeError`] for bytes that are not a snapshot of a known version.
pub fn decode_snapshot(bytes: &[u8]) -> Result<Snapshot, DecodeError> {
    let wire: WireSnapshot<'_> = codec::decode(MessageKind::SNAPSHOT, bytes)?;
    wire.into_snapshot().map_err(|reason| codec::damaged(MessageKind::SNAPSHOT, reason))
}

impl WireSnapshot<'_> {
    fn into_snapshot(self) -> Result<Snapshot, Invalid> {
        Ok(Snapshot {
            flow: self.flow.into_flow()?,
            revision: Revision::new(self.revision),
            firings: self.firings.into_iter().map(WireFiring::into_firing).collect::<Result<_, _>>()?,
            triggers: self.triggers.map(WireTriggerState::into_trigger_state).transpose()?,
            notifications: NotificationKeys::from_hashes(self.notifications),
            latest: Timestamp::from_micros(self.latest_micros),
        })
    }
}

/// Provided values, by node.
type WireProvided<'a> = Vec<(u32, WireValues<'a>)>;

fn provided_to_wire(provided: &BTreeMap<NodeIndex, Values>) -> WireProvided<'_> {
    provided.iter().map(|(index, values)| (index.0, values_to_wire(values))).collect()
}

fn provided_from_wire(wire: WireProvided<'_>) -> Result<GivenValues, Invalid> {
    let values = |(index, values): (u32, WireValues<'_>)| Ok((NodeIndex(index), values_from_wire(values)?));
    wire.into_iter().map(values).collect::<Result<BTreeMap<_, _>, Invalid>>().map(GivenValues::from)
}

//! What an event stream keeps in memory between two events: the machine of its run, and records that were read. It takes a place of its
//! sender for each [`PLACE_BYTES`] of that. The estimates of that memory also decide which runs are short for requests.

use flow::{Flow, Size};
use machine::{Fact, Machine, Record, Snapshot};
use sandbox::Owner;

use crate::{
    events::{MAX_EVENT_STREAMS, MAX_SENDER_STREAMS},
    shares::{Exhausted, Share},
    turns::{self, Turn},
};

/// The memory that comes with each place, in bytes. So the streams of one sender keep 1 GiB at most, and most streams need one place.
pub(crate) const PLACE_BYTES: u64 = 16 << 20;

/// The memory of a node in a flow, in bytes, besides its texts: a task with its names, limits and links.
const FLOW_NODE_BYTES: usize = 2 << 10;

/// The memory of a node or a list element in a firing, in bytes, besides its values.
const NODE_BYTES: usize = 320;

/// The places of an event stream.
pub(crate) struct StreamMemory {
    share: Share,
    owner: Owner,
}

/// The streams of a sender, or of all senders, keep as much as they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamsTooLarge {
    /// Those of all senders.
    #[error("the event streams of the server would keep more than {} of their runs in memory", most(MAX_EVENT_STREAMS))]
    All,
    /// Those of the sender.
    #[error(
        "the event streams of the token or its namespace would keep more than {} of their runs in memory",
        most(MAX_SENDER_STREAMS)
    )]
    OfSender,
}

fn most(places: usize) -> Size {
    Size(places as u64 * PLACE_BYTES)
}

impl StreamMemory {
    /// Begins with the place of a stream. The owner is the namespace that its sender is limited to.
    pub(crate) fn new(share: Share, owner: Owner) -> Self {
        Self { share, owner }
    }

    /// Waits for a turn at reading records, until their memory is taken: they are in memory before.
    pub(crate) async fn turn(&self) -> Turn {
        turns::for_stream(self.owner.clone()).await
    }

    /// The namespace that its sender is limited to.
    pub(crate) fn owner(&self) -> Owner {
        self.owner.clone()
    }

    /// Whether so many bytes need more places than it has.
    pub(crate) fn is_exceeded_by(&self, bytes: u64) -> bool {
        places(bytes) > self.share.units()
    }

    /// Takes the places for so many bytes, and gives back those that are not needed.
    ///
    /// # Errors
    /// [`StreamsTooLarge`] when there are not enough.
    pub(crate) fn resize(&mut self, bytes: u64) -> Result<(), StreamsTooLarge> {
        self.share.resize(places(bytes)).map_err(|exhausted| match exhausted {
            Exhausted::All => StreamsTooLarge::All,
            Exhausted::OfSender => StreamsTooLarge::OfSender,
        })
    }
}

fn places(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(PLACE_BYTES)).unwrap_or(usize::MAX).max(1)
}

/// The memory of a machine besides its texts and values, in bytes.
pub(crate) fn of_machine(machine: &Machine) -> u64 {
    of_nodes(machine.flow().nodes.len(), machine.node_count())
}

/// The memory of the machine that a snapshot restores besides its texts and values, in bytes.
pub(crate) fn of_snapshot(Snapshot { flow, firings, .. }: &Snapshot) -> u64 {
    let elements = firings.iter().flat_map(|firing| &firing.elements).map(|(_, elements)| elements.list.len());
    let nodes = firings.len().saturating_mul(flow.nodes.len());
    of_nodes(flow.nodes.len(), nodes.saturating_add(elements.sum()))
}

/// The memory that records add to that of a machine when it applies them, in bytes, besides their texts and values.
pub(crate) fn of_records(flow: Option<&Flow>, records: &[Record]) -> u64 {
    let mut nodes = flow.map_or(0, |flow| flow.nodes.len());
    let mut bytes = 0_u64;
    for record in records {
        let added = if let Fact::RunStarted { flow, .. } | Fact::Edited { flow, .. } = &record.fact {
            nodes = flow.nodes.len();
            of_nodes(nodes, nodes)
        } else if let Fact::Triggered { .. } = &record.fact {
            of_nodes(0, nodes)
        } else if let Fact::Expanded { list, .. } = &record.fact {
            of_nodes(0, list.len())
        } else {
            0
        };
        bytes = bytes.saturating_add(added);
    }
    bytes
}

fn of_nodes(flow: usize, firings: usize) -> u64 {
    flow.saturating_mul(FLOW_NODE_BYTES).saturating_add(firings.saturating_mul(NODE_BYTES)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::{Sender, Shares};

    #[test]
    fn a_stream_takes_a_place_for_each_part_of_its_memory() {
        let shares = Shares::new(10, 4);
        let [ann, bob] = ["ann", "bob"].map(|name| Sender::Token(name.into()));
        let stream = |sender| shares.take(sender, 1).map(|share| StreamMemory::new(share, None));
        let mut large = stream(&ann).unwrap();
        assert_eq!(large.resize(PLACE_BYTES), Ok(()));
        assert!(stream(&ann).is_ok() && !large.is_exceeded_by(PLACE_BYTES) && large.is_exceeded_by(PLACE_BYTES + 1));
        assert_eq!(large.resize(3 * PLACE_BYTES + 1), Ok(()), "it has four places");
        assert!(stream(&ann).is_err());
        assert_eq!(large.resize(4 * PLACE_BYTES + 1), Err(StreamsTooLarge::OfSender));
        assert!(stream(&bob).is_ok());
        assert_eq!(large.resize(0), Ok(()));
        let others = [(); 3].map(|()| stream(&ann).unwrap());
        assert_eq!(large.resize(PLACE_BYTES + 1), Err(StreamsTooLarge::OfSender));
        drop(others);
        assert_eq!(large.resize(u64::MAX), Err(StreamsTooLarge::OfSender));
        assert_eq!(large.resize(2 * PLACE_BYTES), Ok(()));
    }

    #[test]
    fn the_streams_of_a_sender_keep_a_gibibyte_at_most() {
        assert_eq!(most(MAX_SENDER_STREAMS).0, 1 << 30);
    }
}

//! Changes of the voters that callers ask for: on their way to the controller's thread, and until they are committed.

use ottla_log::files::disk::Disk;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::time::Timestamp;
use ottla_quorum::{RaftNode, VoterChange, VotersRefused};
use tokio::sync::{mpsc, oneshot};

/// Upper bound of the requests that wait for the controller's thread.
pub const MAX_WAITING: usize = 16;

/// What the caller of a change wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// To know whether it is possible now.
    WhetherPossible,
    /// To have it proposed.
    Proposed,
    /// To have it committed.
    Committed,
}

/// Where the outcome goes.
type Caller = oneshot::Sender<Result<(), VotersRefused>>;

/// A change that somebody asks for.
#[derive(Debug)]
pub struct VotersRequest {
    pub change: VoterChange,
    pub asks: Asks,
    /// Where there are so many voters, another one is refused.
    pub most: usize,
    pub caller: Caller,
}

/// The requests at the controller's thread.
#[derive(Debug)]
pub struct VoterChanges {
    received: mpsc::Receiver<VotersRequest>,
    next: Option<VotersRequest>,
    /// Proposed changes, the epoch in which they were, and where the log ends after them.
    proposed: Vec<(LeaderEpoch, Offset, Caller)>,
}

impl VoterChanges {
    pub const fn new(received: mpsc::Receiver<VotersRequest>) -> Self {
        Self {
            received,
            next: None,
            proposed: Vec::new(),
        }
    }

    /// Completes when there is a request. It may be dropped and called again at any time.
    pub async fn wait(&mut self) {
        if self.next.is_none() {
            match self.received.recv().await {
                Some(request) => self.next = Some(request),
                // Nobody can ask any more.
                None => std::future::pending().await,
            }
        }
    }

    /// Passes the requests that have come to the node.
    pub fn decide(&mut self, node: &mut RaftNode<Disk>, now: Timestamp) {
        while let Some(request) = self.next.take().or_else(|| self.received.try_recv().ok()) {
            let VotersRequest {
                change,
                asks,
                most,
                caller,
            } = request;
            let voters = node.all_voters().len();
            let outcome = if matches!(change, VoterChange::Add(_)) && voters >= most {
                Err(VotersRefused::Enough(voters))
            } else if asks == Asks::WhetherPossible {
                node.check_voters(&change, now).map(|_| None)
            } else {
                node.propose_voters(&change, now).map(Some)
            };
            match outcome {
                Ok(Some((epoch, end))) if asks == Asks::Committed => {
                    self.proposed.push((epoch, end, caller));
                }
                // A caller that went away wants no answer.
                Ok(_) => drop(caller.send(Ok(()))),
                Err(refused) => drop(caller.send(Err(refused))),
            }
        }
    }

    /// Answers the changes that are committed, or of which this leader will never know.
    pub fn answer(&mut self, node: &RaftNode<Disk>) {
        let (led, end) = (node.led_epoch(), node.end_offset());
        let is_over = |(epoch, until, _): &mut (LeaderEpoch, Offset, Caller)| {
            led != Some(*epoch) || end >= *until
        };
        for (epoch, _, caller) in self.proposed.extract_if(.., is_over) {
            let outcome = if led == Some(epoch) {
                Ok(())
            } else {
                Err(VotersRefused::NotLeader)
            };
            drop(caller.send(outcome));
        }
    }
}

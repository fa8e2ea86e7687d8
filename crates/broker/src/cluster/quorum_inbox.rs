//! Where the messages of other controllers arrive, and which controllers are listened to.

use ottla_protocol::ids::NodeId;
use ottla_quorum::{Arrived, VoterChange, VotersRefused};
use tokio::sync::{mpsc, oneshot, watch};

use super::quorum_frames::Hello;
use super::voter_changes::{Asks, VotersRequest};

/// Upper bound of the messages that wait for the controller's thread; beyond it connections wait.
pub const MAX_WAITING: usize = 128;

/// Upper bound of the reasons that are kept.
const MAX_REASONS: usize = 16;

/// The end of the inbox that connections hold.
#[derive(Debug)]
pub struct QuorumInbox {
    /// What this controller says of itself.
    pub own: Hello,
    /// What the controller's thread has to look at.
    pub arrived: mpsc::Sender<Arrived>,
    /// The leader of the quorum, while nothing comes from it.
    pub silent_leader: watch::Sender<Option<NodeId>>,
    /// Changes of the voters that somebody asks for.
    pub voters: mpsc::Sender<VotersRequest>,
    /// Why other controllers and this one do not belong together.
    pub mismatches: watch::Sender<Vec<String>>,
}

impl QuorumInbox {
    /// Whether the controller that says hello may take part.
    pub fn check(&self, hello: &Hello) -> Result<(), String> {
        let own = &self.own;
        let (node, other) = (own.controller.node_id, hello.controller.node_id);
        if hello.cluster_id != own.cluster_id {
            return Err(format!(
                "controller {other} belongs to cluster {}, and controller {} to cluster {}; check controller.quorum.voters, and \
                 the cluster.id in meta.properties of both",
                hello.cluster_id, node, own.cluster_id
            ));
        }
        if hello.static_voters != own.static_voters {
            return Err(format!(
                "controller.quorum.voters names {} on node {other}, and {} on node {}; set the same list on all nodes",
                names(&hello.static_voters),
                names(&own.static_voters),
                node
            ));
        }
        if !own.static_voters.is_empty() && !own.static_voters.contains(&other) {
            return Err(format!(
                "controller {other} is not among the voters; add it to controller.quorum.voters on all nodes"
            ));
        }
        if other == node {
            return Err(format!(
                "two controllers have node.id {other}; give each node its own"
            ));
        }
        Ok(())
    }

    /// Asks for a change of the voters. No voter is added where there are `most`.
    pub async fn ask(
        &self,
        (change, most): (VoterChange, usize),
        asks: Asks,
    ) -> Result<(), VotersRefused> {
        let (caller, outcome) = oneshot::channel();
        let request = VotersRequest {
            change,
            asks,
            most,
            caller,
        };
        // Without the controller's thread nobody leads here.
        let gone = VotersRefused::NotLeader;
        if self.voters.send(request).await.is_err() {
            return Err(gone);
        }
        outcome.await.unwrap_or(Err(gone))
    }

    /// Notes that this controller and another one do not belong together. It is logged once for each reason.
    pub fn on_mismatch(&self, reason: &str) {
        self.mismatches.send_if_modified(|known| {
            let is_new = !known.iter().any(|one| one == reason) && known.len() < MAX_REASONS;
            if is_new {
                tracing::error!(reason, "another controller is not listened to");
                known.push(reason.to_owned());
            }
            is_new
        });
    }
}

fn names(voters: &[NodeId]) -> String {
    if voters.is_empty() {
        return "nobody".to_owned();
    }
    let names: Vec<String> = voters.iter().map(ToString::to_string).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::QuorumInbox;
    use crate::cluster::quorum_frames::Hello;
    use ottla_protocol::ids::{NodeId, Uuid};
    use ottla_quorum::Voter;
    use tokio::sync::{mpsc, watch};

    fn hello(cluster: &str, node: i32, voters: &[i32]) -> Hello {
        Hello {
            cluster_id: cluster.to_owned(),
            controller: Voter {
                node_id: NodeId(node),
                directory_id: Uuid::from_parts(1, 1),
                endpoints: Vec::new(),
            },
            static_voters: voters.iter().copied().map(NodeId).collect(),
        }
    }

    #[test]
    fn a_controller_that_does_not_belong_here_is_told_which_key_to_look_at() {
        let inbox = QuorumInbox {
            own: hello("ours", 1, &[1, 2, 3]),
            arrived: mpsc::channel(1).0,
            silent_leader: watch::Sender::default(),
            voters: mpsc::channel(1).0,
            mismatches: watch::Sender::default(),
        };
        assert_eq!(inbox.check(&hello("ours", 2, &[1, 2, 3])), Ok(()));
        let refused = [
            (hello("theirs", 2, &[1, 2, 3]), "meta.properties"),
            (
                hello("ours", 2, &[1, 2, 4]),
                "controller.quorum.voters names 1,2,4",
            ),
            (
                hello("ours", 2, &[]),
                "controller.quorum.voters names nobody",
            ),
            (hello("ours", 1, &[1, 2, 3]), "node.id 1"),
            (hello("ours", 4, &[1, 2, 3]), "controller 4 is not among"),
        ];
        for (hello, key) in refused {
            let reason = inbox.check(&hello).unwrap_err();
            assert!(reason.contains(key), "{reason}");
        }
    }
}

//! What a controller that follows the metadata log without a vote asks for, to become a voter by itself (KIP-853): decided
//! here, done in `drivers/auto_join.rs`.
//!
//! The steps are those of Kafka 4.3.1. A controller of `ottla serve --join` also tells the active controller how many
//! voters are enough, in a tagged field that Apache Kafka ignores: two that join at the same time do not make four of three.

use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::field::RawTaggedField;
use ottla_quorum::{DYNAMIC_VOTERS, QuorumStatus, Voter};

use super::own_field;

/// What to ask the active controller for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To remove the voter that had this node id and another directory.
    Remove(NodeId, Uuid),
    /// To add this controller.
    Add,
}

/// The next step of the controller `own`; none if it is a voter, if there are `most` voters, or if nobody can be asked.
pub fn step(own: &Voter, status: &QuorumStatus, most: usize) -> Option<Step> {
    let voters = &status.voters;
    let is_settled = status.is_active || voters.iter().any(|voter| voter.is_same_voter(own));
    if status.kraft_version < DYNAMIC_VOTERS || status.leader.is_none() || is_settled {
        return None;
    }
    let mut others = voters.iter();
    match others.find(|voter| voter.node_id == own.node_id) {
        Some(old) => Some(Step::Remove(old.node_id, old.directory_id)),
        None => (voters.len() < most).then_some(Step::Add),
    }
}

/// The field that says how many voters are enough; none if there is no limit.
pub fn field(most: usize) -> Option<RawTaggedField> {
    let most = u32::try_from(most).ok()?;
    Some(own_field::field(own_field::FIRST, &most.to_be_bytes()))
}

/// The limit among the unknown fields of a request.
pub fn limit(fields: &[RawTaggedField]) -> Option<usize> {
    let most = own_field::find(own_field::FIRST, fields)?;
    usize::try_from(u32::from_be_bytes(most)).ok()
}

#[cfg(test)]
mod tests {
    use super::{Step, field, limit, step};
    use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, Uuid};
    use ottla_protocol::time::Timestamp;
    use ottla_quorum::{QuorumStatus, Voter};

    fn voter(node: i32, directory: u64) -> Voter {
        Voter {
            node_id: NodeId(node),
            directory_id: Uuid::from_parts(1, directory),
            endpoints: Vec::new(),
        }
    }

    fn status(voters: &[Voter]) -> QuorumStatus {
        QuorumStatus {
            leader: Some(NodeId(1)),
            epoch: LeaderEpoch(3),
            is_active: false,
            high_watermark: Offset(9),
            log_start: Offset(0),
            voters: voters.to_vec(),
            kraft_version: 1,
            last_append: Timestamp(0),
        }
    }

    #[test]
    fn a_controller_adds_itself_where_voters_are_missing_and_in_the_place_of_its_old_directory() {
        let (one, two, three) = (voter(1, 1), voter(2, 2), voter(3, 3));
        let few = status(&[one.clone(), two.clone()]);
        assert_eq!(step(&three, &few, 3), Some(Step::Add));
        assert_eq!(step(&three, &few, 2), None, "there are enough");
        assert_eq!(step(&two, &few, 3), None, "it votes");
        let replaced = Step::Remove(NodeId(2), two.directory_id);
        assert_eq!(step(&voter(2, 9), &few, 2), Some(replaced));

        let leaderless = QuorumStatus {
            leader: None,
            ..few.clone()
        };
        assert_eq!(step(&three, &leaderless, 3), None);
        let of_the_configuration = QuorumStatus {
            kraft_version: 0,
            ..few
        };
        assert_eq!(step(&three, &of_the_configuration, 3), None);
    }

    #[test]
    fn the_limit_is_read_as_it_was_written() {
        let fields: Vec<_> = field(3).into_iter().collect();
        assert_eq!(limit(&fields), Some(3));
        assert_eq!(field(usize::MAX), None);
        assert_eq!(limit(&[]), None);
    }
}

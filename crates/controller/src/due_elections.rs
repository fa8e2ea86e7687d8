//! Elections that the controller makes by itself from time to time: of preferred leaders, so that the brokers lead evenly,
//! and unclean ones where a topic allows them.

use ottla_metadata::Partition;

use crate::elections::Election;
use crate::partition_change::{self, PartitionChange};
use crate::topic_rules::TopicRules;
use crate::unclean_election::Cause;
use crate::{Decision, View};

/// Upper bound of the elections of one decision, as in Kafka.
pub const MAX_ELECTIONS: usize = 1_000;

/// Whether elections may be left, which are to be made at once.
pub type MayBeMore = bool;

/// Elects leaders that are due.
pub fn decide(view: View<'_>, election: Election) -> Decision<MayBeMore> {
    let mut decision = Decision::reply(false);
    for topic in view.image.topics.values() {
        let mut rules = None;
        let partitions = topic.partitions.iter();
        for (index, partition) in partitions.filter(|(_, partition)| is_due(partition, election)) {
            let rules = *rules.get_or_insert_with(|| TopicRules::of(view, topic));
            let kind = match election {
                Election::Preferred => partition_change::Election::Preferred,
                Election::Unclean if !rules.unclean_election => break,
                Election::Unclean => partition_change::Election::Unclean(Cause::Config),
            };
            let change = PartitionChange::new(rules, *index, partition);
            decision.change(change.election(kind).build());
            if decision.records.len() >= MAX_ELECTIONS {
                return decision.replying(|_| true);
            }
        }
    }
    decision
}

fn is_due(partition: &Partition, election: Election) -> bool {
    match election {
        Election::Preferred => partition.leader.as_ref() != partition.replicas.first(),
        Election::Unclean => partition.leader.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_ELECTIONS, decide};
    use crate::elections::Election;
    use crate::{Settings, View};
    use ottla_metadata::{BrokerRegistration, MetadataDelta, MetadataImage, Partition};
    use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, Uuid};
    use ottla_protocol::messages::metadata::{MetadataRecord, TopicRecord};

    /// A partition that broker 1 should lead, and broker 2 leads.
    fn partition() -> Partition {
        let both = vec![NodeId(1), NodeId(2)];
        Partition {
            replicas: both.clone(),
            directories: Vec::new(),
            isr: both,
            removing: Vec::new(),
            adding: Vec::new(),
            leader: Some(NodeId(2)),
            recovering: false,
            leader_epoch: LeaderEpoch(1),
            partition_epoch: 1,
            eligible_leaders: Vec::new(),
            last_known_eligible_leaders: Vec::new(),
        }
    }

    #[test]
    fn one_decision_makes_a_bounded_number_of_elections_and_the_next_goes_on() {
        let topic_id = Uuid::from_parts(0, 1);
        let brokers = [1, 2].map(|id| BrokerRegistration {
            id: NodeId(id),
            ..BrokerRegistration::default()
        });
        let mut records: Vec<MetadataRecord> = brokers
            .iter()
            .map(|broker| broker.to_record().into())
            .collect();
        let name = "t".to_owned();
        records.push(
            TopicRecord {
                name,
                topic_id,
                ..TopicRecord::default()
            }
            .into(),
        );
        let partitions = (0..1_500).map(PartitionIndex);
        records.extend(partitions.map(|index| partition().to_record(topic_id, index).into()));
        let mut delta = MetadataDelta::new(MetadataImage::default());
        for record in &records {
            delta.replay(record);
        }

        let mut elected = Vec::new();
        for _ in 0..3 {
            let settings = Settings::default();
            let view = View {
                image: delta.image(),
                settings: &settings,
            };
            let decision = decide(view, Election::Preferred);
            elected.push((decision.records.len(), decision.reply));
            for record in &decision.records {
                delta.replay(record);
            }
        }
        assert_eq!(elected, [(MAX_ELECTIONS, true), (500, false), (0, false)]);
    }
}

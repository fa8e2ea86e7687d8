//! A model of the controller: registrations, fencing, elections and changes of the ISR by Kafka's rules, without ELR. It
//! keeps every version of the metadata, because nodes learn them late.

use ottla_metadata::{BrokerRegistration, MetadataImage, Partition};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::ErrorCode;
use ottla_replica::Durability;
use ottla_replication::{Answer, Committed, IsrChange};

use super::metadata::{NODES, broker, image, new_partition};

#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) partition: Partition,
    pub(crate) brokers: Vec<BrokerRegistration>,
    versions: Vec<(Partition, Vec<BrokerRegistration>)>,
    durability: Durability,
}

impl Controller {
    /// All brokers are registered and active.
    pub(crate) fn new(durability: Durability) -> Self {
        let brokers: Vec<_> = (1..)
            .zip(NODES)
            .map(|(epoch, id)| broker(id, epoch))
            .collect();
        let partition = new_partition();
        Self {
            versions: vec![(partition.clone(), brokers.clone())],
            partition,
            brokers,
            durability,
        }
    }

    pub(crate) fn latest(&self) -> usize {
        self.versions.len() - 1
    }

    pub(crate) fn image(&self, version: usize) -> MetadataImage {
        let (partition, brokers) = &self.versions[version];
        image(partition, brokers, self.durability)
    }

    fn commit(&mut self) {
        let version = (self.partition.clone(), self.brokers.clone());
        self.versions.push(version);
    }

    fn broker(&mut self, id: NodeId) -> &mut BrokerRegistration {
        let mut brokers = self.brokers.iter_mut();
        brokers.find(|broker| broker.id == id).unwrap()
    }

    fn is_active(&self, id: NodeId) -> bool {
        self.brokers
            .iter()
            .any(|broker| broker.id == id && broker.is_active())
    }

    /// A broker has started; returns its epoch. Its earlier process is gone, so it leaves what it led and was in sync with.
    pub(crate) fn register(&mut self, id: NodeId) -> i64 {
        let highest = self.brokers.iter().map(|broker| broker.epoch).max();
        let epoch = highest.unwrap_or(0) + 1;
        *self.broker(id) = BrokerRegistration {
            fenced: true,
            ..broker(id, epoch)
        };
        self.leave(id);
        self.commit();
        epoch
    }

    pub(crate) fn fence(&mut self, id: NodeId) {
        if self.is_active(id) {
            self.broker(id).fenced = true;
            self.leave(id);
            self.commit();
        }
    }

    /// The last member stays in the ISR, and the partition has no leader.
    fn leave(&mut self, id: NodeId) {
        let mut isr = self.partition.isr.clone();
        isr.retain(|member| *member != id);
        if isr.is_empty() {
            isr.push(id);
        }
        let leads = self.partition.leader == Some(id);
        if isr == self.partition.isr && !leads {
            return;
        }
        self.partition.isr = isr;
        if leads {
            let candidates = self.candidates();
            self.lead(candidates.first().copied());
        }
        self.partition.partition_epoch += 1;
    }

    /// The active members of the ISR, preferred ones first.
    fn candidates(&self) -> Vec<NodeId> {
        let replicas = self.partition.replicas.iter().copied();
        let isr = &self.partition.isr;
        replicas
            .filter(|id| isr.contains(id) && self.is_active(*id))
            .collect()
    }

    fn lead(&mut self, leader: Option<NodeId>) {
        self.partition.leader = leader;
        self.partition.leader_epoch.0 += 1;
    }

    pub(crate) fn unfence(&mut self, id: NodeId) {
        self.broker(id).fenced = false;
        if self.partition.leader.is_none() && self.partition.isr.contains(&id) {
            self.lead(Some(id));
            self.partition.partition_epoch += 1;
        }
        self.commit();
    }

    /// Elects the member of the ISR with this number, as preferred elections do. The same leader may get a new epoch.
    pub(crate) fn elect(&mut self, number: usize) {
        let candidates = self.candidates();
        if candidates.is_empty() {
            return;
        }
        self.lead(Some(candidates[number % candidates.len()]));
        self.partition.partition_epoch += 1;
        self.commit();
    }

    /// AlterPartition of a broker.
    pub(crate) fn alter(&mut self, from: NodeId, change: &IsrChange) -> Answer {
        if let Err(code) = self.check(from, change) {
            return Answer::of_error(code);
        }
        self.partition.isr = change.isr.iter().map(|member| member.node).collect();
        self.partition.partition_epoch += 1;
        self.commit();
        Answer::Committed(Committed {
            leader_epoch: self.partition.leader_epoch,
            partition_epoch: self.partition.partition_epoch,
            isr: self.partition.isr.clone(),
        })
    }

    fn check(&self, from: NodeId, change: &IsrChange) -> Result<(), ErrorCode> {
        let partition = &self.partition;
        if change.leader_epoch < partition.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if partition.leader != Some(from) || !change.contains(from) {
            return Err(ErrorCode::InvalidRequest);
        }
        if change.partition_epoch != partition.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        let is_eligible = |id: NodeId, epoch: Option<i64>| {
            let mut brokers = self.brokers.iter();
            let broker = brokers.find(|broker| broker.id == id).unwrap();
            broker.is_active() && epoch.is_none_or(|epoch| epoch == broker.epoch)
        };
        let mut members = change.isr.iter();
        if members.all(|member| is_eligible(member.node, member.broker_epoch)) {
            Ok(())
        } else {
            Err(ErrorCode::IneligibleReplica)
        }
    }
}

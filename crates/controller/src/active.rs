//! The active controller: decides requests, and holds their replies until the records are committed.
//!
//! Synchronous, without a log of its own. The owner proposes the records that [`Active::decide`] returns, and reports the
//! outcome: [`Active::on_committed`], [`Active::on_refused`] or [`Active::on_leadership_lost`]. Invariants:
//!
//! - A decision sees all proposals before it. Nobody else sees what is not committed.
//! - A reply leaves when the records of its request, and all records before them, are committed.
//! - A proposal that is refused, or lost with the leadership, is dropped, and its replies never leave.

use std::collections::VecDeque;

use ottla_metadata::{Changes, Loader, MetadataDelta, MetadataImage};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::MetadataRecord;

use crate::request::{ControllerReply, ControllerRequest};
use crate::{Settings, UncleanElection, View};

/// Records above which no further request joins a proposal, as Kafka bounds one operation.
const MAX_RECORDS_PER_PROPOSAL: usize = 10_000;

/// Records to be committed as one batch; there may be none, where requests change nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    pub records: Vec<MetadataRecord>,
    /// The image after these records, for a snapshot if one is due.
    pub image: MetadataImage,
}

/// The outcome of a commit.
#[derive(Debug)]
pub struct Published<T> {
    /// All records before it are in the image.
    pub end: Offset,
    /// The committed image and its changes; `None` if no records were committed.
    pub metadata: Option<(MetadataImage, Changes)>,
    /// The replies that may leave once the image is published, in the order of their requests.
    pub replies: Vec<(T, ControllerReply)>,
    /// The elections among the changes that may lose acknowledged records.
    pub unclean_elections: Vec<UncleanElection>,
}

impl<T> Default for Published<T> {
    fn default() -> Self {
        Self {
            end: Offset(0),
            metadata: None,
            replies: Vec::new(),
            unclean_elections: Vec::new(),
        }
    }
}

impl<T> Published<T> {
    /// Whether anybody has to hear of it.
    pub(crate) fn is_news(&self) -> bool {
        self.metadata.is_some() || !self.replies.is_empty()
    }
}

/// The active controller. `T` identifies the caller of a request.
#[derive(Debug)]
pub struct Active<T> {
    settings: Settings,
    committed: Loader,
    /// Proposals that are not committed yet, the oldest first.
    proposed: VecDeque<Proposed<T>>,
}

#[derive(Debug)]
struct Proposed<T> {
    /// The offset behind the last record.
    end: Offset,
    proposal: Proposal,
    replies: Vec<(T, ControllerReply)>,
    unclean_elections: Vec<UncleanElection>,
}

impl<T> Active<T> {
    /// A controller that starts from committed metadata.
    pub fn new(image: MetadataImage, settings: Settings) -> Self {
        Self {
            settings,
            committed: Loader::new(image),
            proposed: VecDeque::new(),
        }
    }

    /// The committed metadata.
    pub fn image(&self) -> &MetadataImage {
        self.committed.image()
    }

    /// Decides requests, each on top of the proposals before it. Stops when the proposal is full; the other requests stay in
    /// the iterator. `next` is the offset of the proposal's first record.
    pub fn decide(
        &mut self,
        requests: impl IntoIterator<Item = (T, ControllerRequest)>,
        next: Offset,
    ) -> &Proposal {
        let last = self.proposed.back();
        let image = last.map_or_else(|| self.image(), |last| &last.proposal.image);
        let mut delta = MetadataDelta::new(image.clone());
        let mut records = Vec::new();
        let mut replies = Vec::new();
        let mut unclean_elections = Vec::new();
        let mut requests = requests.into_iter();
        while records.len() < MAX_RECORDS_PER_PROPOSAL
            && let Some((caller, request)) = requests.next()
        {
            let view = View {
                image: delta.image(),
                settings: &self.settings,
            };
            let decision = request.decide(view, end_of(next, &records));
            for record in &decision.records {
                delta.replay(record);
            }
            records.extend(decision.records);
            unclean_elections.extend(decision.unclean_elections);
            replies.push((caller, decision.reply));
        }
        let proposed = Proposed {
            end: end_of(next, &records),
            proposal: Proposal {
                image: delta.finish().0,
                records,
            },
            replies,
            unclean_elections,
        };
        &self.proposed.push_back_mut(proposed).proposal
    }

    /// Makes a proposal of records that no request asks for.
    pub fn propose(&mut self, records: Vec<MetadataRecord>, next: Offset) {
        let last = self.proposed.back();
        let image = last.map_or_else(|| self.image(), |last| &last.proposal.image);
        let mut loader = Loader::new(image.clone());
        loader.load(&records);
        self.proposed.push_back(Proposed {
            end: end_of(next, &records),
            proposal: Proposal {
                image: loader.image().clone(),
                records,
            },
            replies: Vec::new(),
            unclean_elections: Vec::new(),
        });
    }

    /// The newest proposal that is not committed yet.
    pub fn newest(&self) -> Option<&Proposal> {
        self.proposed.back().map(|proposed| &proposed.proposal)
    }

    /// Whether a proposal waits to be committed.
    pub fn is_proposing(&self) -> bool {
        !self.proposed.is_empty()
    }

    /// All records before `offset` are committed.
    pub fn on_committed(&mut self, offset: Offset) -> Published<T> {
        let mut changes = None;
        let mut replies = Vec::new();
        let mut unclean_elections = Vec::new();
        while let Some(proposed) = self.proposed.pop_front_if(|first| first.end <= offset) {
            let records = &proposed.proposal.records;
            if !records.is_empty() {
                let changes = changes.get_or_insert_with(Changes::default);
                changes.extend(self.committed.load(records));
            }
            replies.extend(proposed.replies);
            unclean_elections.extend(proposed.unclean_elections);
        }
        Published {
            end: offset,
            metadata: changes.map(|changes| (self.image().clone(), changes)),
            replies,
            unclean_elections,
        }
    }

    /// The quorum has refused the newest proposal for good. Returns its callers.
    pub fn on_refused(&mut self) -> Vec<T> {
        let refused = self.proposed.pop_back();
        let replies = refused.into_iter().flat_map(|proposed| proposed.replies);
        replies.map(|(caller, _)| caller).collect()
    }

    /// Another controller leads, and decides whether the open proposals are committed. Returns all callers that wait.
    pub fn on_leadership_lost(&mut self) -> Vec<T> {
        let lost = self.proposed.drain(..);
        lost.flat_map(|proposed| proposed.replies)
            .map(|(caller, _)| caller)
            .collect()
    }
}

fn end_of(next: Offset, records: &[MetadataRecord]) -> Offset {
    next.plus(i64::try_from(records.len()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Active, Published};
    use crate::Settings;
    use crate::broker_heartbeat::{ControlledShutdown, Heartbeat, Wish};
    use crate::brokers::Registration;
    use crate::create_topics::NewTopic;
    use crate::request::{
        BrokerHeartbeat, ControllerReply, ControllerRequest, CreateTopics, RegisterBroker,
    };
    use ottla_metadata::{BrokerRegistration, FeatureRange, MetadataImage, versions};
    use ottla_protocol::ids::{NodeId, Offset, Uuid};

    fn active() -> Active<u32> {
        Active::new(MetadataImage::default(), Settings::default())
    }

    fn register() -> ControllerRequest {
        let metadata_version = FeatureRange {
            name: versions::FEATURE.to_owned(),
            minimum: 1,
            maximum: 99,
        };
        RegisterBroker(Registration {
            broker: BrokerRegistration {
                id: NodeId(1),
                features: vec![metadata_version],
                ..BrokerRegistration::default()
            },
            previous_epoch: -1,
            is_alive: false,
        })
        .into()
    }

    fn unfence() -> ControllerRequest {
        BrokerHeartbeat(Heartbeat {
            broker: NodeId(1),
            epoch: 0,
            metadata_offset: Offset(0),
            wish: Wish::Serve,
            offline_directories: Vec::new(),
            cordoned_directories: None,
            shutdown: ControlledShutdown::None,
        })
        .into()
    }

    fn create(name: &str) -> ControllerRequest {
        CreateTopics {
            topics: vec![NewTopic {
                name: name.to_owned(),
                partitions: 1,
                replication_factor: 1,
                assignments: Vec::new(),
                configs: Vec::new(),
                id: Uuid::from_parts(9, name.len() as u64),
            }],
            validate_only: false,
        }
        .into()
    }

    /// The callers that are answered, and whether the first topic of each was created.
    fn created(published: &Published<u32>) -> Vec<(u32, bool)> {
        let replies = published.replies.iter();
        replies
            .map(|(caller, reply)| match reply {
                ControllerReply::CreateTopics(topics) => (*caller, topics[0].1.is_ok()),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// A controller with one broker.
    fn with_broker() -> (Active<u32>, Offset) {
        let mut active = active();
        let proposal = active.decide([(0, register()), (0, unfence())], Offset(0));
        let end = Offset(proposal.records.len() as i64);
        let published = active.on_committed(end);
        assert_eq!(published.replies.len(), 2);
        (active, end)
    }

    #[test]
    fn requests_of_one_proposal_see_each_other_and_are_answered_together() {
        let (mut active, end) = with_broker();
        let requests = [(1, create("t")), (2, create("t")), (3, create("uu"))];
        let proposal = active.decide(requests, end).clone();
        assert!(active.image().topics.is_empty(), "nothing is committed");
        let published = active.on_committed(end.plus(proposal.records.len() as i64));
        assert_eq!(created(&published), [(1, true), (2, false), (3, true)]);
        let (image, changes) = published.metadata.unwrap();
        assert_eq!((image.topics.len(), changes.partitions.len()), (2, 2));
        assert_eq!(image, proposal.image);
    }

    #[test]
    fn a_reply_waits_for_its_own_offset() {
        let (mut active, end) = with_broker();
        let first = active.decide([(1, create("t"))], end).records.len() as i64;
        let second = active.decide([(2, create("t"))], end.plus(first));
        assert!(second.records.is_empty(), "the topic is proposed already");
        let third = active.decide([(3, create("uu"))], end.plus(first)).clone();
        assert!(active.on_committed(end).replies.is_empty());
        let published = active.on_committed(end.plus(first));
        assert_eq!(created(&published), [(1, true), (2, false)]);
        assert_eq!(active.image().topics.len(), 1);
        let published = active.on_committed(end.plus(first + third.records.len() as i64));
        assert_eq!(created(&published), [(3, true)]);
    }

    #[test]
    fn what_is_refused_or_lost_is_forgotten_and_not_answered() {
        let (mut active, end) = with_broker();
        active.decide([(1, create("t"))], end);
        assert_eq!(active.on_refused(), [1]);
        let again = active.decide([(2, create("t"))], end).clone();
        assert!(!again.records.is_empty(), "it was never created");
        active.decide([(3, create("uu"))], end.plus(again.records.len() as i64));
        assert_eq!(active.on_leadership_lost(), [2, 3]);
        let published = active.on_committed(Offset(100));
        assert!(published.replies.is_empty() && published.metadata.is_none());
    }

    #[test]
    fn the_same_requests_give_the_same_records() {
        let requests = || [(0, register()), (1, create("t")), (2, create("uu"))];
        let (mut one, mut other) = (active(), active());
        let proposal = one.decide(requests(), Offset(5));
        assert_eq!(proposal, other.decide(requests(), Offset(5)));
        assert!(format!("{:?}", create("t")).contains("CreateTopics"));
    }
}

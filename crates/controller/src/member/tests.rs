//! A member over a quorum whose events the test chooses.

use ottla_metadata::{Loader, MetadataImage, MetadataVersion, versions};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::{
    BeginTransactionRecord, FeatureLevelRecord, MetadataRecord, TopicRecord,
};

use super::{Member, Turn};
use crate::Settings;
use crate::quorum::{Quorum, QuorumEvent};
use crate::request::{ControllerRequest, CreateTopics};

/// What was proposed, and what the next calls report.
#[derive(Default)]
struct Scripted {
    end: i64,
    proposed: Vec<Vec<MetadataRecord>>,
    events: Vec<QuorumEvent>,
    refuses: bool,
    first: Vec<MetadataRecord>,
}

impl Quorum for Scripted {
    type Error = &'static str;

    fn is_final(error: &&'static str) -> bool {
        *error == "ended"
    }

    fn next_offset(&self) -> Offset {
        Offset(self.end)
    }

    fn propose(
        &mut self,
        records: &[MetadataRecord],
        _: MetadataVersion,
    ) -> Result<(), &'static str> {
        if self.refuses {
            return Err("full");
        }
        self.end += records.len() as i64;
        self.proposed.push(records.to_vec());
        Ok(())
    }

    fn events(&mut self) -> Result<Vec<QuorumEvent>, &'static str> {
        Ok(std::mem::take(&mut self.events))
    }

    fn first_records(&mut self, _: &MetadataImage) -> Vec<MetadataRecord> {
        self.first.clone()
    }
}

impl Scripted {
    /// The oldest proposal is committed.
    fn commit(&mut self) {
        let records = self.proposed.remove(0);
        let open: usize = self.proposed.iter().map(Vec::len).sum();
        let end = Offset(self.end - open as i64);
        self.events.push(QuorumEvent::Committed { end, records });
    }
}

fn member() -> Member<u32> {
    Member::new(Loader::default(), Offset(0), Settings::default())
}

/// A request whose decision has no records.
fn nothing() -> ControllerRequest {
    CreateTopics {
        topics: Vec::new(),
        validate_only: false,
    }
    .into()
}

fn level() -> MetadataRecord {
    FeatureLevelRecord {
        name: versions::FEATURE.to_owned(),
        feature_level: 30,
        ..FeatureLevelRecord::default()
    }
    .into()
}

fn topic(name: &str) -> MetadataRecord {
    TopicRecord {
        name: name.to_owned(),
        ..TopicRecord::default()
    }
    .into()
}

fn answered(turn: &Turn<u32, &'static str>) -> Vec<u32> {
    let replies = turn.published.iter().flat_map(|one| &one.replies);
    replies.map(|(caller, _)| *caller).collect()
}

#[test]
fn only_a_leader_decides_and_a_reply_waits_for_the_commits_before_it() {
    let (mut member, mut quorum) = (member(), Scripted::default());
    let turn = member.turn([(1, nothing())], &mut quorum).unwrap();
    assert_eq!((answered(&turn), turn.unanswered), (vec![], vec![1]));
    quorum.events.push(QuorumEvent::LeadershipGained);
    quorum.first = vec![level()];
    let turn = member.turn([(2, nothing())], &mut quorum).unwrap();
    assert!(answered(&turn).is_empty() && turn.unanswered.is_empty());
    assert_eq!(turn.leads, Some(true));
    assert!(member.is_proposing());
    quorum.commit();
    let turn = member.turn([], &mut quorum).unwrap();
    assert_eq!(answered(&turn), [2]);
    assert!(!member.is_proposing());
    assert_eq!(member.image().features[versions::FEATURE], 30);
}

#[test]
fn a_loss_of_leadership_answers_nobody_and_its_proposal_counts_if_it_is_committed() {
    let (mut member, mut quorum) = (member(), Scripted::default());
    quorum.events.push(QuorumEvent::LeadershipGained);
    quorum.first = vec![topic("a")];
    member.turn([(1, nothing())], &mut quorum).unwrap();
    quorum.events.push(QuorumEvent::LeadershipLost);
    let turn = member.turn([(2, nothing())], &mut quorum).unwrap();
    assert_eq!((turn.unanswered, turn.leads), (vec![1, 2], Some(false)));
    assert!(member.image().topics.is_empty() && !member.is_proposing());
    quorum.commit();
    let turn = member.turn([], &mut quorum).unwrap();
    assert_eq!(turn.published.len(), 1);
    assert_eq!(member.image().topics.len(), 1);
}

#[test]
fn a_follower_publishes_what_others_commit_and_a_snapshot() {
    let (mut member, mut quorum) = (member(), Scripted::default());
    let committed = |end, records| QuorumEvent::Committed {
        end: Offset(end),
        records,
    };
    quorum.events.push(committed(1, vec![topic("a")]));
    let image = Box::new(MetadataImage::default());
    let end = Offset(7);
    quorum.events.push(QuorumEvent::Restored { end, image });
    quorum.events.push(committed(9, Vec::new()));
    let turn = member.turn([], &mut quorum).unwrap();
    let published: Vec<(i64, usize)> = turn
        .published
        .iter()
        .map(|one| (one.end.0, one.metadata.as_ref().unwrap().0.topics.len()))
        .collect();
    assert_eq!(
        published,
        [(1, 1), (7, 0)],
        "a commit of control records is no news"
    );
}

#[test]
fn a_new_leader_ends_an_open_transaction_and_decides_nothing_before_the_first_records() {
    let (mut member, mut quorum) = (member(), Scripted::default());
    let records = vec![BeginTransactionRecord::default().into(), topic("torn")];
    let end = Offset(2);
    quorum.end = 2;
    quorum.events = vec![
        QuorumEvent::Committed { end, records },
        QuorumEvent::LeadershipGained,
    ];
    (quorum.first, quorum.refuses) = (vec![level()], true);
    let turn = member.turn([(1, nothing())], &mut quorum).unwrap();
    assert_eq!((turn.refused, turn.unanswered), (Some("full"), vec![1]));
    quorum.refuses = false;
    member.turn([(2, nothing())], &mut quorum).unwrap();
    let first = &quorum.proposed[0];
    assert!(matches!(first[0], MetadataRecord::AbortTransaction(_)));
    assert_eq!(first[1..], [level()]);
    quorum.commit();
    let turn = member.turn([(3, nothing())], &mut quorum).unwrap();
    assert_eq!(answered(&turn), [2, 3]);
    assert!(member.image().topics.is_empty(), "it was aborted");
}

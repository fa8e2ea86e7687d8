//! What an operation reads ([`View`]) and returns ([`Decision`]).

use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::{MetadataDelta, MetadataImage};
use ottla_protocol::messages::metadata::MetadataRecord;

use crate::partition_change::Changed;
use crate::unclean_election::UncleanElection;

/// The settings that decisions depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `num.partitions`.
    pub default_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `delete.topic.enable`.
    pub delete_topics: bool,
    /// The broker configs of the file, which give the defaults of topic configs.
    pub statics: StaticConfigs,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_partitions: 1,
            default_replication_factor: 1,
            delete_topics: true,
            statics: StaticConfigs::default(),
        }
    }
}

/// What an operation may read.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The cluster, with everything that is proposed but not yet committed.
    pub image: &'a MetadataImage,
    /// The controller's settings.
    pub settings: &'a Settings,
}

/// The outcome of an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<Reply> {
    /// The records that make the change, to be committed together; none when nothing changes.
    pub records: Vec<MetadataRecord>,
    /// The elections among them that may lose acknowledged records.
    pub unclean_elections: Vec<UncleanElection>,
    /// The reply, to be given once the records are committed.
    pub reply: Reply,
}

impl<Reply> Decision<Reply> {
    /// A change that elects no leader uncleanly.
    pub const fn new(records: Vec<MetadataRecord>, reply: Reply) -> Self {
        Self {
            records,
            unclean_elections: Vec::new(),
            reply,
        }
    }

    /// A reply to a request that changes nothing.
    pub const fn reply(reply: Reply) -> Self {
        Self::new(Vec::new(), reply)
    }

    pub(crate) fn add(&mut self, record: impl Into<MetadataRecord>) {
        self.records.push(record.into());
    }

    /// Adds the change of a partition, if there is one.
    pub(crate) fn change(&mut self, changed: Option<Changed>) {
        if let Some(changed) = changed {
            self.records.push(changed.record.into());
            self.unclean_elections.extend(changed.unclean);
        }
    }

    /// Adds the records of another decision, whose reply is dropped.
    pub(crate) fn join<Other>(&mut self, other: Decision<Other>) {
        self.records.extend(other.records);
        self.unclean_elections.extend(other.unclean_elections);
    }

    /// The same records with another reply.
    pub(crate) fn replying<Other>(self, reply: impl FnOnce(Reply) -> Other) -> Decision<Other> {
        Decision {
            records: self.records,
            unclean_elections: self.unclean_elections,
            reply: reply(self.reply),
        }
    }
}

/// A decision in steps: each sees the records of the steps before it.
#[derive(Debug)]
pub(crate) struct Steps<'a> {
    settings: &'a Settings,
    delta: MetadataDelta,
    decision: Decision<()>,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(view: View<'a>) -> Self {
        Self {
            settings: view.settings,
            delta: MetadataDelta::new(view.image.clone()),
            decision: Decision::reply(()),
        }
    }

    /// Takes the next step, and returns its reply.
    pub(crate) fn take<Reply>(&mut self, step: impl FnOnce(View<'_>) -> Decision<Reply>) -> Reply {
        let taken = step(View {
            image: self.delta.image(),
            settings: self.settings,
        });
        taken
            .records
            .iter()
            .for_each(|record| self.delta.replay(record));
        self.decision.records.extend(taken.records);
        self.decision
            .unclean_elections
            .extend(taken.unclean_elections);
        taken.reply
    }

    /// The number of records so far.
    pub(crate) fn len(&self) -> usize {
        self.decision.records.len()
    }

    pub(crate) fn finish<Reply>(self, reply: Reply) -> Decision<Reply> {
        self.decision.replying(|()| reply)
    }
}

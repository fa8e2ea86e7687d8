//! The configs of a topic that decide about its elections.

use ottla_metadata::{MetadataImage, Topic, effective};

use crate::View;
use crate::configs::MIN_IN_SYNC;

/// The config that lets any replica lead rather than none.
const UNCLEAN_ELECTION: &str = "unclean.leader.election.enable";

/// A topic, and the rules for changes of its partitions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopicRules<'a> {
    pub image: &'a MetadataImage,
    pub topic: &'a Topic,
    /// `min.insync.replicas`.
    pub min_in_sync: usize,
    /// `unclean.leader.election.enable`.
    pub unclean_election: bool,
}

impl<'a> TopicRules<'a> {
    pub(crate) fn of(view: View<'a>, topic: &'a Topic) -> Self {
        let value = |key| {
            let statics = &view.settings.statics;
            let value = effective::topic_value(view.image, statics, (&topic.name, key));
            value.unwrap_or_default()
        };
        Self {
            image: view.image,
            topic,
            min_in_sync: value(MIN_IN_SYNC).trim().parse().unwrap_or(1),
            unclean_election: value(UNCLEAN_ELECTION).trim().eq_ignore_ascii_case("true"),
        }
    }
}

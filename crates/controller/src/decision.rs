//! What an operation reads ([`View`]) and returns ([`Decision`]).

use ottla_metadata::MetadataImage;
use ottla_metadata::effective::StaticConfigs;
use ottla_protocol::messages::metadata::MetadataRecord;

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
    /// The reply, to be given once the records are committed.
    pub reply: Reply,
}

impl<Reply> Decision<Reply> {
    /// A reply to a request that changes nothing.
    pub const fn reply(reply: Reply) -> Self {
        Self {
            records: Vec::new(),
            reply,
        }
    }
}

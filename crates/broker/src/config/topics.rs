//! A topic's settings, merged once from its own, the brokers' and the defaults.
//!
//! The log is told what it obeys; what the broker itself obeys stands in [`TopicSettings`].

use ottla_metadata::ResourceKind;
use ottla_metadata::config_keys::find;
use ottla_metadata::config_keys::layers::Layers;

/// When `acks=all` is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once the batch is on stable storage.
    Fsync,
    /// Once it is in the kernel's memory, as Kafka does.
    PageCache,
}

/// Reads the values that count for one topic.
pub struct TopicValues<'a> {
    layers: Layers<'a>,
    own: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> TopicValues<'a> {
    /// The values of the topic whose own configs `own` gives.
    pub fn new(layers: Layers<'a>, own: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { layers, own }
    }

    /// The value of a topic config.
    pub fn text(&self, name: &str) -> String {
        let key = find(ResourceKind::Topic, name).expect("a topic config of the table");
        let own = (self.own)(name);
        self.layers
            .topic(key, own.as_deref())
            .value
            .unwrap_or_default()
    }

    /// A number.
    pub fn number(&self, name: &str) -> i64 {
        self.text(name).trim().parse().unwrap_or_default()
    }

    /// A truth value.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name).trim().eq_ignore_ascii_case("true")
    }

    /// `ottla.ack.durability`.
    pub fn durability(&self) -> Durability {
        if self.text("ottla.ack.durability").trim() == "page-cache" {
            Durability::PageCache
        } else {
            Durability::Fsync
        }
    }
}

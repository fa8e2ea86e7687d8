//! Newtypes for numbers that must not be mixed up.
//!
//! Each wraps the integer of the wire. Wire types have the plain integer; all code behind the handlers has these types.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number! {
    /// The position of a record in its partition, from 0; -1 means "none".
    Offset(i64)
}
number! {
    /// The epoch of a partition's leader, or of the metadata quorum's; -1 means "none".
    LeaderEpoch(i32)
}
number! {
    /// The id of a broker or controller (`node.id`).
    NodeId(i32)
}
number! {
    /// The index of a partition in its topic, from 0.
    PartitionIndex(i32)
}
number! {
    /// The id of an idempotent or transactional producer; -1 for none.
    ProducerId(i64)
}
number! {
    /// The epoch of a producer id; -1 for none.
    ProducerEpoch(i16)
}

impl Offset {
    /// Kafka's "no offset".
    pub const NONE: Self = Self(-1);

    /// The offset `count` higher.
    #[must_use]
    pub const fn plus(self, count: i64) -> Self {
        Self(self.0 + count)
    }
}

impl LeaderEpoch {
    /// Kafka's "no epoch".
    pub const NONE: Self = Self(-1);

    /// The epoch of the next leader.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl ProducerId {
    /// The producer id of a batch that is neither idempotent nor transactional.
    pub const NONE: Self = Self(-1);
}

pub use crate::uuid::Uuid;

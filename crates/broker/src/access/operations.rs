//! Authorized operations as bit fields (KIP-430). Without an authorizer every operation is allowed.
//!
//! Bit n is operation n of Kafka's `AclOperation`.

/// Operations on a topic: read, write, create, delete, alter, describe, describe configs, alter configs.
pub const ON_TOPIC: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Operations on the cluster: create, alter, describe, cluster action, describe configs, alter configs, idempotent write.
pub const ON_CLUSTER: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// Operations on a group: read, delete, describe, describe configs, alter configs.
pub const ON_GROUP: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// The client did not ask for the operations.
pub const NOT_ASKED: i32 = i32::MIN;

//! Authorized operations as bit fields (KIP-430). Without an authorizer everybody may do everything.

/// What may be done to a topic: read, write, create, delete, alter, describe, and its configs described and
/// altered; bit n is operation n of `AclOperation`.
pub const ON_TOPIC: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// What may be done to the cluster: create, alter, describe, act for it, its configs described and altered, and
/// writing idempotently.
pub const ON_CLUSTER: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// What may be done to a group: read, delete, describe, and its configs described and altered.
pub const ON_GROUP: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// The caller did not ask.
pub const NOT_ASKED: i32 = i32::MIN;

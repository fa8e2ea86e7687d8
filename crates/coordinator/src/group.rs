//! Groups: classic members, committed offsets, and groups of newer protocols found in the log.

pub mod classic;
pub mod delete;
pub mod describe;
pub mod foreign;
pub mod list;
pub mod offsets;
pub mod requests;
pub mod steps;

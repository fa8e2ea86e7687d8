//! The principals of clients and the operations that they may do. Without an authorizer every operation is allowed.

pub mod operations;
pub mod principal;

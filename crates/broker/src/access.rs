//! Who asks, and what they may do. Without an authorizer everybody may do everything.

pub mod operations;

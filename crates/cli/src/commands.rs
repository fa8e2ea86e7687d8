//! One file per command.

pub mod broker;
pub mod cluster;
pub mod completions;
pub mod config;
pub mod consume;
pub mod controller;
pub mod group;
pub mod log;
pub mod loss;
pub mod partition;
pub mod produce;
pub mod reference;
pub mod serve;
pub mod topic;
pub mod why;

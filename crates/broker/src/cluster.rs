//! This broker as a member of its cluster: it registers, tells the controller where its replicas lie, takes producer ids
//! and topics from it, tells clients where the brokers are, and logs what the metadata changes.

pub mod assign_directories;
pub mod auto_create;
pub mod auto_join;
pub mod channel;
pub mod controller_clock;
pub mod current_leader;
pub mod elections;
pub mod endpoints;
pub mod fetchers;
pub mod flushed_offset;
pub mod forward;
pub mod isr_changes;
pub mod lifecycle;
pub mod losses;
pub mod lost_leaders;
pub mod metadata_events;
pub mod metadata_follower;
pub mod no_room;
pub mod observe;
pub mod observers;
pub mod own_field;
pub mod producer_ids;
pub mod quorum_frames;
pub mod quorum_inbox;
pub mod quorum_leader;
pub mod raft_voters;
pub mod registration;
pub mod remote_controller;
pub mod replica_fetch;
pub mod sessions;
pub mod voter_changes;
pub mod voter_concerns;

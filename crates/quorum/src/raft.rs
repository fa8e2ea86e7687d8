//! The Raft library, kept inside this module: no other module of Ottla names it.
//!
//! - [`log`] keeps Raft's own log and state in one file.
//! - [`message`] is the encoding of Raft messages between controllers. The library's own codec reads nothing that comes from
//!   a peer or a disk, because the protobuf crate behind it recurses without a bound (RUSTSEC-2024-0437).

#[cfg(test)]
mod fixture;
mod format;
mod log;
mod message;
pub(crate) mod payload;

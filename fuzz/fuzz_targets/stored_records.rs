//! Fuzzes what is read from disk: metadata records, coordinator records, control records, producer snapshots.
//!
//! The first byte selects the kind. A record that decodes must encode again.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_log::producer_snapshot;
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::messages::coordinator::share::ShareRecord;
use ottla_protocol::messages::coordinator::transaction::TransactionRecord;
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::records::control::ControlRecord;

fuzz_target!(|input: &[u8]| {
    let Some((choice, content)) = input.split_first() else {
        return;
    };
    // The second byte is the length of the key.
    let (key, value) = match content.split_first() {
        Some((length, rest)) => rest.split_at(usize::from(*length).min(rest.len())),
        None => return,
    };
    let (key_bytes, value_bytes) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    match choice % 6 {
        0 => {
            if let Ok(record) = MetadataRecord::decode(Bytes::copy_from_slice(content)) {
                let version = record.highest_version();
                let _ = record.encode(version);
            }
        }
        1 => drop(GroupRecord::decode(key_bytes, Some(value_bytes))),
        2 => drop(TransactionRecord::decode(key_bytes, Some(value_bytes))),
        3 => drop(ShareRecord::decode(key_bytes, Some(value_bytes))),
        4 => drop(ControlRecord::decode(Some(key), Some(value))),
        _ => {
            if let Some(producers) = producer_snapshot::decode(content) {
                let again = producer_snapshot::decode(&producer_snapshot::encode(&producers));
                assert_eq!(again, Some(producers), "a snapshot comes back as it was");
            }
        }
    }
});

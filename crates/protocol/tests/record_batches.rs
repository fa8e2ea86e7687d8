//! Record batches against Apache Kafka's own classes (`fixtures/RecordBatches.java` wrote the fixtures), and
//! properties over any batch and any damage to one.

#![expect(clippy::unwrap_used, reason = "a test")]

use ottla_protocol::messages::ErrorCode;
use ottla_protocol::records::control::{ControlRecord, ControlType};
use ottla_protocol::records::{
    BATCH_OVERHEAD, BatchBuilder, BatchError, BatchHeader, BatchOptions, BatchView, Compression,
    Decompressor, Header, KeyRule, ProduceRules, RejectedBatch, TargetCompression, TimestampType,
    ValidBody, first_batch, split_batches, validate,
};
use ottla_protocol::time::Timestamp;
use proptest::prelude::*;

const NOW: i64 = 1_700_000_000_000;
const LIMIT: usize = 1 << 20;

fn lines(kind: &str) -> Vec<Vec<&'static str>> {
    include_str!("fixtures/record_batches.txt")
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|fields| fields[0] == kind)
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn compression(name: &str) -> Compression {
    Compression::ALL
        .into_iter()
        .find(|compression| compression.name() == name)
        .unwrap()
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn records(bytes: &[u8]) -> Vec<Owned> {
    let batch = BatchView::first(bytes).unwrap();
    let mut decompressor = Decompressor::default();
    let records = batch.records(&mut decompressor, LIMIT).unwrap();
    records
        .map(|record| {
            let record = record.unwrap();
            Owned {
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers
                    .map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec)))
                    .collect(),
            }
        })
        .collect()
}

/// The records that the Java program puts into its batches.
fn kafkas_records() -> Vec<Owned> {
    let long = "all work and no play makes jack a dull boy, ".repeat(40);
    let record = |offset, timestamp, key: &str, value: Option<&str>| Owned {
        offset,
        timestamp,
        key: Some(key.into()),
        value: value.map(Into::into),
        headers: vec![],
    };
    let mut records = vec![
        record(0, NOW, "k0", Some(&long)),
        record(1, NOW + 70, "k1", None),
        record(2, NOW - 9, "", Some("")),
    ];
    records[1].headers = vec![
        (b"h1".to_vec(), Some(b"v1".to_vec())),
        (b"h2".to_vec(), None),
        (vec![], Some(vec![])),
    ];
    records
}

fn build(options: BatchOptions, records: &[Owned]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for record in records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| Header {
                key,
                value: value.as_deref(),
            })
            .collect();
        builder.append(
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
    }
    builder.build().unwrap()
}

#[test]
fn reads_what_kafka_writes() {
    for fields in lines("batch") {
        let bytes = unhex(fields[2]);
        let batch = BatchView::first(&bytes).unwrap();
        assert!(batch.is_crc_valid(), "{}", fields[1]);
        assert_eq!(records(&bytes), kafkas_records(), "{}", fields[1]);
        let header = batch.header();
        assert_eq!(
            header.compression(),
            Some(compression(fields[1].split('-').next().unwrap()))
        );
        assert_eq!(
            header.is_transactional(),
            fields[1].ends_with("-transactional")
        );
        if header.is_transactional() {
            assert_eq!((header.producer_id, header.producer_epoch), (42, 5));
            assert_eq!(
                (header.base_sequence, header.last_sequence()),
                (i32::MAX - 1, 0)
            );
        }
        assert_eq!(header.encode(), bytes[..BATCH_OVERHEAD]);
    }
    assert_eq!(lines("batch").len(), 10);
}

#[test]
fn writes_plain_batches_as_kafka_does() {
    for fields in lines("batch")
        .iter()
        .filter(|fields| fields[1].starts_with("none"))
    {
        let bytes = unhex(fields[2]);
        let header = *BatchView::first(&bytes).unwrap().header();
        let options = BatchOptions {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            is_transactional: header.is_transactional(),
            ..BatchOptions::default()
        };
        assert_eq!(build(options, &kafkas_records()), bytes, "{}", fields[1]);
    }
}

#[test]
fn writes_control_batches_as_kafka_does() {
    for fields in lines("marker") {
        let bytes = unhex(fields[2]);
        let batch = BatchView::first(&bytes).unwrap();
        let header = *batch.header();
        assert!(header.is_control() && batch.is_crc_valid());
        let record = batch.plain_records().unwrap().next().unwrap().unwrap();
        let control = ControlRecord::decode(record.key, record.value).unwrap();
        let expected = match fields[1] {
            "commit" => ControlType::Commit,
            "abort" => ControlType::Abort,
            _ => ControlType::LeaderChange,
        };
        assert_eq!(control.control_type(), expected);
        let options = BatchOptions {
            base_offset: header.base_offset,
            partition_leader_epoch: header.partition_leader_epoch,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            is_transactional: header.is_transactional(),
            ..BatchOptions::default()
        };
        assert_eq!(
            BatchBuilder::control(options, record.timestamp, &control),
            bytes,
            "{}",
            fields[1]
        );
    }
}

fn rules(fields: &[&str]) -> ProduceRules {
    let target = compression(fields[2]);
    ProduceRules {
        compression: TargetCompression::Fixed(target, target.default_level()),
        keys: if fields[4] == "compact" {
            KeyRule::Required
        } else {
            KeyRule::Optional
        },
        timestamp_type: match fields[3] {
            "CreateTime" => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: 3_600_000,
        timestamp_after_max_ms: 3_600_000,
        max_message_bytes: LIMIT,
        max_decompressed_bytes: LIMIT,
        max_record_bytes: LIMIT,
    }
}

#[test]
fn accepts_and_rewrites_as_kafka_does() {
    let cases = lines("valid");
    assert!(cases.len() > 50);
    for fields in cases {
        let (input, kafkas) = (unhex(fields[5]), unhex(fields[6]));
        let batch = first_batch(&input, 9).unwrap();
        let valid = validate(
            &batch,
            &rules(&fields),
            Timestamp(NOW),
            &mut Decompressor::default(),
        )
        .unwrap();
        let mut header = valid.header;
        header.base_offset = 1000;
        header.partition_leader_epoch = 7;
        let ours = [&header.encode(), valid.body.bytes()].concat();
        let name = &fields[..5];
        let is_rebuilt = matches!(valid.body, ValidBody::Rebuilt(_));
        assert_eq!(is_rebuilt, fields[7] == "true", "{name:?}");
        assert_eq!(header.max_timestamp.to_string(), fields[8], "{name:?}");
        assert!(BatchView::first(&ours).unwrap().is_crc_valid(), "{name:?}");
        if is_rebuilt && header.compression() != Some(Compression::None) {
            // Two compressors need not agree on bytes: the rest of the header and the records must.
            let kafkas_header = *BatchView::first(&kafkas).unwrap().header();
            let comparable = BatchHeader {
                length: 0,
                crc: 0,
                ..header
            };
            assert_eq!(
                comparable,
                BatchHeader {
                    length: 0,
                    crc: 0,
                    ..kafkas_header
                },
                "{name:?}"
            );
            assert_eq!(records(&ours), records(&kafkas), "{name:?}");
        } else {
            assert_eq!(ours, kafkas, "{name:?}");
        }
    }
}

#[test]
fn refuses_as_kafka_does() {
    let cases = lines("reject");
    assert!(cases.len() > 25);
    for fields in cases {
        let input = unhex(fields[5]);
        let batch = first_batch(&input, 9).unwrap();
        let refused = validate(
            &batch,
            &rules(&fields),
            Timestamp(NOW),
            &mut Decompressor::default(),
        )
        .unwrap_err();
        let records = match &refused {
            RejectedBatch::Records(records) | RejectedBatch::Timestamps(records) => {
                records.as_slice()
            }
            _ => [].as_slice(),
        };
        let code = match fields[6] {
            "INVALID_RECORD" => ErrorCode::InvalidRecord,
            "INVALID_TIMESTAMP" => ErrorCode::InvalidTimestamp,
            other => panic!("unexpected {other}"),
        };
        assert_eq!(refused.code(), code);
        let indexes: Vec<_> = records
            .iter()
            .map(|record| record.index.to_string())
            .collect();
        assert_eq!(indexes.join(" "), fields.get(7).copied().unwrap_or(""));
    }
}

fn any_records() -> impl Strategy<Value = Vec<Owned>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let header = (bytes(), prop::option::of(bytes()));
    let record = (
        -1000_i64..1000,
        prop::option::of(bytes()),
        prop::option::of(bytes()),
        prop::collection::vec(header, 0..3),
    );
    prop::collection::vec(record, 1..20).prop_map(|records| {
        (0..)
            .zip(records)
            .map(|(offset, (delta, key, value, headers))| Owned {
                offset,
                timestamp: NOW + delta,
                key,
                value,
                headers,
            })
            .collect()
    })
}

fn any_rules() -> ProduceRules {
    let mut rules = rules(&["", "", "gzip", "CreateTime", "delete"]);
    rules.compression = TargetCompression::Producer;
    rules
}

proptest! {
    #[test]
    fn a_batch_round_trips(
        records_in in any_records(),
        compression in prop::sample::select(Compression::ALL.to_vec()),
    ) {
        let options = BatchOptions {
            compression,
            level: compression.default_level(),
            ..BatchOptions::default()
        };
        let bytes = build(options, &records_in);
        prop_assert!(BatchView::first(&bytes).unwrap().is_crc_valid());
        prop_assert_eq!(records(&bytes), records_in);
    }

    #[test]
    fn a_cut_batch_is_incomplete_and_a_damaged_one_is_noticed(
        records_in in any_records(),
        cut in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let bytes = build(BatchOptions::default(), &records_in);
        let at = cut.index(bytes.len());
        let first = BatchView::first(&bytes[..at]);
        let is_incomplete = matches!(first, Err(BatchError::Incomplete { .. }));
        prop_assert!(is_incomplete);
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << bit;
        match BatchView::first(&damaged) {
            // The base offset and the leader epoch lie outside the CRC.
            Ok(batch) => prop_assert!(!batch.is_crc_valid() || at < 16, "byte {} bit {}", at, bit),
            Err(_) => prop_assert!((8..17).contains(&at)),
        }
    }

    #[test]
    fn batches_split_up_to_a_partial_one(
        all in prop::collection::vec(any_records(), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let built = all.iter().map(|records| build(BatchOptions::default(), records));
        let batches: Vec<_> = built.collect();
        let bytes = batches.concat();
        let end = cut.index(bytes.len());
        let mut split = split_batches(&bytes[..end]);
        let whole = split.by_ref().take_while(Result::is_ok).count();
        let expected: usize = batches.iter().take(whole).map(Vec::len).sum();
        prop_assert_eq!(split.position(), expected);
        prop_assert!(end < expected + batches[whole].len());
    }

    #[test]
    fn any_records_behind_a_valid_checksum_are_survived(
        header in prop::array::uniform32(any::<u8>()),
        body in prop::collection::vec(any::<u8>(), 0..200),
        count in -2..20_i32,
        attributes in 0_i16..8,
    ) {
        let mut header = BatchHeader {
            base_offset: 0,
            length: i32::try_from(body.len() + BATCH_OVERHEAD - 12).unwrap(),
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes,
            last_offset_delta: count - 1,
            base_timestamp: i64::from_be_bytes(header[..8].try_into().unwrap()),
            max_timestamp: i64::from_be_bytes(header[8..16].try_into().unwrap()),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: count,
        };
        header.crc = header.compute_crc(&body);
        let bytes = [&header.encode(), body.as_slice()].concat();
        let batch = first_batch(&bytes, 9).unwrap();
        let _ = validate(&batch, &any_rules(), Timestamp(NOW), &mut Decompressor::default());
    }
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    for compression in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let value = vec![0; 4 << 20];
        let options = BatchOptions {
            compression,
            level: compression.default_level(),
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(options);
        builder.append(NOW, None, Some(&value), &[]);
        let bytes = builder.build().unwrap();
        assert!(bytes.len() < 300_000);
        let batch = first_batch(&bytes, 9).unwrap();
        let refused = validate(
            &batch,
            &any_rules(),
            Timestamp(NOW),
            &mut Decompressor::default(),
        );
        assert!(
            matches!(refused, Err(RejectedBatch::Decompression(_))),
            "{compression:?}"
        );
    }
}

#[test]
fn produce_requests_carry_one_batch_of_magic_2() {
    let batch = build(BatchOptions::default(), &kafkas_records());
    assert_eq!(first_batch(&[], 9).unwrap_err(), RejectedBatch::Nothing);
    assert_eq!(
        first_batch(&batch[..30], 9).unwrap_err(),
        RejectedBatch::Nothing
    );
    assert_eq!(
        first_batch(&batch.repeat(2), 9).unwrap_err(),
        RejectedBatch::SeveralBatches
    );
    let cut_second = &batch.repeat(2)[..batch.len() + 20];
    assert!(first_batch(cut_second, 9).is_ok());
    let mut legacy = batch.clone();
    legacy[16] = 1;
    assert_eq!(
        first_batch(&legacy, 9).unwrap_err(),
        RejectedBatch::LegacyMagic(1)
    );
    let options = BatchOptions {
        compression: Compression::Zstd,
        ..BatchOptions::default()
    };
    let zstd = build(options, &kafkas_records());
    assert_eq!(
        first_batch(&zstd, 6).unwrap_err(),
        RejectedBatch::ZstdTooEarly(6)
    );
    assert!(first_batch(&zstd, 7).is_ok());
}

//! Decoding allocates in proportion to the bytes that are there, whatever they claim.
//!
//! A counting allocator adds up every request for memory while one body is decoded: resident memory would show
//! nothing, because untouched allocations cost none. The bodies are Kafka's own encodings (`fixtures/messages.tsv`,
//! written by `cargo xtask codec-test --write-fixture`), damaged in every way that has killed a decoder somewhere.

#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be read fails the test"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use ottla_protocol::api_key::{self, ApiKey};
use ottla_protocol::messages::by_api::{self, Message};
use ottla_protocol::messages::{ProtocolError, RequestHeaderData};

/// Bytes that decoding may ask for, for each byte of the body.
const MULTIPLE: usize = 64;
/// Bytes that decoding may ask for whatever the body's size: room for the first elements of arrays whose length
/// is claimed and whose elements turn out to be missing, a level of nesting each.
const SLACK: usize = 512 * 1024;
const MUTATIONS: usize = 150;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: usize) {
    // Allocations of a thread that is ending are not counted.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + bytes));
}

#[expect(
    unsafe_code,
    reason = "the trait is unsafe; every call goes to the system's allocator unchanged"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Read = fn(ApiKey, i16, &mut Bytes) -> Result<Box<dyn Message>, ProtocolError>;

struct Sample {
    read: Read,
    api: ApiKey,
    version: i16,
    name: String,
    body: Vec<u8>,
}

fn samples() -> Vec<Sample> {
    include_str!("fixtures/messages.tsv")
        .lines()
        .map(|line| {
            let [kind, api, version, body] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line:.80}");
            };
            let api = api_key::from_number(api.parse().unwrap()).unwrap();
            Sample {
                read: match kind {
                    "request" => by_api::read_request,
                    _ => by_api::read_response,
                },
                api,
                version: version.parse().unwrap(),
                name: format!("{kind} {api:?} version {version}"),
                body: unhex(body),
            }
        })
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// What decoding `body` asks the allocator for.
fn asked_for(sample: &Sample, body: &[u8]) -> usize {
    let mut body = Bytes::copy_from_slice(body);
    ASKED.set(0);
    let decoded = (sample.read)(sample.api, sample.version, &mut body);
    let asked = ASKED.get();
    drop(decoded);
    asked
}

/// Xorshift: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

/// Lengths that claim the most: fixed and varint, the largest and merely large.
const CLAIMS: [&[u8]; 6] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x00, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0x03],
];

fn damage(body: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut damaged = body.to_vec();
    let at = numbers.below(damaged.len());
    match numbers.below(5) {
        0 => damaged.truncate(at),
        1 => {
            for _ in 0..=numbers.below(8) {
                let at = numbers.below(damaged.len());
                if let Some(byte) = damaged.get_mut(at) {
                    *byte = u8::try_from(numbers.below(256)).unwrap();
                }
            }
        }
        2 => {
            let claim = CLAIMS[numbers.below(CLAIMS.len())];
            let end = damaged.len().min(at + claim.len());
            damaged.splice(at..end, claim.iter().copied());
        }
        3 => {
            // A claim, and behind it enough of the same small bytes to make many tiny elements.
            damaged.truncate(at);
            damaged.extend_from_slice(CLAIMS[numbers.below(CLAIMS.len())]);
            let filler = u8::try_from(numbers.below(3)).unwrap();
            damaged.resize(damaged.len() + 4096, filler);
        }
        _ => {
            let filler = u8::try_from(numbers.below(256)).unwrap();
            damaged.resize(damaged.len() + numbers.below(2000), filler);
        }
    }
    damaged
}

#[test]
fn decoding_asks_for_memory_in_proportion_to_the_body() {
    let mut numbers = Numbers(0x0077_1a00_4b1d);
    let mut worst = (0, String::new());
    for sample in samples() {
        for mutation in 0..MUTATIONS {
            let body = match mutation {
                0 => sample.body.clone(),
                _ => damage(&sample.body, &mut numbers),
            };
            let asked = asked_for(&sample, &body);
            let allowed = MULTIPLE * body.len() + SLACK;
            assert!(
                asked <= allowed,
                "{}: decoding {} bytes asked for {asked}, allowed are {allowed}: {body:02x?}",
                sample.name,
                body.len()
            );
            if asked > worst.0 {
                worst = (asked, format!("{} from {} bytes", sample.name, body.len()));
            }
        }
    }
    println!("most asked for: {} by {}", worst.0, worst.1);
}

#[test]
fn tiny_elements_stay_within_the_multiple() {
    const SIZE: usize = 128 * 1024;
    let mut worst = (0, String::new());
    for sample in samples() {
        // A fixed or a varint claim of nearly as many elements as there are bytes, and elements of zeros and ones.
        let claims: [&[u8]; 2] = [&[0x00, 0x01, 0xf0, 0x00], &[0x80, 0xe0, 0x07]];
        for (claim, filler) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            for before in [0, 1, 2, 4, 5, 8] {
                let mut body = vec![0; before];
                body.extend_from_slice(claims[claim]);
                body.resize(SIZE, filler);
                let asked = asked_for(&sample, &body);
                assert!(
                    asked <= MULTIPLE * body.len() + SLACK,
                    "{}: {asked}",
                    sample.name
                );
                if asked > worst.0 {
                    worst = (asked, sample.name.clone());
                }
            }
        }
    }
    println!(
        "most asked for from {SIZE} bytes: {} by {}",
        worst.0, worst.1
    );
}

#[test]
fn a_header_asks_for_no_more_than_it_holds() {
    for claim in CLAIMS {
        for version in [1, 2] {
            let mut header = vec![0, 3, 0, 9, 0, 0, 0, 7];
            header.extend_from_slice(claim);
            let mut header = Bytes::from(header);
            ASKED.set(0);
            let _ = RequestHeaderData::read(&mut header, version);
            assert!(ASKED.get() < 4096, "{}", ASKED.get());
        }
    }
}

#[test]
fn kafkas_encodings_come_back_byte_for_byte() {
    let samples = samples();
    assert!(
        samples.len() > by_api::APIS.len(),
        "the fixture is too small"
    );
    for sample in samples {
        let mut body = Bytes::from(sample.body.clone());
        let message = (sample.read)(sample.api, sample.version, &mut body).unwrap();
        let mut again = BytesMut::new();
        message.write(&mut again, sample.version).unwrap();
        assert!(body.is_empty(), "{} has bytes left", sample.name);
        assert_eq!(again, sample.body, "{}", sample.name);
    }
}

//! The cases: Kafka's own encodings whole, cut and lengthened, random bytes, and invalid frames.

use anyhow::Result;
use bytes::{BufMut, Bytes, BytesMut};
use ottla_protocol::api_key::{self, ApiKey};
use ottla_protocol::frame::{self, RequestHead};
use ottla_protocol::messages::{self, KafkaString};

use crate::codec_test::Case as Encoding;

/// The fillings of Kafka's encodings that are sent.
const FILLINGS: &[&str] = &["defaults", "random-1", "tags"];
/// APIs of which no request with random fields is sent whole: it would change the quorum, of which the broker is the only
/// controller. `cargo xtask mixed --voters` has them.
const OF_QUORUM: [ApiKey; 2] = [ApiKey::AddRaftVoter, ApiKey::RemoveRaftVoter];
/// The number of random bytes.
const NOISE: usize = 64;

/// One frame, sent on its own connection.
#[derive(Debug)]
pub struct Case {
    /// The API; `None` for an invalid frame.
    pub api: Option<ApiKey>,
    /// Its version.
    pub version: i16,
    /// The name of the case.
    pub name: String,
    /// The frame with its length.
    pub frame: Bytes,
}

impl Case {
    /// The API's name for reports.
    pub fn api_name(&self) -> String {
        self.api
            .map_or_else(|| "-".to_owned(), |api| format!("{api:?}"))
    }
}

/// All cases for the APIs in `served`.
pub fn all(encodings: &str, served: &[ApiKey]) -> Result<Vec<Case>> {
    let mut cases = broken_frames();
    for line in encodings
        .lines()
        .filter(|line| line.starts_with("request\t"))
    {
        let encoding = Encoding::parse(line)?;
        if encoding.lacking().is_some() {
            continue;
        }
        let api = encoding.api()?;
        let filling = encoding.rest.first().copied().unwrap_or_default();
        let is_sent = served.contains(&api)
            && FILLINGS.contains(&filling)
            && api_key::versions(api).contains(&encoding.version);
        if is_sent {
            of_encoding(
                api,
                encoding.version,
                filling,
                &encoding.bytes(1)?,
                &mut cases,
            )?;
        }
    }
    for api in served {
        versions_outside(*api, &mut cases);
    }
    Ok(cases)
}

/// Requests that a fresh broker may first answer with a retriable error: the group coordinator, and
/// the first producer id.
pub fn warm_up() -> Result<Vec<Case>> {
    let mut find = BytesMut::new();
    messages::FindCoordinatorRequestData::default().write(&mut find, 0)?;
    let mut init = BytesMut::new();
    let without_transactions = messages::InitProducerIdRequestData {
        transactional_id: None,
        ..messages::InitProducerIdRequestData::default()
    };
    without_transactions.write(&mut init, 0)?;
    let requests = [
        (ApiKey::FindCoordinator, find),
        (ApiKey::InitProducerId, init),
    ];
    requests
        .into_iter()
        .map(|(api, body)| {
            Ok(Case {
                api: Some(api),
                version: 0,
                name: "warm-up".to_owned(),
                frame: framed(api, 0, &body)?,
            })
        })
        .collect()
}

fn of_encoding(
    api: ApiKey,
    version: i16,
    filling: &str,
    body: &[u8],
    cases: &mut Vec<Case>,
) -> Result<()> {
    let mut add = |name: &str, body: &[u8]| -> Result<()> {
        cases.push(Case {
            api: Some(api),
            version,
            name: name.to_owned(),
            frame: framed(api, version, body)?,
        });
        Ok(())
    };
    let is_random = filling == "random-1";
    let is_whole_sent = !(is_random && OF_QUORUM.contains(&api));
    if is_whole_sent {
        add(filling, body)?;
    }
    if is_random {
        let half = body.len() / 2;
        add("cut in half", body.get(..half).unwrap_or_default())?;
        add(
            "cut by one",
            body.get(..body.len().saturating_sub(1)).unwrap_or_default(),
        )?;
        if is_whole_sent {
            add("a byte too many", &[body, &[0]].concat())?;
        }
        add("nothing", &[])?;
        let seed = (i32::from(version) + 7) * (api as i32 + 3);
        add("noise", &noise(u32::try_from(seed)?))?;
        add("all ones", &[0xff; NOISE])?;
        add("zeros", &[0; NOISE])?;
    }
    Ok(())
}

fn framed(api: ApiKey, version: i16, body: &[u8]) -> Result<Bytes> {
    let head = RequestHead {
        api,
        version,
        correlation_id: 7,
        client_id: Some(KafkaString::from_static("sweep")),
    };
    let mut out = BytesMut::new();
    frame::write_request(&mut out, &head, |out| {
        out.put_slice(body);
        Ok(())
    })?;
    Ok(out.freeze())
}

fn versions_outside(api: ApiKey, cases: &mut Vec<Case>) {
    let versions = api_key::versions(api);
    let below = (*versions.start() > 0).then_some(*versions.start() - 1);
    let outside = [-1, *versions.end() + 1, i16::MAX];
    for version in outside.into_iter().chain(below) {
        cases.push(Case {
            api: Some(api),
            version,
            name: "a version that is not served".to_owned(),
            frame: framed(api, version, &[0; NOISE]).expect("these bytes can be written"),
        });
    }
}

/// Frames that are not a request of any API.
fn broken_frames() -> Vec<Case> {
    let frames: [(&str, &[u8]); 9] = [
        ("a negative length", &[0xff, 0xff, 0xff, 0xff, 0, 18, 0, 0]),
        ("the largest length", &[0x7f, 0xff, 0xff, 0xff, 0, 18, 0, 0]),
        ("an empty frame", &[0, 0, 0, 0]),
        ("a frame of one byte", &[0, 0, 0, 1, 0]),
        ("an API key alone", &[0, 0, 0, 2, 0, 18]),
        (
            "an unknown API",
            &[0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 7, 0xff, 0xff],
        ),
        (
            "a negative API",
            &[0, 0, 0, 10, 0xff, 0xff, 0, 0, 0, 0, 0, 7, 0xff, 0xff],
        ),
        (
            "a client id longer than the frame",
            &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0x7f, 0xff],
        ),
        (
            "a client id of length -2",
            &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xfe],
        ),
    ];
    frames
        .into_iter()
        .map(|(name, bytes)| Case {
            api: None,
            version: 0,
            name: name.to_owned(),
            frame: Bytes::from_static(bytes),
        })
        .collect()
}

/// Random bytes, the same in each run.
fn noise(seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    (0..NOISE)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect()
}

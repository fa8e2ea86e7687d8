//! The outcome of a case: the broker closes, answers, or does neither.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use ottla_protocol::api_key::{self, ApiKey};
use ottla_protocol::frame::{self, RequestHead};
use ottla_protocol::messages::{
    ApiVersionsRequestData, ApiVersionsResponseData, ResponseHeaderData, by_api,
};

use super::cases::Case;

/// How long an answer may take; after that the case counts as waiting.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How often a fresh broker may answer with a retriable error.
const WARM_UP_TRIES: usize = 2000;
/// The correlation id of the request that follows a case.
const PROBE: i32 = 8;
/// The size limit of an answer.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The broker closed the connection.
    Closed,
    /// The request is accepted and gets no answer.
    NoAnswer,
    /// Nothing came in time.
    Waits,
    /// An answer with these error codes, in ascending order, each once.
    Answered(Vec<i16>),
    /// An answer that cannot be decoded.
    Garbled,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(out, "closes"),
            Self::NoAnswer => write!(out, "does not answer"),
            Self::Waits => write!(out, "waits"),
            Self::Answered(codes) => write!(out, "answers {codes:?}"),
            Self::Garbled => write!(out, "sends an answer that cannot be decoded"),
        }
    }
}

/// The APIs that a broker announces.
pub fn served(address: &str) -> Result<Vec<ApiKey>> {
    let mut request = BytesMut::new();
    write_probe(&mut request)?;
    let stream = connect(address)?;
    (&stream).write_all(&request)?;
    let Received::Frame(mut answer) = receive(&stream)? else {
        bail!("no answer to ApiVersions");
    };
    ResponseHeaderData::read(&mut answer, 0)?;
    let response = ApiVersionsResponseData::read(&mut answer, 0)?;
    let announced = response.api_keys.iter();
    Ok(announced
        .filter_map(|api| api_key::from_number(api.api_key))
        .collect())
}

/// Sends each case until it is answered without an error.
pub fn warm_up(address: &str, cases: &[Case]) -> Result<()> {
    for case in cases {
        let done = (0..WARM_UP_TRIES)
            .any(|_| of(address, case).is_ok_and(|outcome| outcome == Outcome::Answered(vec![0])));
        if !done {
            bail!("{} does not come to an end at {address}", case.api_name());
        }
    }
    Ok(())
}

/// Sends the cases one after the other; returns their outcomes.
pub fn of_all(address: &str, cases: &[Case]) -> Result<Vec<Outcome>> {
    cases
        .iter()
        .map(|case| {
            of(address, case).with_context(|| {
                format!("{} version {} {}", case.api_name(), case.version, case.name)
            })
        })
        .collect()
}

fn of(address: &str, case: &Case) -> Result<Outcome> {
    let mut both = BytesMut::from(&case.frame[..]);
    write_probe(&mut both)?;
    let stream = connect(address)?;
    // A failed write means that the broker has closed already.
    if (&stream).write_all(&both).is_err() {
        return Ok(Outcome::Closed);
    }
    Ok(match receive(&stream)? {
        Received::Frame(answer) if answer.starts_with(&PROBE.to_be_bytes()) => Outcome::NoAnswer,
        Received::Frame(answer) => answered(case, answer),
        Received::End => Outcome::Closed,
        Received::Nothing => Outcome::Waits,
    })
}

/// Adds an ApiVersions request after the case: if its answer comes first, the case gets no answer.
fn write_probe(out: &mut BytesMut) -> Result<()> {
    let head = RequestHead {
        api: ApiKey::ApiVersions,
        version: 0,
        correlation_id: PROBE,
        client_id: None,
    };
    frame::write_request(out, &head, |out| {
        ApiVersionsRequestData::default().write(out, 0)
    })?;
    Ok(())
}

fn connect(address: &str) -> Result<TcpStream> {
    let stream =
        TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

enum Received {
    /// A frame without its length.
    Frame(Bytes),
    /// The broker closed the connection.
    End,
    /// Nothing came in time.
    Nothing,
}

fn receive(mut stream: &TcpStream) -> Result<Received> {
    let mut length = [0; frame::LENGTH_BYTES];
    match stream.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            return Ok(Received::Nothing);
        }
        Err(_) => return Ok(Received::End),
    }
    let length = frame::length(&length, LARGEST_ANSWER)?.context("four bytes are a length")?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(Received::Frame(Bytes::from(answer)))
}

fn answered(case: &Case, mut answer: Bytes) -> Outcome {
    let api = case.api.unwrap_or(ApiKey::ApiVersions);
    let known = api_key::versions(api);
    // An unknown version of ApiVersions is answered in version 0.
    let version = if known.contains(&case.version) {
        case.version
    } else {
        0
    };
    let header = api_key::response_header_version(api, version);
    if ResponseHeaderData::read(&mut answer, header).is_err() {
        return Outcome::Garbled;
    }
    match by_api::read_response(api, version, &mut answer) {
        Ok(response) if answer.is_empty() => Outcome::Answered(codes(&format!("{response:?}"))),
        Ok(_) | Err(_) => Outcome::Garbled,
    }
}

/// The numbers behind `error_code: ` in a response's debug text.
fn codes(text: &str) -> Vec<i16> {
    let mut codes = BTreeSet::new();
    for rest in text.split("error_code: ").skip(1) {
        let number = rest.split([',', ' ', '}']).next().unwrap_or_default();
        codes.extend(number.parse::<i16>());
    }
    codes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn error_codes_are_found_at_every_level() {
        let text =
            "R { error_code: 0, topics: [T { error_code: -1 }, T { error_code: 35, x: 1 }] }";
        assert_eq!(super::codes(text), [-1, 0, 35]);
    }
}

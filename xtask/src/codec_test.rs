//! `cargo xtask codec-test`: the codec against Apache Kafka's own classes.
//!
//! `tests/codec/KafkaEncodings.java` prints each message and record in each version with several
//! fillings, as Kafka encodes it. Our codec must decode each to the last byte and encode it to the
//! same bytes. Kafka's tables of APIs and of error codes must equal ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::{Bytes, BytesMut};
use ottla_protocol::api_key::{self, ApiKey};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::coordinator::{
    group::GroupRecord, share::ShareRecord, transaction::TransactionRecord,
};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::messages::{self, by_api};

use crate::toolbox::{self, maven};

const PROGRAM: &str = "tests/codec/KafkaEncodings.java";
/// The encodings that `crates/protocol/tests/allocation.rs` damages.
const FIXTURE: &str = "crates/protocol/tests/fixtures/messages.tsv";
/// The filling that the fixture has, at the highest version of each message.
const FIXTURE_FILLING: &str = "random-1";
/// Differences that are printed in full.
const SHOWN: usize = 20;

/// APIs, and the first of their versions, that Kafka 4.4 has and `cargo xtask generate` leaves out. None is served.
const LACKING: &[(i16, i16)] = &[
    // StreamsGroupTopologyDescriptionUpdate.
    (93, 0),
    // UnregisterController.
    (94, 0),
];

/// Options of `cargo xtask codec-test`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Write the encodings that the tests of `ottla-protocol` use, instead of checking that they are current.
    #[arg(long)]
    write_fixture: bool,
}

/// Runs the command; returns a summary.
pub fn run(args: &Args) -> Result<String> {
    let cases = kafka_encodings()?;
    let fixture = fixture(&cases)?;
    let path = toolbox::workspace().join(FIXTURE);
    if args.write_fixture {
        fs::write(&path, &fixture)?;
    }
    ensure!(
        fs::read_to_string(&path).unwrap_or_default() == fixture,
        "{FIXTURE} is not what Kafka's classes write; run `cargo xtask codec-test --write-fixture` and commit"
    );
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut apis = BTreeSet::new();
    let mut failures = Vec::new();
    let mut lacking = BTreeSet::new();
    for line in cases.lines() {
        let case = Case::parse(line)?;
        if let Some(entry) = case.lacking() {
            lacking.insert(entry);
            continue;
        }
        *counts.entry(case.kind).or_default() += 1;
        if case.kind == "api" {
            apis.insert(case.name.parse::<i16>()?);
        }
        if let Err(error) = case.check() {
            failures.push(format!("{}: {error:#}", case.title()));
        }
    }
    let known = LACKING.iter().filter(|entry| !lacking.contains(entry));
    failures.extend(known.map(|(api, version)| {
        format!("Kafka has no version {version} of API {api}: remove the line from LACKING")
    }));
    for api in by_api::APIS {
        if !apis.contains(&(*api as i16)) {
            failures.push(format!("Kafka has no API {api:?}"));
        }
    }
    report(&counts, &failures)
}

fn report(counts: &BTreeMap<&str, usize>, failures: &[String]) -> Result<String> {
    let total: usize = counts.values().sum();
    ensure!(total > 0, "Kafka's classes printed nothing");
    let kinds: Vec<String> = counts
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    let summary = format!(
        "{} of {total} encodings as Kafka {} writes them ({})",
        total - failures.len(),
        maven::KAFKA_VERSION,
        kinds.join(", ")
    );
    if !failures.is_empty() {
        let shown = &failures[..failures.len().min(SHOWN)];
        bail!("{summary}\n{}", shown.join("\n"));
    }
    Ok(summary)
}

/// Kind, API, version and bytes of one filling of each request and response at its highest version.
fn fixture(cases: &str) -> Result<String> {
    let mut highest = BTreeMap::new();
    for line in cases.lines() {
        let case = Case::parse(line)?;
        if matches!(case.kind, "request" | "response")
            && case.rest.first() == Some(&FIXTURE_FILLING)
            && case.lacking().is_none()
        {
            let bytes = case.rest.get(1).context("line is too short")?;
            let api: i16 = case.name.parse()?;
            // Versions come in their order.
            highest.insert((api, case.kind), (case.version, *bytes));
        }
    }
    let mut out = String::new();
    for ((api, kind), (version, bytes)) in highest {
        writeln!(out, "{kind}\t{api}\t{version}\t{bytes}")?;
    }
    Ok(out)
}

/// The output of Kafka's classes: one line for each case.
pub fn kafka_encodings() -> Result<String> {
    let jars = maven::kafka_jars()?;
    let output = Command::new("java")
        .arg("-cp")
        .arg(format!("{}/*", jars.display()))
        .arg(toolbox::workspace().join(PROGRAM))
        .output()
        .context(
            "could not start java; install a JDK 17 (Debian: apt-get install openjdk-17-jdk-headless)",
        )?;
    if !output.status.success() {
        bail!(
            "{PROGRAM} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// One line that Kafka's classes printed.
#[derive(Debug)]
pub struct Case<'a> {
    kind: &'a str,
    name: &'a str,
    /// The version of message or record; the number of an error code.
    pub version: i16,
    /// Filling and bytes.
    pub rest: Vec<&'a str>,
}

impl<'a> Case<'a> {
    /// Reads a line.
    pub fn parse(line: &'a str) -> Result<Self> {
        let mut fields = line.split('\t');
        let mut next = || {
            fields
                .next()
                .with_context(|| format!("line is too short: {line:.80}"))
        };
        let (kind, name, version) = (next()?, next()?, next()?);
        // A line of kind `api` has the API's name in the place of the version.
        let version = if kind == "api" { 0 } else { version.parse()? };
        Ok(Self {
            kind,
            name,
            version,
            rest: fields.collect(),
        })
    }

    fn title(&self) -> String {
        let filling = self.rest.first().unwrap_or(&"");
        let api = self.name.parse().ok().and_then(api_key::from_number);
        let name = match (self.kind, api) {
            ("request" | "response" | "api", Some(api)) => format!("{api:?}"),
            _ => self.name.to_owned(),
        };
        format!("{} {name} version {} {filling}", self.kind, self.version)
    }

    /// The line of [`LACKING`] that this case falls under.
    pub fn lacking(&self) -> Option<&'static (i16, i16)> {
        let number: i16 = self.name.parse().ok()?;
        let lowest = match self.kind {
            "request" | "response" => self.version,
            // A whole API.
            "api" => 0,
            _ => return None,
        };
        LACKING
            .iter()
            .find(|(api, first)| *api == number && lowest >= *first)
    }

    fn check(&self) -> Result<()> {
        match self.kind {
            "api" => self.check_api(),
            "error" => self.check_error(),
            "request" | "response" => self.check_message(),
            "data" => self.check_data(),
            "metadata" => self.check_metadata(),
            "group" | "transaction" | "share" => self.check_keyed(),
            other => bail!("unknown kind {other}"),
        }
    }

    /// The API of a request or response.
    pub fn api(&self) -> Result<ApiKey> {
        let number = self.name.parse()?;
        api_key::from_number(number).with_context(|| format!("API {number} is not known"))
    }

    /// The bytes in a field of [`Self::rest`].
    pub fn bytes(&self, field: usize) -> Result<Bytes> {
        unhex(self.rest.get(field).context("line is too short")?)
    }

    fn check_api(&self) -> Result<()> {
        let numbers: Vec<i16> = self
            .rest
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        let [lowest, highest, request, response] = numbers[..] else {
            bail!("Kafka's line is not understood: {:?}", self.rest);
        };
        let api = self.api()?;
        let ours = api_key::versions(api);
        let lacking = LACKING.iter().find(|(number, _)| *number == api as i16);
        let highest = lacking.map_or(highest, |(_, first)| first - 1);
        ensure!(
            ours == (lowest..=highest),
            "Kafka serves {lowest} to {highest}, we {ours:?}"
        );
        for version in ours {
            let headers = (
                1 + i16::from(request >= 0 && version >= request),
                i16::from(response >= 0 && version >= response),
            );
            let chosen = (
                api_key::request_header_version(api, version),
                api_key::response_header_version(api, version),
            );
            ensure!(
                chosen == headers,
                "headers of version {version}: Kafka's {headers:?}, ours {chosen:?}"
            );
        }
        Ok(())
    }

    fn check_error(&self) -> Result<()> {
        let code = ErrorCode::from(self.version);
        let ours = (format!("{code:?}").to_uppercase(), code.is_retriable());
        let is_retriable = self.rest.first().context("line is too short")?.parse()?;
        let kafkas = (self.name.replace('_', ""), is_retriable);
        ensure!(
            ours == kafkas,
            "name, and whether it is retriable: Kafka's {kafkas:?}, ours {ours:?}"
        );
        Ok(())
    }

    fn check_message(&self) -> Result<()> {
        let read = if self.kind == "request" {
            by_api::read_request
        } else {
            by_api::read_response
        };
        let kafka = self.bytes(1)?;
        let mut rest = kafka.clone();
        let message = read(self.api()?, self.version, &mut rest)?;
        let mut ours = BytesMut::new();
        message.write(&mut ours, self.version)?;
        same(&kafka, &rest, &ours)
    }

    fn check_data(&self) -> Result<()> {
        let kafka = self.bytes(1)?;
        let mut rest = kafka.clone();
        let mut ours = BytesMut::new();
        recode_data(self.name, self.version, &mut rest, &mut ours)?;
        same(&kafka, &rest, &ours)
    }

    fn check_metadata(&self) -> Result<()> {
        let kafka = self.bytes(1)?;
        let record = MetadataRecord::decode(kafka.clone())?;
        let ours = record.encode(self.version)?;
        same(&kafka, &[], &ours)
    }

    fn check_keyed(&self) -> Result<()> {
        let (key, value) = (self.bytes(1)?, self.bytes(2)?);
        let (version, again) = (self.version, (key.clone(), Some(value.clone())));
        let ours = match self.kind {
            "group" => GroupRecord::decode(again.0, again.1)?.encode(version)?,
            "transaction" => TransactionRecord::decode(again.0, again.1)?.encode(version)?,
            _ => ShareRecord::decode(again.0, again.1)?.encode(version)?,
        };
        same(&key, &[], &ours.0).context("key")?;
        same(&value, &[], &ours.1.unwrap_or_default()).context("value")
    }
}

macro_rules! data {
    ($($kafka:literal: $ours:ident;)*) => {
        /// Decodes and encodes one of the messages that belong to no API.
        fn recode_data(
            name: &str,
            version: i16,
            from: &mut Bytes,
            to: &mut BytesMut,
        ) -> Result<()> {
            match name {
                $($kafka => messages::$ours::read(from, version)?.write(to, version)?,)*
                _ => bail!("we have no {name}"),
            }
            Ok(())
        }
    };
}

data! {
    "RequestHeaderData": RequestHeaderData;
    "ResponseHeaderData": ResponseHeaderData;
    "ConsumerProtocolAssignment": ConsumerProtocolAssignmentData;
    "ConsumerProtocolSubscription": ConsumerProtocolSubscriptionData;
    "ControlRecordTypeSchema": ControlRecordTypeSchemaData;
    "DefaultPrincipalData": DefaultPrincipalDataData;
    "EndTxnMarker": EndTxnMarkerData;
    "KRaftVersionRecord": KRaftVersionRecordData;
    "LeaderChangeMessage": LeaderChangeMessageData;
    "SnapshotFooterRecord": SnapshotFooterRecordData;
    "SnapshotHeaderRecord": SnapshotHeaderRecordData;
    "VotersRecord": VotersRecordData;
}

fn same(kafka: &[u8], rest: &[u8], ours: &[u8]) -> Result<()> {
    ensure!(rest.is_empty(), "{} bytes were left over", rest.len());
    if kafka == ours {
        return Ok(());
    }
    let at = kafka.iter().zip(ours).take_while(|(a, b)| a == b).count();
    Err(anyhow!(
        "{} bytes of Kafka's, {} of ours, differing from byte {at}: {:02x?} and {:02x?}",
        kafka.len(),
        ours.len(),
        tail(kafka, at),
        tail(ours, at)
    ))
}

fn tail(bytes: &[u8], at: usize) -> &[u8] {
    const SHOWN_BYTES: usize = 12;
    &bytes[at..bytes.len().min(at + SHOWN_BYTES)]
}

fn unhex(text: &str) -> Result<Bytes> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect()
}

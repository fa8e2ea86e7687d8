//! `cargo xtask damage`: damages a data directory. Clients of other projects must get an error for
//! the damaged batches and read the batches after them. `ottla log repair` must repair the
//! directory for Ottla and for Apache Kafka.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::compat::broker::{self, Broker, Kind};
use crate::compat::clients;
use crate::compat::program::{self, Claim};
use crate::port;
use crate::toolbox::maven::KAFKA_VERSION;
use crate::toolbox::{self, java, ottla};

const TOPIC: &str = "rotten";
/// The damages: the batch's offset, the position in the batch, and the new bytes.
const INJURIES: &[(i64, u64, &[u8])] = &[
    (0, 8, &[0x7F, 0xFF, 0xFF, 0xFF]),
    (57, 8, &[0xFF; 4]),
    (80, 0, &[0; 61]),
    (103, 5000, &[0]),
    (150, 0, &[0x40]),
    (199, 16, &[9]),
];

/// Runs the command; returns a summary.
pub fn run() -> Result<String> {
    let run = Run::prepare()?;
    let mut claims = Vec::new();
    run.stay("1-ottla", Kind::Ottla, "fill", &mut claims)?;
    run.hurt()?;
    run.stay("2-ottla", Kind::Ottla, "damaged", &mut claims)?;
    claims.push(claim(
        "verify_finds_the_damage",
        !run.log(&["verify"])?.status.success(),
    ));
    let listed = run.log(&["repair"])?;
    let done = run.log(&["repair", "--execute"])?;
    let is_done = done.status.success() && !done.stdout.is_empty();
    claims.push(claim(
        "repair_does_what_it_listed",
        is_done && listed.stdout == done.stdout,
    ));
    claims.push(claim(
        "verify_finds_nothing_more",
        run.log(&["verify"])?.status.success(),
    ));
    claims.push(claim("kafka_dump_log_reads_every_segment", run.dump()?));
    for (stage, kind) in [
        ("3-ottla", Kind::Ottla),
        ("4-kafka", Kind::Kafka),
        ("5-ottla", Kind::Ottla),
    ] {
        run.stay(stage, kind, "repaired", &mut claims)?;
    }
    claims.push(claim(
        "it_stays_sound",
        run.log(&["verify"])?.status.success(),
    ));
    let failed: Vec<String> = claims
        .iter()
        .filter_map(|claim| Some(format!("{}: {}", claim.name, claim.failure.as_ref()?)))
        .collect();
    if !failed.is_empty() {
        bail!("{}\nsee {}", failed.join("\n"), run.directory.display());
    }
    fs::remove_dir_all(&run.directory)?;
    let (damaged, checks) = (INJURIES.len(), claims.len());
    Ok(format!(
        "damage: {checks} checks passed over {damaged} damaged batches"
    ))
}

fn claim(name: &str, holds: bool) -> Claim {
    if holds {
        Claim::passed(name)
    } else {
        Claim::failed(name, "it is not so")
    }
}

/// One data directory in all its stages.
struct Run {
    directory: PathBuf,
    port: u16,
    ottla: PathBuf,
}

impl Run {
    fn prepare() -> Result<Self> {
        let port = port::free()?;
        let directory = toolbox::workspace().join(format!("target/damage-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let template = toolbox::workspace().join("tests/compat/server.properties");
        let text = broker::filled(
            &fs::read_to_string(template)?,
            port,
            &directory.join("data"),
        )?;
        // Only the scrubber finds damage inside the records of a batch.
        let text =
            text + "\nottla.scrub.interval.ms=100\nottla.scrub.max.bytes.per.second=1000000000\n";
        fs::write(directory.join("server.properties"), text)?;
        let ottla = ottla::binary()?;
        Ok(Self {
            directory,
            port,
            ottla,
        })
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// A broker starts on the directory, the client does its checks, and the broker stops.
    fn stay(&self, stage: &str, kind: Kind, phase: &str, claims: &mut Vec<Claim>) -> Result<()> {
        let config = self.directory.join("server.properties");
        let command = broker::command(kind, &config)?;
        let log = self.directory.join(format!("{stage}.log"));
        let broker =
            Broker::launch(kind, command, self.port, &log).with_context(|| stage.to_owned())?;
        let offsets: Vec<String> = INJURIES
            .iter()
            .map(|(offset, ..)| offset.to_string())
            .collect();
        let (bootstrap, offsets) = (broker.bootstrap(), offsets.join(","));
        let arguments = [bootstrap.as_str(), TOPIC, phase, offsets.as_str()];
        let outcome = program::run(clients::damage()?, &arguments, &self.directory);
        let of_stage = outcome.claims.into_iter().chain([broker.stop()?.claim()]);
        claims.extend(of_stage.map(|claim| claim.of_stage(stage)));
        Ok(())
    }

    /// Runs `ottla log` on the directory.
    fn log(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.ottla);
        Ok(command
            .arg("log")
            .args(arguments)
            .arg(self.data())
            .output()?)
    }

    fn segments(&self) -> Result<Vec<PathBuf>> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(self.data().join(format!("{TOPIC}-0")))? {
            segments.push(entry?.path());
        }
        segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        segments.sort();
        Ok(segments)
    }

    fn hurt(&self) -> Result<()> {
        let mut batches = Vec::new();
        let segments = self.segments()?;
        if segments.len() < 3 {
            bail!("{} segments are too few to show anything", segments.len());
        }
        for segment in segments {
            batches.extend(self.batches(&segment)?);
        }
        for (offset, at, bytes) in INJURIES {
            let (segment, _, position) = batches
                .iter()
                .find(|(_, base, _)| base == offset)
                .with_context(|| format!("no batch begins at offset {offset}"))?;
            let file = OpenOptions::new().write(true).open(segment)?;
            file.write_all_at(bytes, position + at)?;
        }
        Ok(())
    }

    /// The base offset and position of each batch.
    fn batches(&self, segment: &Path) -> Result<Vec<(PathBuf, i64, u64)>> {
        let mut command = Command::new(&self.ottla);
        let dumped = command
            .args(["log", "dump", "--output", "json"])
            .arg(segment)
            .output()?;
        let text = String::from_utf8(dumped.stdout)?;
        let batch = |line: &str| -> Result<(PathBuf, i64, u64)> {
            let batch: Value = serde_json::from_str(line)?;
            let base = batch["base_offset"].as_i64().context("a base offset")?;
            let position = batch["position"].as_u64().context("a position")?;
            Ok((segment.to_path_buf(), base, position))
        };
        text.lines().map(batch).collect()
    }

    /// Whether Kafka's own tool reads every segment to its end and finds every index right.
    fn dump(&self) -> Result<bool> {
        let mut is_sound = true;
        for segment in self.segments()? {
            for arguments in [&["--deep-iteration"][..], &["--index-sanity-check"]] {
                let file = match arguments {
                    ["--deep-iteration"] => segment.clone(),
                    _ => segment.with_extension("index"),
                };
                let dumped = java::tools(KAFKA_VERSION)?
                    .arg("org.apache.kafka.tools.DumpLogSegments")
                    .args(arguments)
                    .arg("--files")
                    .arg(file)
                    .output()?;
                let text = String::from_utf8_lossy(&dumped.stdout).into_owned();
                let has_failed = text.contains("isvalid: false") || text.contains("Found ");
                is_sound &= dumped.status.success() && !has_failed && !text.is_empty();
            }
        }
        Ok(is_sound)
    }
}

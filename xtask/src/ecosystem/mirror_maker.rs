//! MirrorMaker 2: a topic, its settings and a group's offsets come to a second broker.

use std::fs;

use anyhow::{Result, ensure};

use super::process::Process;
use super::{Place, records};
use crate::compat::broker::Broker;
use crate::port;
use crate::toolbox::java;

const TOPIC: &str = "mirrored";
/// Under the default policy a topic carries the name of its cluster.
const COPY: &str = "one.mirrored";
const RECORDS: usize = 10_000;

/// Mirrors from the broker of `place` to one more of its kind.
pub fn run(place: &Place<'_>) -> Result<String> {
    let target = Broker::start(place.kind)?;
    records::create(place.bootstrap, TOPIC, 4)?;
    records::produce(place.bootstrap, TOPIC, RECORDS)?;
    records::commit(place.bootstrap, TOPIC, "followers")?;
    let settings = place.directory.join("mirror-maker.properties");
    let rest = port::free()?;
    let text = format!(
        "clusters=one,two\none.bootstrap.servers={}\ntwo.bootstrap.servers={}\none->two.enabled=true\n\
         one->two.topics={TOPIC}\none->two.groups=followers\nreplication.factor=1\n\
         checkpoints.topic.replication.factor=1\nheartbeats.topic.replication.factor=1\n\
         offset-syncs.topic.replication.factor=1\noffset.storage.replication.factor=1\n\
         status.storage.replication.factor=1\nconfig.storage.replication.factor=1\n\
         sync.group.offsets.enabled=true\nsync.group.offsets.interval.seconds=2\n\
         emit.checkpoints.interval.seconds=2\nrefresh.topics.interval.seconds=5\n\
         dedicated.mode.enable.internal.rest=false\nlisteners=http://127.0.0.1:{rest}\n",
        place.bootstrap,
        target.bootstrap()
    );
    fs::write(&settings, text)?;
    let mut command = java::connect()?;
    command
        .arg("org.apache.kafka.connect.mirror.MirrorMaker")
        .arg(settings);
    let mut running = Process::start(command, &place.directory.join("mirror-maker.log"))?;
    let there = target.bootstrap();
    running.until("the last mirrored record", || {
        // The count fails until the topic exists.
        let ends = records::ends(&there, COPY).unwrap_or_default();
        Ok(ends.iter().sum::<usize>() >= RECORDS)
    })?;
    records::check(
        "the copy",
        records::read(&there, COPY)?,
        &records::values(RECORDS),
    )?;
    let partitions = records::ends(&there, COPY)?.len();
    ensure!(partitions == 4, "the copy has {partitions} partitions");
    running.until("the offsets of the group", || {
        let committed = records::committed(&there, COPY, "followers").unwrap_or_default();
        Ok(committed == records::ends(&there, COPY)?)
    })?;
    let left = target.directory().to_path_buf();
    drop((running, target));
    fs::remove_dir_all(left)?;
    Ok(format!(
        "{RECORDS} records in 4 partitions and the offsets of a group"
    ))
}

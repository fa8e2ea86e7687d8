//! The steps of a world while its node runs, chosen by the seed.

use super::check;
use super::model::Model;
use super::node::{Cleaned, Failed, Log, Node};
use super::world::World;
use ottla_log::TrimError;
use ottla_log::compaction::CompactionError;
use ottla_log::files::Files;
use ottla_protocol::ids::Offset;
use ottla_protocol::time::{MonotonicTime, Timestamp};
use ottla_replica::Unavailable;
use std::path::Path;
use std::time::Duration;

/// More space than a world uses.
const AMPLE: u64 = 1 << 40;

impl World {
    pub(super) fn step(&mut self, node: &mut Node) {
        self.now += self.random.signed(30);
        self.disk.set_clock(self.now);
        let number = self.random.index(self.partitions.len());
        let directory = self.partitions[number].directory;
        match self.random.below(100) {
            0..32 => self.append(node, number),
            32..58 => self.flush(node, directory, self.monotonic()),
            58..70 => self.clean(node),
            70..76 => self.checkpoint(node, number),
            76..79 => self.write_checkpoints(node),
            79..82 => self.retain(node, number),
            82..84 => self.delete_records(node, number),
            84 => self.truncate(node, number),
            85 => self.roll(node, number),
            86..89 => self.read(node, number),
            89..91 => self.delete_or_create(node, number),
            91 => self.remove_deleted(node),
            92 => self.configure(node, number),
            93..95 => self.pass_time(),
            95 => self.limit_space(),
            96 => self.limit_handles(),
            97 => self.break_something(),
            98 => self.cut_power_soon(),
            _ => self.announce_epoch(node, number),
        }
    }

    /// The next of the three steps of a pass of group commit.
    fn flush(&mut self, node: &mut Node, directory: usize, now: MonotonicTime) {
        let Some(pass) = &mut node.disks[directory].pass else {
            if node.begin_pass(directory, now) {
                self.trace.note(&format!("pass {directory} begins"));
            }
            return;
        };
        if !pass.has_run() {
            pass.sync();
            self.trace.note(&format!("pass {directory} syncs"));
            return;
        }
        let ended = pass.end(now);
        node.disks[directory].pass = None;
        self.trace
            .note(&format!("pass {directory} ends: {ended:?}"));
        if let Err(error) = ended {
            self.tolerate(&error);
        }
        self.hear_answers(node);
        self.note_high_watermarks(node);
    }

    /// Records in the models which producers were acknowledged.
    pub(super) fn hear_answers(&mut self, node: &Node) {
        for ((number, topic, end), outcome) in node.answers() {
            self.trace
                .note(&format!("answer of {number} up to {end}: {outcome:?}"));
            match outcome {
                Ok(()) if self.partitions[number].id == Some(topic) => {
                    self.acknowledge(number, end);
                }
                Ok(()) | Err(Unavailable::Gone | Unavailable::NotLeader) => {}
                Err(Unavailable::Storage(error)) => self.tolerate(&error),
                Err(other) => panic!("an answer: {other}"),
            }
        }
    }

    pub(super) fn acknowledge(&mut self, number: usize, end: i64) {
        let model = &mut self.models[number];
        model.acknowledged = model.acknowledged.max(end);
    }

    /// Records the high watermarks: what consumers may read must never be lost.
    fn note_high_watermarks(&mut self, node: &Node) {
        let online = |directory| !node.has_failed(directory);
        for (number, partition) in node.partitions() {
            if let Ok(offsets) = partition.offsets()
                && online(self.partitions[number].directory)
            {
                self.acknowledge(number, offsets.high_watermark.0);
            }
        }
    }

    /// Flushes all dirty logs, before a clean stop.
    pub(super) fn flush_all(&mut self, node: &mut Node) {
        self.disk.limit_handles(None);
        for directory in 0..self.directories {
            for _ in 0..9 {
                self.flush(node, directory, MonotonicTime(Duration::MAX));
            }
        }
    }

    fn clean(&mut self, node: &mut Node) {
        let number = 2 + self.random.index(2);
        let keys = 3 + self.random.index(15);
        match node.clean(number, keys, self.now) {
            Ok(Cleaned::Nothing) => {}
            Ok(Cleaned::Went) => self.trace.note("cleaner goes on"),
            Ok(Cleaned::Began(number, upper)) => {
                self.trace
                    .note(&format!("cleaner begins {number} up to {upper}"));
                let model = &mut self.models[number];
                model.touched_to = model.touched_to.max(upper);
            }
            Ok(Cleaned::Ended(number, end)) => {
                self.trace.note(&format!("cleaner ends {number} at {end}"));
                let model = &mut self.models[number];
                model.compacted_to = model.compacted_to.max(end);
                let written = node.write_compacted();
                self.excuse("write compacted", written);
            }
            Err(CompactionError::Storage(error)) => {
                self.trace.note(&format!("cleaner: {error}"));
                self.tolerate(&error);
            }
            Err(error) => self.trace.note(&format!("cleaner: {error}")),
        }
    }

    /// Records a step in the trace. A failure must have a cause.
    fn excuse(&mut self, what: &str, outcome: Result<(), Failed>) -> bool {
        match outcome {
            Ok(()) => self.trace.note(what),
            Err(error) => {
                self.trace.note(&format!("{what}: {error}"));
                self.tolerate_failure(&error);
                return false;
            }
        }
        true
    }

    /// Begins a checkpoint of a partition, or ends the running one.
    fn checkpoint(&mut self, node: &mut Node, number: usize) {
        let outcome = match node.checkpoint.take() {
            None => {
                let Some(partition) = node.partition(number) else {
                    return;
                };
                let begun = partition.with_log(Log::begin_checkpoint);
                let begun = begun.expect("the log is here");
                begun.map(|begun| {
                    node.checkpoint = begun.map(|begun| (partition, begun));
                })
            }
            Some((partition, checkpoint)) => {
                let ran = checkpoint.run();
                partition.end_checkpoint(&checkpoint, &ran);
                ran
            }
        };
        self.excuse("checkpoint", outcome.map_err(Failed::from));
    }

    fn write_checkpoints(&mut self, node: &mut Node) {
        let what = self.random.below(3);
        let written = match what {
            0 => node.write_recovery_points(),
            1 => node.write_high_watermarks(),
            _ => node.write_log_starts(),
        };
        self.excuse(&format!("write checkpoint {what}"), written);
    }

    fn retain(&mut self, node: &mut Node, number: usize) {
        let now = Timestamp(self.now);
        let retained = node.with_log(number, |log| {
            log.expire_producers(now);
            (log.apply_retention(now), log.log_start_offset().0)
        });
        let Some((removed, start)) = retained else {
            return;
        };
        self.models[number].start = start;
        self.trace
            .note(&format!("retention of {number}: {removed:?}, from {start}"));
        if let Err(error) = removed {
            self.tolerate(&error);
        }
        let written = node.write_log_starts();
        self.excuse("write log starts", written);
    }

    fn delete_records(&mut self, node: &mut Node, number: usize) {
        if !self.is_deleted_from(number) {
            return;
        }
        let bounds = |log: &mut Log| (log.log_start_offset().0, log.high_watermark().0);
        let Some((start, end)) = node.with_log(number, bounds) else {
            return;
        };
        let offset = Offset(start + self.random.signed(end - start + 1));
        let now = Timestamp(self.now);
        let deleted = node.with_log(number, |log| {
            (
                log.delete_records(Some(offset), now),
                log.log_start_offset().0,
            )
        });
        let (deleted, start) = deleted.expect("the log is here");
        self.models[number].start = start;
        self.trace.note(&format!(
            "delete records of {number} before {offset}: {deleted:?}"
        ));
        let written = node.write_log_starts();
        let is_written = self.excuse("write log starts", written);
        let is_durable = is_written && !node.has_failed(self.partitions[number].directory);
        match deleted {
            Ok(start) if is_durable => self.models[number].acknowledged_start = start.0,
            Ok(_) => {}
            Err(TrimError::Storage(error)) => self.tolerate(&error),
            Err(error) => panic!("{error}"),
        }
    }

    /// Truncates as a follower: the unreplicated records, and sometimes more, if nothing was compacted.
    fn truncate(&mut self, node: &mut Node, number: usize) {
        let Some(partition) = node.partition(number) else {
            return;
        };
        // A truncation that runs out of space or descriptors stops half-way. A broker of one node never truncates, so
        // this is not tested.
        if self.troubles.full || self.troubles.handles {
            return;
        }
        let model = &mut self.models[number];
        let lowest = if model.touched_to == 0 && self.random.one_in(3) {
            model.start
        } else {
            model.acknowledged.max(model.start)
        };
        let offset = lowest + self.random.signed(model.end() - lowest + 1);
        let truncated = partition.truncate_to(Offset(offset), Timestamp(self.now));
        let truncated = truncated.expect("the log is here");
        self.trace
            .note(&format!("truncate {number} to {offset}: {truncated:?}"));
        match truncated {
            Ok(true) => {
                model.highest_start = model.highest_start.max(model.start);
                let offsets = partition.offsets().unwrap();
                model.start = offsets.log_start.0;
                model.truncated(offset);
                assert_eq!(offsets.log_end.0, model.end(), "the end of a truncated log");
                model.acknowledged_start = model.acknowledged_start.min(model.start);
            }
            Ok(false) => {}
            Err(error) => {
                model.truncation_failed(offset);
                self.tolerate(&error);
            }
        }
        self.after_truncation(node);
    }

    /// Writes recovery points and log start offsets before the next append, because they may be after the new end. If
    /// that fails, the node ends.
    fn after_truncation(&mut self, node: &mut Node) {
        self.hear_answers(node);
        let written = node
            .write_recovery_points()
            .and_then(|()| node.write_log_starts());
        self.must_end |= !self.excuse("write recovery points and log starts", written);
    }

    fn roll(&mut self, node: &mut Node, number: usize) {
        let now = Timestamp(self.now);
        if let Some(rolled) = node.with_log(number, |log| log.roll(now)) {
            self.excuse("roll", rolled.map_err(Failed::from));
        }
    }

    /// Compares a log in use with its model, unless a fault is pending.
    fn read(&mut self, node: &mut Node, number: usize) {
        let troubles = self.troubles;
        let is_quiet = !(troubles.fault || troubles.handles || self.is_power_doomed);
        let (model, random) = (&self.models[number], &mut self.random);
        let read = |log: &mut Log| check::in_use(model, log, random);
        if is_quiet && node.with_log(number, read).is_some() {
            self.trace.note(&format!("read {number}"));
            self.trace.checks += 1;
        }
    }

    fn delete_or_create(&mut self, node: &mut Node, number: usize) {
        let now = self.now();
        let outcome = if let Some(topic) = self.partitions[number].id.take() {
            self.trace.note(&format!("delete {number}"));
            node.delete((number, topic), &self.partitions, now)
        } else {
            let topic = self.new_id();
            let partition = &mut self.partitions[number];
            partition.id = Some(topic);
            partition.leader_epoch = self.leader_epoch;
            self.trace.note(&format!("create {number}"));
            node.lead(topic, &self.partitions, now)
        };
        self.models[number] = Model::new();
        self.models[number].leader_epoch = self.leader_epoch;
        self.excuse("done", outcome);
    }

    fn remove_deleted(&mut self, node: &mut Node) {
        let removed = node.remove_deleted();
        self.excuse("remove deleted", removed);
    }

    fn configure(&mut self, node: &mut Node, number: usize) {
        let config = self.config(self.partitions[number].topic);
        self.partitions[number].config = config;
        let configured = node.configure(number, &self.partitions, self.now());
        self.excuse("configure", configured);
    }

    fn pass_time(&mut self) {
        self.now += self.random.signed(90_000);
    }

    fn limit_space(&mut self) {
        if self.random.one_in(2) {
            self.trace.note("space for all");
            return self.disk.limit_space(None);
        }
        self.troubles.full = true;
        self.disk.limit_space(Some(AMPLE));
        let Ok(space) = self.disk.space(Path::new("/")) else {
            return;
        };
        let left = self.random.below(1500);
        self.trace.note(&format!("space for {left} bytes"));
        self.disk.limit_space(Some(AMPLE - space.free + left));
    }

    fn limit_handles(&mut self) {
        let limit = self.random.one_in(2).then(|| self.random.index(6));
        self.trace.note(&format!("limit of open files: {limit:?}"));
        self.troubles.handles |= limit.is_some();
        self.disk.limit_handles(limit);
    }

    fn cut_power_soon(&mut self) {
        let count = 1 + self.random.below(30);
        self.trace
            .note(&format!("power fails after {count} changes"));
        self.is_power_doomed = true;
        self.disk.cut_power_after(count);
    }

    fn announce_epoch(&mut self, node: &mut Node, number: usize) {
        self.leader_epoch += 1;
        self.partitions[number].leader_epoch = self.leader_epoch;
        let (Some(topic), Some(_)) = (self.partitions[number].id, node.partition(number)) else {
            return;
        };
        let led = node.lead(topic, &self.partitions, self.now());
        self.models[number].leader_epoch = self.leader_epoch;
        self.trace
            .note(&format!("epoch {} of {number}", self.leader_epoch));
        self.excuse("leads", led);
        self.hear_answers(node);
        self.note_high_watermarks(node);
    }
}

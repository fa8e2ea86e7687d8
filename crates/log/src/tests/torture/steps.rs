//! What a world does while its node lives: one step at a time, chosen by the seed.

use super::check;
use super::cleaner::Cleaned;
use super::model::Model;
use super::node::{Failed, Node};
use super::world::World;
use crate::compaction::CompactionError;
use crate::files::Files;
use crate::{StorageError, TrimError};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::time::{MonotonicTime, Timestamp};
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
        let has_run = node.directories[directory]
            .pass
            .as_ref()
            .map(super::flusher::Pass::has_run);
        match has_run {
            None => match node.begin_pass(directory, now) {
                Ok(false) => {}
                Ok(true) => self.trace.note(&format!("pass {directory} begins")),
                Err(error) => self.tolerate(&error),
            },
            Some(false) => {
                node.run_pass(directory);
                self.trace.note(&format!("pass {directory} syncs"));
            }
            Some(true) => {
                let ended = node.end_pass(directory, now);
                self.trace.note(&format!(
                    "pass {directory} ends, {} answered",
                    ended.answered.len()
                ));
                if let Some(error) = ended.failure {
                    self.tolerate(&error);
                }
                for (number, topic, end) in ended.answered {
                    if self.partitions[number].id == Some(topic) {
                        self.acknowledge(number, end);
                    }
                }
                self.note_high_watermarks(node);
            }
        }
    }

    pub(super) fn acknowledge(&mut self, number: usize, end: i64) {
        let model = &mut self.models[number];
        model.acknowledged = model.acknowledged.max(end);
    }

    /// What consumers may read must never be taken back.
    fn note_high_watermarks(&mut self, node: &Node) {
        let online = |directory| !node.has_failed(directory);
        for (number, opened) in node
            .logs
            .iter()
            .filter(|(_, opened)| online(opened.directory))
        {
            self.acknowledge(*number, opened.log.high_watermark().0);
        }
    }

    /// Flushes all that is dirty, at an orderly end.
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
        match node.clean(number, &self.partitions, (keys, self.now)) {
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
                let written = node.write_compacted(&self.partitions);
                self.excuse("write compacted", written);
            }
            Err(CompactionError::Storage(error)) => {
                self.trace.note(&format!("cleaner: {error}"));
                self.tolerate(&error);
            }
            Err(error) => self.trace.note(&format!("cleaner: {error}")),
        }
    }

    /// Notes what was done; a failure must have a cause.
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

    /// Begins a checkpoint of a partition, or ends the one that was begun.
    fn checkpoint(&mut self, node: &mut Node, number: usize) {
        let outcome = match node.checkpoint.take() {
            None => {
                let Some(opened) = node.logs.get_mut(&number) else {
                    return;
                };
                let begun = opened.log.begin_checkpoint();
                begun
                    .map(|flush| node.checkpoint = flush.map(|flush| (number, opened.topic, flush)))
            }
            Some((number, topic, flush)) => {
                let ran = flush.run();
                let opened = node.logs.get_mut(&number);
                match opened.filter(|opened| opened.topic == topic) {
                    Some(opened) if ran.is_ok() => {
                        opened.log.complete_checkpoint(&flush);
                    }
                    Some(opened) => opened.log.abandon_checkpoint(),
                    None => {}
                }
                ran
            }
        };
        self.excuse("checkpoint", outcome.map_err(Failed::from));
    }

    fn write_checkpoints(&mut self, node: &mut Node) {
        let what = self.random.below(3);
        let written = match what {
            0 => node.write_recovery_points(&self.partitions),
            1 => self.write_high_watermarks(node),
            _ => node.write_log_starts(&self.partitions),
        };
        self.excuse(&format!("write checkpoint {what}"), written);
    }

    fn retain(&mut self, node: &mut Node, number: usize) {
        let Some(opened) = node.logs.get_mut(&number) else {
            return;
        };
        let now = Timestamp(self.now);
        opened.log.expire_producers(now);
        let removed = opened.log.apply_retention(now);
        let start = opened.log.log_start_offset().0;
        self.models[number].start = start;
        self.trace
            .note(&format!("retention of {number}: {removed:?}, from {start}"));
        if let Err(error) = removed {
            self.tolerate(&error);
        }
        let written = node.write_log_starts(&self.partitions);
        self.excuse("write log starts", written);
    }

    fn delete_records(&mut self, node: &mut Node, number: usize) {
        let Some(opened) = node.logs.get_mut(&number) else {
            return;
        };
        if !self.partitions[number].config.delete {
            return;
        }
        let (start, end) = (
            opened.log.log_start_offset().0,
            opened.log.high_watermark().0,
        );
        let offset = Offset(start + self.random.signed(end - start + 1));
        let deleted = opened.log.delete_records(Some(offset), Timestamp(self.now));
        self.models[number].start = opened.log.log_start_offset().0;
        self.trace.note(&format!(
            "delete records of {number} before {offset}: {deleted:?}"
        ));
        let written = node.write_log_starts(&self.partitions);
        let is_written = self.excuse("write log starts", written);
        let is_durable = is_written && !node.has_failed(self.partitions[number].directory);
        match deleted {
            Ok(start) if is_durable => self.models[number].acknowledged_start = start.0,
            Ok(_) => {}
            Err(TrimError::Storage(error)) => self.tolerate(&error),
            Err(error) => panic!("{error}"),
        }
    }

    /// As a follower does: what is not replicated goes; where nothing was compacted, sometimes more.
    fn truncate(&mut self, node: &mut Node, number: usize) {
        let Some(opened) = node.logs.get_mut(&number) else {
            return;
        };
        // A truncation that fails for want of something stops half-way; a broker of one node never truncates.
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
        let truncated = opened.log.truncate_to(Offset(offset), Timestamp(self.now));
        self.trace
            .note(&format!("truncate {number} to {offset}: {truncated:?}"));
        match truncated {
            Ok(true) => {
                model.highest_start = model.highest_start.max(model.start);
                model.start = opened.log.log_start_offset().0;
                model.truncated(offset);
                let end = opened.log.log_end_offset().0;
                assert_eq!(end, model.end(), "the end of a truncated log");
                model.acknowledged_start = model.acknowledged_start.min(model.start);
            }
            Ok(false) => {}
            Err(error) => {
                model.truncation_failed(offset);
                self.tolerate(&error);
            }
        }
        self.after_truncation(node, number);
    }

    /// Whoever waited is told that this is no leader any more. Before anything is appended the recovery point and the log
    /// start, which may have been beyond the cut, are written down; a node that cannot do so goes.
    fn after_truncation(&mut self, node: &mut Node, number: usize) {
        let Some(opened) = node.logs.get(&number) else {
            return;
        };
        let commit = &mut node.directories[opened.directory].commit;
        let _ = commit.remove(opened.id);
        commit.add(opened.id, opened.log.flushed_offset());
        let written = node
            .write_recovery_points(&self.partitions)
            .and_then(|()| node.write_log_starts(&self.partitions));
        self.must_end |= !self.excuse("write recovery points and log starts", written);
    }

    fn roll(&mut self, node: &mut Node, number: usize) {
        if let Some(opened) = node.logs.get_mut(&number) {
            let rolled = opened.log.roll(Timestamp(self.now));
            self.excuse("roll", rolled.map_err(Failed::from));
        }
    }

    /// Compares a log with its model while it is in use, if nothing is to fail.
    fn read(&mut self, node: &mut Node, number: usize) {
        let troubles = self.troubles;
        let is_quiet = !(troubles.fault || troubles.handles || self.is_power_doomed);
        let opened = node.logs.get_mut(&number).filter(|_| is_quiet);
        if let Some(opened) = opened {
            self.trace.note(&format!("read {number}"));
            check::in_use(&self.models[number], &mut opened.log, &mut self.random);
            self.trace.checks += 1;
        }
    }

    fn delete_or_create(&mut self, node: &mut Node, number: usize) {
        let partition = &mut self.partitions[number];
        let outcome = if partition.id.take().is_some() {
            self.trace.note(&format!("delete {number}"));
            node.delete(number)
        } else {
            let id = self.new_id();
            let partition = &mut self.partitions[number];
            partition.id = Some(id);
            partition.leader_epoch = self.leader_epoch;
            self.trace.note(&format!("create {number}"));
            node.create(number, &self.partitions[number], self.now)
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
        self.partitions[number].config = config.clone();
        if let Some(opened) = node.logs.get_mut(&number) {
            opened.log.set_config(config);
        }
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
        let Some(opened) = node.logs.get_mut(&number) else {
            return;
        };
        self.models[number].leader_epoch = self.leader_epoch;
        let log = &mut opened.log;
        log.begin_epoch(LeaderEpoch(self.leader_epoch));
        let flushed = log
            .flush()
            .and_then(|()| log.set_high_watermark(log.flushed_offset()));
        self.trace
            .note(&format!("epoch {} of {number}", self.leader_epoch));
        self.excuse(
            "flushed",
            flushed.map_err(|error: StorageError| error.into()),
        );
        self.note_high_watermarks(node);
    }
}

//! A controller on a machine of the simulation: its disk, its node while it runs, and what its driver knows.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use ottla_log::files::simulated::Simulated;
use ottla_log::files::{File, Files, Open, read_whole};
use ottla_metadata::{Loader, MetadataVersion};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, Uuid};
use ottla_protocol::records::BatchView;
use ottla_protocol::time::Timestamp;
use ottla_quorum::{
    Format, Location, METADATA_DIRECTORY, Member, NodeError, RaftNode, Settings, SnapshotId,
    SnapshotJob, Voter, VoterEndpoint, format,
};

pub const CLUSTER: &str = "AAAAAAAAAAAAAAAAAAAABg";

/// One machine.
pub struct Machine {
    pub index: usize,
    pub voter: Voter,
    pub files: Simulated,
    /// `None` while the machine is down.
    pub node: Option<RaftNode<Simulated>>,
    /// The metadata that the driver has from the news.
    pub loader: Loader,
    /// The epoch in which it may decide, and how often it has been started.
    pub leads: Option<LeaderEpoch>,
    pub starts: u64,
    /// The newest epoch that it knew in any life.
    pub epoch: LeaderEpoch,
    pub writing: Option<SnapshotJob<Simulated>>,
    /// Microseconds between two ticks of its clock, which is not that of the others.
    pub tick: u64,
    /// Whether its disk may be full.
    pub is_full: bool,
}

pub fn data() -> &'static Path {
    Path::new("/data")
}

pub fn log_directory() -> PathBuf {
    data().join(METADATA_DIRECTORY)
}

pub fn voters(count: usize) -> Vec<Voter> {
    (0..count)
        .map(|index| Voter {
            node_id: NodeId(i32::try_from(index).expect("few nodes") + 1),
            directory_id: Uuid::from_parts(5, index as u64 + 1),
            endpoints: vec![VoterEndpoint {
                listener: "CONTROLLER".into(),
                host: format!("node-{index}"),
                port: 9093,
            }],
        })
        .collect()
}

impl Machine {
    /// A machine whose directory was formatted for these voters, or for none.
    pub fn formatted(index: usize, voter: &Voter, voters: &[Voter], tick: u64) -> Self {
        let files = Simulated::new();
        let formatted = Format {
            cluster_id: CLUSTER,
            node_id: voter.node_id,
            directories: &[(data(), voter.directory_id)],
            metadata_directory: data(),
            voters,
            bootstrap: &[],
            version: MetadataVersion::LATEST,
            now: Timestamp(0),
        };
        format(&files, &formatted).expect("a new disk can be formatted");
        Self {
            index,
            voter: voter.clone(),
            files,
            node: None,
            loader: Loader::default(),
            leads: None,
            starts: 0,
            epoch: LeaderEpoch(0),
            writing: None,
            tick,
            is_full: false,
        }
    }

    /// Starts the machine. Without voters in its log it hears of `others`.
    pub fn start(&mut self, others: &[Voter]) -> Result<(), NodeError> {
        let settings = Settings {
            segment_bytes: 3_000,
            reserved_bytes: 0,
            kept_entry_bytes: 500,
            checkpoint_bytes: 2_000,
            ..Settings::default()
        };
        let directory = log_directory();
        let location = Location {
            directory: &directory,
            cluster_id: CLUSTER,
        };
        let voter = self.voter.clone();
        let inspected = RaftNode::inspect(self.files.clone(), location, voter.clone())?;
        let member = Member {
            voter,
            voters: inspected.voters().unwrap_or(others),
        };
        let (node, loader) = RaftNode::open(self.files.clone(), location, member, settings)?;
        (self.loader, self.leads, self.writing) = (loader, None, None);
        self.starts += 1;
        self.node = Some(node);
        Ok(())
    }

    /// Has its disk take only so many bytes more.
    pub fn limit_space(&mut self, bytes: Option<u64>) {
        self.files.limit_space(bytes);
        self.is_full = bytes.is_some();
    }

    /// Stops at once. What the process wrote is on the disk; after a power cut, what was synced and a part of the rest.
    pub fn stop(&mut self, power_cut: Option<u64>) {
        self.node = None;
        self.files = match power_cut {
            Some(seed) => self.files.power_cut(seed),
            None => self.files.process_killed(),
        };
        self.limit_space(None);
    }

    /// Removes Raft's log: what is left is a directory of Apache Kafka, which has synced it.
    pub fn forget_raft(&self) {
        let directory = log_directory();
        self.files
            .remove(&directory.join("raft-log"))
            .expect("it is there");
        for entry in self.files.list(&directory).expect("it can be listed") {
            let file = self.files.open(&directory.join(&entry.name), Open::Write);
            file.and_then(|file| file.sync_data())
                .expect("it can be synced");
        }
        self.files
            .sync_directory(&directory)
            .expect("it can be synced");
    }

    /// The batches on its disk, by base offset.
    pub fn batches(&self) -> BTreeMap<Offset, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in self.files.list(&log_directory()).expect("it can be listed") {
            if entry
                .name
                .strip_suffix(".log")
                .is_none_or(|base| base.len() != 20)
            {
                continue;
            }
            let path = log_directory().join(&entry.name);
            let bytes = read_whole(&self.files, &path, u64::MAX).expect("it can be read");
            let bytes = bytes.expect("it is there");
            let mut rest = bytes.as_slice();
            while let Ok(batch) = BatchView::first(rest) {
                found.insert(Offset(batch.header().base_offset), batch.bytes().to_vec());
                rest = &rest[batch.size()..];
            }
            assert!(rest.is_empty(), "{} ends in something else", entry.name);
        }
        found
    }

    /// The bytes of a snapshot of this machine.
    pub fn snapshot(&self, id: SnapshotId) -> Option<Vec<u8>> {
        let path = log_directory().join(id.file_name());
        read_whole(&self.files, &path, u64::MAX).ok().flatten()
    }

    /// Stores a fetched snapshot, as the driver of a broker would.
    pub fn store_snapshot(&self, id: SnapshotId, bytes: &[u8]) -> Option<()> {
        let path = log_directory().join(id.file_name());
        let part = log_directory().join(format!("{}.part", id.file_name()));
        let file = self.files.open(&part, Open::Replace).ok()?;
        file.write_at(&[IoSlice::new(bytes)], 0).ok()?;
        file.sync_data().ok()?;
        self.files.rename(&part, &path).ok()?;
        self.files.sync_directory(&log_directory()).ok()
    }
}

//! The voters of the metadata quorum, as Kafka's control records have them.

use ottla_protocol::address;
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::voters_record as wire;
use ottla_protocol::messages::{KRaftVersionRecordData, VotersRecordData};
use ottla_protocol::records::control::ControlRecord;

/// From this level of `kraft.version` on, the voters are in the log instead of in the configuration.
pub const DYNAMIC_VOTERS: i16 = 1;

/// A voter: a node, and the directory that holds its copy of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Its `node.id`.
    pub node_id: NodeId,
    /// The `directory.id` of its metadata log directory.
    pub directory_id: Uuid,
    /// The listeners of its controller; the first is that of the quorum.
    pub endpoints: Vec<VoterEndpoint>,
}

/// An address at which a voter listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoterEndpoint {
    /// The listener's name.
    pub listener: String,
    /// The host name or address.
    pub host: String,
    pub port: u16,
}

impl VoterEndpoint {
    /// `host:port`.
    pub fn address(&self) -> String {
        address::dialled(&self.host, self.port)
    }
}

impl Voter {
    /// Whether `other` is the same voter; its endpoints may differ.
    pub fn is_same_voter(&self, other: &Self) -> bool {
        self.node_id == other.node_id && self.directory_id == other.directory_id
    }
}

/// The state that control records give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct QuorumControl {
    /// The level of `kraft.version`.
    pub(crate) kraft_version: i16,
    /// The voters, if they are in the log.
    pub(crate) voters: Vec<Voter>,
    /// Whether a record of the log names the voters, and not only the checkpoint of formatting.
    pub(crate) voters_in_log: bool,
}

impl QuorumControl {
    /// Applies a control record.
    pub(crate) fn replay(&mut self, record: &ControlRecord) {
        match record {
            ControlRecord::KRaftVersion(version) => self.kraft_version = version.k_raft_version,
            ControlRecord::KRaftVoters(voters) => {
                self.voters = voters.voters.iter().map(from_wire).collect();
            }
            _ => {}
        }
    }

    /// The records of this state, for the start of a snapshot and for a change of voters.
    pub(crate) fn to_records(&self) -> Vec<ControlRecord> {
        if self.kraft_version < DYNAMIC_VOTERS {
            return Vec::new();
        }
        let version = KRaftVersionRecordData::default().with_k_raft_version(self.kraft_version);
        vec![
            ControlRecord::KRaftVersion(version),
            Self::voters_record(&self.voters),
        ]
    }

    /// The record that names `voters`.
    pub(crate) fn voters_record(voters: &[Voter]) -> ControlRecord {
        let voters = voters.iter().map(to_wire).collect();
        ControlRecord::KRaftVoters(VotersRecordData::default().with_voters(voters))
    }
}

fn to_wire(voter: &Voter) -> wire::Voter {
    let endpoints = voter.endpoints.iter().map(|endpoint| wire::Endpoint {
        name: endpoint.listener.clone().into(),
        host: endpoint.host.clone().into(),
        port: endpoint.port,
        ..wire::Endpoint::default()
    });
    wire::Voter {
        voter_id: voter.node_id.0,
        voter_directory_id: voter.directory_id,
        endpoints: endpoints.collect(),
        k_raft_version_feature: wire::KRaftVersionFeature {
            min_supported_version: 0,
            max_supported_version: DYNAMIC_VOTERS,
            ..wire::KRaftVersionFeature::default()
        },
        ..wire::Voter::default()
    }
}

fn from_wire(voter: &wire::Voter) -> Voter {
    let endpoints = voter.endpoints.iter().map(|endpoint| VoterEndpoint {
        listener: endpoint.name.to_string(),
        host: endpoint.host.to_string(),
        port: endpoint.port,
    });
    Voter {
        node_id: NodeId(voter.voter_id),
        directory_id: voter.voter_directory_id,
        endpoints: endpoints.collect(),
    }
}

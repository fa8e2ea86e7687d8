//! The look-ups before a fetch: the start of a partition, and whether a position is still in the log.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::messages::{KafkaString, OffsetForLeaderEpochRequestData};

use super::options::{OutOfRange, Position};
use super::reading::{Lookup, Reading, StartAt};
use super::{Done, Fetcher};
use crate::error::ErrorCode;
use crate::notice::{Notice, Source};
use crate::{ClientError, Cluster, Isolation, OffsetSpec, Result, TopicPartition};

/// The answer.
#[derive(Debug)]
pub(super) struct LookedUp {
    position: Position,
    /// The leader epoch for which the position was checked, if it was.
    checked_epoch: Option<i32>,
    notice: Option<Notice>,
}

impl LookedUp {
    fn at(offset: i64) -> Self {
        Self {
            position: Position::at(offset),
            checked_epoch: None,
            notice: None,
        }
    }
}

impl Fetcher {
    /// Reads this partition too, from `at` on. The look-up waits until the partition has a leader.
    pub fn add(&mut self, partition: TopicPartition, at: StartAt) {
        self.know(&partition.topic);
        let reading = match at {
            StartAt::Offset(offset) => Reading::at(Position::at(offset)),
            StartAt::Found(_) | StartAt::BeforeEnd(_) => Reading::unknown(Lookup::Start(at)),
        };
        self.partitions.insert(partition, reading);
    }

    /// Whether this fetcher reads the partition, even if its next offset is not known yet.
    pub fn reads(&self, partition: &TopicPartition) -> bool {
        self.partitions.contains_key(partition)
    }

    pub(super) fn start_lookup(&mut self, partition: TopicPartition, leader: i32, lookup: Lookup) {
        let cluster = Arc::clone(&self.cluster);
        let out_of_range = self.options.out_of_range;
        let isolation = self.options.isolation;
        self.in_flight.spawn(async move {
            let answer = match lookup {
                Lookup::Start(at) => start(&cluster, &partition, at, isolation).await,
                Lookup::OutOfRange(from) => {
                    in_range(&cluster, &partition, from, out_of_range).await
                }
                Lookup::Epoch(position, current) => {
                    let asked = Asked { position, current };
                    end_of_epoch(&cluster, leader, &partition, asked).await
                }
            };
            Done::LookedUp(partition, answer)
        });
    }

    pub(super) fn take_looked_up(
        &mut self,
        partition: &TopicPartition,
        answer: Result<LookedUp>,
    ) -> Result<()> {
        let Some(reading) = self.partitions.get_mut(partition) else {
            return Ok(());
        };
        reading.is_looked_up = false;
        let asked = match reading.lookup {
            Some(Lookup::Epoch(position, _)) => Some(position),
            Some(Lookup::Start(_) | Lookup::OutOfRange(_)) | None => reading.position,
        };
        // A fetch has moved the position meanwhile. The next look-up uses the new one.
        if asked != reading.position {
            reading.lookup = None;
            return Ok(());
        }
        match answer {
            Ok(found) => {
                reading.lookup = None;
                reading.position = Some(found.position);
                if let Some(epoch) = found.checked_epoch {
                    reading.checked_epoch = epoch;
                }
                self.outages.works(&Source::Partition(partition.clone()));
                if let Some(notice) = found.notice {
                    self.outages.tell(notice);
                }
                Ok(())
            }
            Err(error) if error.is_retriable() => self.wait_for(partition, Err(error)),
            Err(error) => Err(error),
        }
    }
}

async fn start(
    cluster: &Cluster,
    partition: &TopicPartition,
    at: StartAt,
    isolation: Isolation,
) -> Result<LookedUp> {
    let of = |spec| offset(cluster, partition, spec, isolation);
    let begin = match at {
        StartAt::Offset(offset) => offset,
        StartAt::BeforeEnd(count) => {
            let first = of(OffsetSpec::Earliest).await?;
            let end = of(OffsetSpec::Latest).await?;
            end.saturating_sub(count).max(first)
        }
        StartAt::Found(spec) => match of(spec).await? {
            // No record is as late as the timestamp.
            -1 => of(OffsetSpec::Latest).await?,
            found => found,
        },
    };
    Ok(LookedUp::at(begin))
}

async fn offset(
    cluster: &Cluster,
    partition: &TopicPartition,
    spec: OffsetSpec,
    isolation: Isolation,
) -> Result<i64> {
    let asked = BTreeSet::from([partition.clone()]);
    let found = cluster.list_offsets(&asked, spec, isolation).await?;
    let at = found.get(partition).map(|at| at.offset);
    at.ok_or_else(|| {
        ClientError::refused(
            format!("offsets of {partition}"),
            ErrorCode::UnknownTopicOrPartition,
        )
    })
}

/// The offset from which to go on after `from`. If `from` is before the first record, it is the first record, whatever
/// `out_of_range` is. If `from` is after the end, `out_of_range` decides.
async fn in_range(
    cluster: &Cluster,
    partition: &TopicPartition,
    from: i64,
    policy: OutOfRange,
) -> Result<LookedUp> {
    let of = |spec| offset(cluster, partition, spec, Isolation::ReadUncommitted);
    let (first, end) = (
        of(OffsetSpec::Earliest).await?,
        of(OffsetSpec::Latest).await?,
    );
    let partition = partition.clone();
    Ok(if from < first {
        LookedUp {
            notice: Some(Notice::RecordsDeleted {
                partition,
                from,
                to: first,
            }),
            ..LookedUp::at(first)
        }
    } else if from > end {
        let to = match policy {
            OutOfRange::Earliest => first,
            OutOfRange::Latest | OutOfRange::Fail => end,
        };
        LookedUp {
            notice: Some(Notice::Truncated {
                partition,
                from,
                to,
            }),
            ..LookedUp::at(to)
        }
    } else {
        LookedUp::at(from)
    })
}

/// A position, and the epoch of the leader that checks it.
struct Asked {
    position: Position,
    current: i32,
}

async fn end_of_epoch(
    cluster: &Cluster,
    leader: i32,
    partition: &TopicPartition,
    Asked { position, current }: Asked,
) -> Result<LookedUp> {
    let request = OffsetForLeaderEpochRequestData {
        replica_id: -1,
        topics: vec![OffsetForLeaderTopic {
            topic: KafkaString::from(partition.topic.clone()),
            partitions: vec![OffsetForLeaderPartition {
                partition: partition.partition,
                current_leader_epoch: current,
                leader_epoch: position.leader_epoch,
                ..OffsetForLeaderPartition::default()
            }],
            ..OffsetForLeaderTopic::default()
        }],
        ..OffsetForLeaderEpochRequestData::default()
    };
    let mut looked_up = LookedUp {
        position,
        checked_epoch: Some(current),
        notice: None,
    };
    let response = match cluster.call(leader, &request).await {
        // A broker without this API cannot check the position, which then counts as valid.
        Err(ClientError::Unsupported { .. }) => return Ok(looked_up),
        answer => answer?,
    };
    let topics = response.topics.iter();
    let Some(end) = topics.flat_map(|topic| &topic.partitions).next() else {
        return Ok(looked_up);
    };
    ClientError::check(end.error_code, None, format!("leader epoch of {partition}"))?;
    if (0..position.offset).contains(&end.end_offset) {
        looked_up.position = Position {
            offset: end.end_offset,
            leader_epoch: end.leader_epoch,
        };
        looked_up.notice = Some(Notice::Truncated {
            partition: partition.clone(),
            from: position.offset,
            to: end.end_offset,
        });
    }
    Ok(looked_up)
}

//! Where a consumer without a group begins.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use anyhow::Result;
use ottla_client::{Cluster, Isolation, OffsetSpec, StartAt, TopicPartition};

use crate::instant;
use crate::offset_range::OffsetRange;
use crate::output::message;

/// A value of `--from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The first record there is.
    Beginning,
    /// The next record that arrives.
    End,
    /// This offset.
    Offset(i64),
    /// This many records before the end.
    Last(i64),
    /// The first record at or after this time, in milliseconds since 1970.
    Time(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" | "earliest" => return Ok(Self::Beginning),
            "end" | "latest" => return Ok(Self::End),
            _ => {}
        }
        if let Some(count) = text.strip_prefix('-')
            && let Ok(count) = count.parse()
        {
            return Ok(Self::Last(count));
        }
        if text.len() < 12
            && let Ok(offset) = text.parse()
        {
            return Ok(Self::Offset(offset));
        }
        instant::parse(text, instant::now_ms())
            .map(Self::Time)
            .map_err(|error| format!("neither `beginning`, `end` nor an offset, and {error}"))
    }
}

impl From {
    /// The start of a partition whose leader cannot be asked yet.
    pub fn later(self) -> StartAt {
        match self {
            Self::Beginning => StartAt::Found(OffsetSpec::Earliest),
            Self::End => StartAt::Found(OffsetSpec::Latest),
            Self::Time(at) => StartAt::Found(OffsetSpec::Timestamp(at)),
            Self::Last(count) => StartAt::BeforeEnd(count),
            Self::Offset(offset) => StartAt::Offset(offset),
        }
    }
}

/// The first offset to read in each partition, always within the partition. A message tells the
/// user when it differs from the requested offset.
pub async fn positions(
    cluster: &Cluster,
    partitions: &BTreeSet<TopicPartition>,
    from: From,
    isolation: Isolation,
) -> Result<BTreeMap<TopicPartition, i64>> {
    let offsets = |spec| cluster.list_offsets(partitions, spec, isolation);
    let ends = offsets(OffsetSpec::Latest).await?;
    let starts = offsets(OffsetSpec::Earliest).await?;
    let at_time = match from {
        From::Time(at) => offsets(OffsetSpec::Timestamp(at)).await?,
        From::Beginning | From::End | From::Offset(_) | From::Last(_) => BTreeMap::new(),
    };
    let positions = partitions.iter().map(|partition| {
        let (start, end) = (starts[partition].offset, ends[partition].offset);
        let range = OffsetRange { start, end };
        let wanted = match from {
            From::Beginning => start,
            From::End => end,
            From::Offset(offset) => offset,
            From::Last(count) => end.saturating_sub(count),
            // -1: all records are older.
            From::Time(_) => match at_time[partition].offset {
                -1 => end,
                offset => offset,
            },
        };
        let begin = range.nearest(wanted);
        if matches!(from, From::Offset(_))
            && let Some(why) = range.why_moved(partition, wanted)
        {
            message(&format!("{why}: reading from {begin}"));
        }
        (partition.clone(), begin)
    });
    Ok(positions.collect())
}

#[cfg(test)]
mod tests {
    use super::From;

    #[test]
    fn from_reads_words_offsets_counts_and_times() {
        assert_eq!("beginning".parse(), Ok(From::Beginning));
        assert_eq!("1234".parse(), Ok(From::Offset(1234)));
        assert_eq!("-5".parse(), Ok(From::Last(5)));
        assert_eq!("1970-01-02".parse(), Ok(From::Time(86_400_000)));
        assert!(matches!("15m".parse(), Ok(From::Time(_))));
        assert!("start".parse::<From>().is_err());
    }
}

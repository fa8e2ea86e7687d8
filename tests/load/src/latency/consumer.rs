//! Reads each record once, from all partitions, and stores when it arrived.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ottla_client::{Cluster, FetchOptions, Fetcher, TopicPartition};

use super::{Args, Mark, Sample};
use crate::clock::Clock;

/// Reads until all records have arrived; returns the latencies.
pub async fn read(cluster: Arc<Cluster>, args: Args, clock: Clock) -> Result<Vec<Sample>> {
    let partitions = i32::try_from(args.partitions)?;
    let start = (0..partitions).map(|index| (TopicPartition::new(&args.topic, index), 0));
    let mut fetcher = Fetcher::new(cluster, FetchOptions::default());
    fetcher.assign(start.collect::<BTreeMap<_, _>>());
    let mut seen = vec![false; usize::try_from(args.records())?];
    let mut missing = seen.len();
    let mut latencies = Vec::with_capacity(seen.len());
    while missing > 0 {
        let arrived = fetcher.poll().await?;
        let now = clock.now();
        for record in arrived.iter().flat_map(|fetched| &fetched.records) {
            let mark = record.value.as_deref().and_then(Mark::read);
            let mark = mark.context("the topic has a record of another producer")?;
            let seen = seen.get_mut(usize::try_from(mark.number)?);
            match seen {
                Some(seen) if !*seen => *seen = true,
                _ => bail!("record {} came twice or was never sent", mark.number),
            }
            missing -= 1;
            if args.counts(mark) {
                latencies.push(Sample::of(mark, now));
            }
        }
    }
    Ok(latencies)
}

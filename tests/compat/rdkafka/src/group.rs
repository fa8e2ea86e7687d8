//! Groups: commits, rebalances, listing.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::records::{consumer, of, produce, records, take};
use crate::{Compat, DEADLINE, Outcome, expect, options};

pub async fn commit(compat: &Compat) -> Outcome {
    let topic = compat.name("commit");
    compat.create("commit", 3, &[]).await?;
    produce(compat, "commit", &records(30), &[]).await?;
    let first = consumer(compat, "commit", &[])?;
    first.subscribe(&[&topic])?;
    take(&first, 30).await?;
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in [(0, 4), (1, 10), (2, 7)] {
        offsets.add_partition_offset(&topic, partition, Offset::Offset(offset))?;
    }
    first.commit(&offsets, CommitMode::Sync)?;
    drop(first);
    let second = consumer(compat, "commit", &[])?;
    second.subscribe(&[&topic])?;
    let found = take(&second, 9).await?;
    let counts = [0, 1, 2].map(|partition| of(&found, partition).len());
    expect(counts == [6, 0, 3], format!("resumed with {counts:?}"))?;
    let committed = second.committed(DEADLINE)?;
    let first = committed
        .find_partition(&topic, 0)
        .ok_or("partition 0 is not assigned")?;
    expect(
        first.offset() == Offset::Offset(4),
        format!("committed {:?}", first.offset()),
    )
}

/// Polls every member until each owns as many partitions as wanted.
fn until_owned(members: &[&BaseConsumer], wanted: &[usize]) -> Outcome {
    let end = Instant::now() + DEADLINE;
    loop {
        let mut owned = Vec::new();
        for member in members {
            if let Some(message) = member.poll(Duration::from_millis(50)) {
                message?;
            }
            owned.push(member.assignment()?.count());
        }
        if owned == wanted {
            return Ok(());
        }
        expect(
            Instant::now() < end,
            format!("{owned:?} partitions are owned, not {wanted:?}"),
        )?;
    }
}

pub async fn rebalance(compat: &Compat, strategy: &str) -> Outcome {
    let of = format!("rebalance-{strategy}");
    compat.create(&of, 4, &[]).await?;
    let member = || -> Outcome<BaseConsumer> {
        let member: BaseConsumer = compat
            .config()
            .set("group.id", compat.name(&of))
            .set("partition.assignment.strategy", strategy)
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "500")
            .create()?;
        member.subscribe(&[&compat.name(&of)])?;
        Ok(member)
    };
    let first = member()?;
    until_owned(&[&first], &[4])?;
    let second = member()?;
    until_owned(&[&first, &second], &[2, 2])?;
    drop(second);
    until_owned(&[&first], &[4])
}

pub async fn listed(compat: &Compat) -> Outcome {
    let group = compat.name("commit");
    let found = compat
        .admin
        .inner()
        .fetch_group_list(Some(&group), DEADLINE)?;
    let state = found.groups().first().map(|group| group.state().to_owned());
    expect(
        state.as_deref() == Some("Empty"),
        format!("state {state:?}"),
    )?;
    for answer in compat.admin.delete_groups(&[&group], &options()).await? {
        answer.map_err(|(group, code)| format!("{group}: {code}"))?;
    }
    Ok(())
}

//! The losses that replicas report after an unclean election are exactly the records that a checker misses.

use std::collections::BTreeSet;
use std::time::Duration;

use ottla_log::files::simulated::Random;
use ottla_metadata::Partition as Metadata;
use ottla_protocol::ids::NodeId;
use ottla_replica::{Durability, Loss};

use super::followers::Stage;

const OLD_LEADER: i32 = 1;

/// Node 1 leads and acknowledges. One follower fetches more often than the other, which is sometimes in the ISR.
fn lead(stage: &mut Stage, fast: i32, random: &mut Random) {
    let slow = 5 - fast;
    let mut value = 0;
    for _ in 0..40 {
        match random.below(8) {
            0 | 1 => {
                let values: Vec<u64> = (0..=random.below(2)).map(|more| value + more).collect();
                if stage.produce(OLD_LEADER, &values).is_ok() {
                    value += values.len() as u64;
                }
            }
            2..5 => _ = stage.fetch(fast),
            5 => _ = stage.fetch(slow),
            _ => {
                let isrs = [vec![1, fast], vec![1, fast], vec![1, slow], vec![1, 2, 3]];
                let isr = isrs[random.index(isrs.len())].iter();
                let isr = isr.map(|id| NodeId(*id)).collect();
                stage.change(|partition| partition.isr = isr, &[OLD_LEADER]);
                stage.now.monotonic = stage.now.monotonic.after(Duration::from_mins(1));
            }
        }
        (1..=3).for_each(|id| stage.flush(id));
    }
}

/// Node `leader` is elected although it may lack records.
fn elect_uncleanly(stage: &mut Stage, leader: i32) {
    let uncleanly = |partition: &mut Metadata| {
        partition.isr = vec![NodeId(leader)];
        partition.recovering = true;
    };
    stage.change(uncleanly, &[]);
    stage.elect(leader, &[1, 2, 3]);
}

/// What the replicas report until their logs are that of the new leader.
fn follow(stage: &mut Stage, leader: i32) -> Vec<(i32, Loss)> {
    let mut losses = Vec::new();
    for id in (1..=3).filter(|id| *id != leader) {
        for _ in 0..4 {
            losses.extend(stage.fetch(id).0.map(|loss| (id, loss)));
        }
        assert_eq!(stage.values(id), stage.values(leader));
    }
    losses
}

#[test]
fn what_is_reported_is_what_is_missing() {
    let (mut with_loss, mut without) = (0, 0);
    for seed in 0..600 {
        let random = &mut Random::new(seed);
        let durabilities = [Durability::PageCache, Durability::Fsync];
        let mut stage = Stage::new(durabilities[random.index(2)]);
        let fast = [2, 3][random.index(2)];
        lead(&mut stage, fast, random);
        let told = stage.ends(OLD_LEADER).0;
        let before: Vec<Vec<u64>> = (1..=3).map(|id| stage.values(id)).collect();
        let leader = [2, 3][random.index(2)];
        elect_uncleanly(&mut stage, leader);
        let has_recovered = random.below(2) == 0;
        if has_recovered {
            let other = NodeId(5 - leader);
            let recover = |partition: &mut Metadata| {
                partition.isr.push(other);
                partition.recovering = false;
            };
            stage.change(recover, &[1, 2, 3]);
            stage.produce(leader, &[1_000, 1_001]).unwrap();
        }
        let losses = follow(&mut stage, leader);

        let old = &before[0];
        let new = stage.values(leader);
        let is_missing = |offset: &i64| {
            let place = usize::try_from(*offset).unwrap();
            new.get(place) != old.get(place)
        };
        let missing: BTreeSet<i64> = (0..told).filter(is_missing).collect();
        let reported: BTreeSet<i64> = losses
            .iter()
            .flat_map(|(_, loss)| loss.from.0..loss.to.0)
            .collect();
        assert_eq!(reported, missing, "seed {seed}: {losses:?}");
        if missing.is_empty() {
            without += 1;
        } else {
            with_loss += 1;
        }
        if has_recovered {
            continue;
        }
        // Also a replica that knows an old high watermark reports the end of what it removed.
        let ends_at = before[usize::try_from(leader).unwrap() - 1].len();
        for (id, log) in (1..=3).zip(&before) {
            let reported = losses
                .iter()
                .find(|(by, _)| *by == id)
                .map(|(_, loss)| loss.end.0);
            let expected = (log.len() > ends_at).then(|| i64::try_from(log.len()).unwrap());
            assert_eq!(reported, expected, "seed {seed}, node {id}: {losses:?}");
        }
    }
    assert!(with_loss > 50 && without > 50, "{with_loss} {without}");
}

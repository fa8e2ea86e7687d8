//! Chooses brokers for replicas that a command adds or moves. Pure.
//!
//! A partition gets its replicas in as many racks as there are; within these on the brokers with the fewest replicas. What
//! need not move stays. Where a partition gets more replicas, the one of its brokers that is preferred by the fewest
//! partitions becomes the preferred leader: a cluster that grows from one node would otherwise be led by that node alone.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// A broker that may get replicas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    pub rack: Option<String>,
    /// Its replicas of all partitions.
    pub replicas: usize,
    /// The partitions that prefer it as their leader.
    pub preferred: usize,
}

/// The brokers, as they will be after the changes so far.
#[derive(Debug, Clone, Default)]
pub struct Placing {
    brokers: BTreeMap<i32, Load>,
}

impl Placing {
    /// The brokers of these racks, with the replicas of all `partitions`.
    pub fn new<'a>(
        racks: impl IntoIterator<Item = (i32, Option<String>)>,
        partitions: impl IntoIterator<Item = &'a [i32]>,
    ) -> Self {
        let load = |(id, rack)| {
            let load = Load {
                rack,
                ..Load::default()
            };
            (id, load)
        };
        let mut placing = Self {
            brokers: racks.into_iter().map(load).collect(),
        };
        for replicas in partitions {
            placing.count(replicas, 1);
        }
        placing
    }

    fn count(&mut self, replicas: &[i32], change: isize) {
        for id in replicas {
            if let Some(load) = self.brokers.get_mut(id) {
                load.replicas = load.replicas.saturating_add_signed(change);
            }
        }
        if let Some(load) = replicas.first().and_then(|id| self.brokers.get_mut(id)) {
            load.preferred = load.preferred.saturating_add_signed(change);
        }
    }

    /// How many of `replicas` are in the rack of a broker.
    fn in_rack_of(&self, id: i32, replicas: &[i32]) -> usize {
        let rack = |id: &i32| self.brokers.get(id).map(|load| load.rack.as_deref());
        let own = rack(&id);
        replicas.iter().filter(|other| rack(other) == own).count()
    }

    /// The best broker for one more replica.
    fn best(&self, replicas: &[i32]) -> Option<i32> {
        let others = self.brokers.iter().filter(|(id, _)| !replicas.contains(id));
        let best =
            others.min_by_key(|(id, load)| (self.in_rack_of(**id, replicas), load.replicas, **id));
        best.map(|(id, _)| *id)
    }

    /// The replicas of a partition that is to have `wanted` of them.
    pub fn resized(&mut self, current: &[i32], wanted: usize) -> Result<Vec<i32>> {
        if wanted > self.brokers.len() {
            bail!(
                "{wanted} replicas need {wanted} brokers that can take them, and there are {}",
                self.brokers.len()
            );
        }
        self.count(current, -1);
        let mut replicas = current.to_vec();
        while replicas.len() < wanted {
            let Some(best) = self.best(&replicas) else {
                break;
            };
            replicas.push(best);
        }
        while replicas.len() > wanted {
            replicas.remove(self.least_useful(&replicas));
        }
        if wanted > current.len() {
            self.prefer_the_idlest(&mut replicas);
        }
        self.count(&replicas, 1);
        Ok(replicas)
    }

    /// The place of the replica to give up: one in a crowded rack, on a broker with many; not the preferred leader.
    fn least_useful(&self, replicas: &[i32]) -> usize {
        let use_of = |place: &usize| {
            let id = replicas[*place];
            // A broker that takes no replicas goes first.
            let load = self.brokers.get(&id).map(|load| load.replicas);
            (load.is_none(), self.in_rack_of(id, replicas), load, *place)
        };
        (1..replicas.len()).max_by_key(use_of).unwrap_or(0)
    }

    fn prefer_the_idlest(&self, replicas: &mut [i32]) {
        let preferred = |place: &usize| {
            let load = self.brokers.get(&replicas[*place]);
            load.map_or(usize::MAX, |load| load.preferred)
        };
        if let Some(place) = (0..replicas.len()).min_by_key(preferred) {
            replicas[..=place].rotate_right(1);
        }
    }

    /// The replicas of a partition without the broker `leaving`: another one takes its place. The caller has not named it
    /// among the brokers.
    pub fn without(&mut self, current: &[i32], leaving: i32) -> Result<Vec<i32>> {
        self.count(current, -1);
        let staying: Vec<i32> = current
            .iter()
            .copied()
            .filter(|id| *id != leaving)
            .collect();
        let Some(best) = self.best(&staying) else {
            bail!(
                "no other broker can take the place of broker {leaving}: the replicas are on {} brokers, and there are no \
                 more",
                current.len()
            );
        };
        let replace = |id: &i32| if *id == leaving { best } else { *id };
        let replicas: Vec<i32> = current.iter().map(replace).collect();
        self.count(&replicas, 1);
        Ok(replicas)
    }
}

#[cfg(test)]
mod tests {
    use super::Placing;
    use std::collections::{BTreeMap, BTreeSet};

    /// Two brokers in each of three racks: 10, 11, 20, 21, 30, 31.
    fn racks() -> Vec<(i32, Option<String>)> {
        let ids = [10, 11, 20, 21, 30, 31];
        ids.map(|id| (id, Some((id / 10).to_string()))).to_vec()
    }

    fn spread(partitions: &[Vec<i32>]) -> (BTreeMap<i32, usize>, BTreeMap<i32, usize>) {
        let (mut all, mut preferred) = (BTreeMap::new(), BTreeMap::new());
        for replicas in partitions {
            *preferred.entry(replicas[0]).or_default() += 1;
            for id in replicas {
                *all.entry(*id).or_default() += 1;
            }
        }
        (all, preferred)
    }

    #[test]
    fn topics_of_one_node_are_spread_over_racks_brokers_and_leaders() {
        let before = vec![vec![10]; 60];
        let mut placing = Placing::new(racks(), before.iter().map(Vec::as_slice));
        let after: Vec<Vec<i32>> = before
            .iter()
            .map(|replicas| placing.resized(replicas, 3).unwrap())
            .collect();
        for replicas in &after {
            let racks: BTreeSet<i32> = replicas.iter().map(|id| id / 10).collect();
            assert_eq!((replicas.len(), racks.len()), (3, 3), "{replicas:?}");
            assert!(replicas.contains(&10), "what need not move stays");
        }
        let (all, preferred) = spread(&after);
        assert_eq!(all[&10], 60);
        assert!([20, 21, 30, 31].iter().all(|id| all[id] == 30), "{all:?}");
        assert!(
            preferred.values().all(|count| (10..=15).contains(count)),
            "{preferred:?}"
        );
        // The same again changes nothing.
        let mut placing = Placing::new(racks(), after.iter().map(Vec::as_slice));
        assert!(
            after
                .iter()
                .all(|replicas| placing.resized(replicas, 3).unwrap() == *replicas)
        );
    }

    #[test]
    fn fewer_replicas_keep_the_leader_and_the_racks() {
        let mut placing = Placing::new(racks(), []);
        assert_eq!(placing.resized(&[10, 11, 20, 30], 3).unwrap(), [10, 20, 30]);
        assert_eq!(placing.resized(&[20, 10, 21], 2).unwrap(), [20, 10]);
        assert_eq!(placing.resized(&[30, 20, 10], 1).unwrap(), [30]);
        // Broker 99 takes no replicas.
        assert_eq!(placing.resized(&[10, 99, 20], 2).unwrap(), [10, 20]);
    }

    #[test]
    fn a_broker_that_leaves_is_replaced_in_its_rack_and_in_its_place() {
        let staying = racks().into_iter().filter(|(id, _)| *id != 21);
        let partitions: [&[i32]; 3] = [&[21, 10, 30], &[10, 21, 31], &[11, 20]];
        let mut placing = Placing::new(staying.clone(), partitions);
        assert_eq!(placing.without(&[21, 10, 30], 21).unwrap(), [20, 10, 30]);
        assert_eq!(placing.without(&[10, 21, 31], 21).unwrap(), [10, 20, 31]);
        let all = [10, 11, 20, 21, 30, 31];
        let refused = placing.without(&all, 21).unwrap_err().to_string();
        assert!(refused.contains("no other broker"), "{refused}");
        let refused = placing.resized(&[10], 6).unwrap_err().to_string();
        assert!(refused.contains("and there are 5"), "{refused}");
    }
}

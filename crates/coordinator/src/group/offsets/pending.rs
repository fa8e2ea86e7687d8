//! Offsets of open transactions, kept until the marker commits or drops them.

use std::collections::BTreeMap;

use super::committed::{Committed, Place};

type Owned = (String, String, i32);

/// The pending offsets, ordered by group, topic and partition, then by the producer whose transaction is open.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pending {
    places: BTreeMap<Owned, BTreeMap<i64, Committed>>,
}

fn owned(place: Place<'_>) -> Owned {
    (place.0.to_owned(), place.1.to_owned(), place.2)
}

impl Pending {
    pub fn put(&mut self, producer_id: i64, place: Place<'_>, committed: Committed) {
        let producers = self.places.entry(owned(place)).or_default();
        producers.insert(producer_id, committed);
    }

    pub fn contains(&self, place: Place<'_>) -> bool {
        !self.places.is_empty() && self.places.contains_key(&owned(place))
    }

    pub fn remove(&mut self, place: Place<'_>) {
        if !self.places.is_empty() {
            self.places.remove(&owned(place));
        }
    }

    /// The (topic, partition) pairs of a group with a pending offset.
    pub fn of_group<'a>(&'a self, group_id: &'a str) -> impl Iterator<Item = (&'a str, i32)> {
        let first = (group_id.to_owned(), String::new(), i32::MIN);
        self.places
            .range(first..)
            .take_while(move |((group, _, _), _)| group == group_id)
            .map(|((_, topic, partition), _)| (topic.as_str(), *partition))
    }

    /// The (group, partition) pairs of a topic with their pending offsets.
    pub fn of_topic<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = ((String, i32), &'a Committed)> {
        let places = self.places.iter();
        let places = places.filter(move |((_, topic, _), _)| topic == name);
        places.flat_map(|((group, _, partition), producers)| {
            producers
                .values()
                .map(|committed| ((group.clone(), *partition), committed))
        })
    }

    /// Removes and returns the offsets of a producer's transaction.
    pub fn take(&mut self, producer_id: i64) -> Vec<(Owned, Committed)> {
        let mut taken = Vec::new();
        self.places.retain(|place, producers| {
            if let Some(committed) = producers.remove(&producer_id) {
                taken.push((place.clone(), committed));
            }
            !producers.is_empty()
        });
        taken
    }
}

//! What placement guarantees for any cluster and any start.

use std::collections::{BTreeMap, BTreeSet};

use ottla_metadata::{BrokerRegistration, MetadataDelta, MetadataImage};
use ottla_protocol::ids::{NodeId, Uuid};

use super::{InvalidReplicationFactor, Replicas, place};

fn broker(id: i32, rack: &str) -> BrokerRegistration {
    BrokerRegistration {
        id: NodeId(id),
        rack: (!rack.is_empty()).then(|| rack.to_owned()),
        directories: vec![Uuid::from_parts(5, u64::try_from(id).unwrap())],
        ..BrokerRegistration::default()
    }
}

fn image(brokers: &[BrokerRegistration]) -> MetadataImage {
    let mut delta = MetadataDelta::new(MetadataImage::default());
    for broker in brokers {
        delta.replay(&broker.to_record().into());
    }
    delta.finish().0
}

/// Nine brokers in three racks: 10, 11, 12 in a, 20 to 22 in b, 30 to 32 in c.
fn nine() -> Vec<BrokerRegistration> {
    let racks = [(10, "a"), (20, "b"), (30, "c")];
    let ids = racks
        .iter()
        .flat_map(|(first, rack)| (0..3).map(move |it| (first + it, *rack)));
    ids.map(|(id, rack)| broker(id, rack)).collect()
}

fn racks(replicas: &Replicas) -> BTreeSet<i32> {
    replicas.iter().map(|id| id.0 / 10).collect()
}

#[test]
fn racks_and_their_brokers_take_turns() {
    let placed = place(&image(&nine()), 4, 3, 0).unwrap();
    let expected = [[10, 21, 32], [20, 31, 12], [30, 11, 22], [11, 22, 30]];
    assert_eq!(placed, expected.map(|ids| ids.map(NodeId).to_vec()));
}

#[test]
fn every_partition_has_distinct_brokers_in_as_many_racks_as_there_are() {
    let mut brokers = nine();
    brokers.push(broker(40, "d"));
    let image = image(&brokers);
    for start in 0..40 {
        for factor in 1..=10_i16 {
            for replicas in place(&image, 30, factor, start).unwrap() {
                let wanted = usize::try_from(factor).unwrap();
                let distinct: BTreeSet<&NodeId> = replicas.iter().collect();
                assert_eq!((replicas.len(), distinct.len()), (wanted, wanted));
                assert_eq!(racks(&replicas).len(), wanted.min(4), "{replicas:?}");
            }
        }
    }
}

#[test]
fn leaders_and_replicas_are_spread_evenly() {
    let image = image(&nine());
    for start in 0..9 {
        let mut leaders = BTreeMap::new();
        let mut all = BTreeMap::new();
        for replicas in place(&image, 90, 3, start).unwrap() {
            *leaders.entry(replicas[0]).or_insert(0) += 1;
            for replica in replicas {
                *all.entry(replica).or_insert(0) += 1;
            }
        }
        assert!(leaders.values().all(|count| *count == 10), "{leaders:?}");
        assert!(all.values().all(|count| *count == 30), "{all:?}");
    }
}

#[test]
fn partitions_of_different_turns_do_not_share_all_brokers() {
    let placed = place(&image(&nine()), 90, 3, 0).unwrap();
    let sets: BTreeSet<BTreeSet<NodeId>> = placed
        .into_iter()
        .map(|replicas| replicas.into_iter().collect())
        .collect();
    assert!(sets.len() > 9, "only {} sets", sets.len());
}

#[test]
fn a_fenced_broker_never_leads_and_comes_after_the_active_ones_of_its_rack() {
    let mut brokers = nine();
    for fenced in brokers
        .iter_mut()
        .filter(|broker| [10, 20, 21, 22].contains(&broker.id.0))
    {
        fenced.fenced = true;
    }
    let image = image(&brokers);
    for start in 0..9 {
        for replicas in place(&image, 30, 3, start).unwrap() {
            assert!(![10, 20, 21, 22].contains(&replicas[0].0), "{replicas:?}");
            assert!(!replicas.contains(&NodeId(10)), "{replicas:?}");
            assert_eq!(racks(&replicas).len(), 3, "a rack counts more than a fence");
        }
    }
}

#[test]
fn brokers_that_stop_or_are_cordoned_get_no_replicas() {
    let mut brokers = vec![broker(1, ""), broker(2, ""), broker(3, "")];
    brokers[0].in_controlled_shutdown = true;
    brokers[1].cordoned_directories = Some(brokers[1].directories.clone());
    let image_of = |brokers: &[BrokerRegistration]| image(brokers);
    let placed = place(&image_of(&brokers), 4, 1, 0).unwrap();
    assert!(placed.iter().all(|replicas| replicas == &[NodeId(3)]));
    let (wanted, usable) = (2, 1);
    let refused = place(&image_of(&brokers), 1, 2, 0);
    let expected = InvalidReplicationFactor::TooFewBrokers { wanted, usable };
    assert_eq!(refused, Err(expected));
    brokers[2].fenced = true;
    let refused = place(&image_of(&brokers), 1, 1, 0);
    assert_eq!(
        refused,
        Err(InvalidReplicationFactor::NoActiveBroker { wanted: 1 })
    );
}

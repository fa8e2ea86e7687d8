//! What is unsafe about the voters of the metadata quorum. It is no problem of today: `--wait` does not wait for it.

use std::collections::BTreeMap;

use super::View;

/// The sentences, none if the loss of any one node or rack leaves a majority.
pub fn warnings(view: &View) -> Vec<String> {
    let voters = view.quorum.iter().flat_map(|quorum| &quorum.voters);
    let voters: Vec<i32> = voters.map(|voter| voter.id).collect();
    let brokers = view.brokers.iter();
    let racks = brokers.filter_map(|broker| Some((broker.node.id, broker.node.rack.as_deref()?)));
    sentences(&voters, &racks.collect())
}

fn sentences(voters: &[i32], racks: &BTreeMap<i32, &str>) -> Vec<String> {
    let two = (voters.len() == 2).then(|| {
        "two controllers vote, which is less safe than one: without either of them metadata cannot be changed; add a third"
            .to_owned()
    });
    let mut by_rack = BTreeMap::<&str, usize>::new();
    for rack in voters.iter().filter_map(|voter| racks.get(voter)) {
        *by_rack.entry(rack).or_default() += 1;
    }
    let majority = voters.len() / 2 + 1;
    let crowded = by_rack.into_iter().find(|(_, here)| *here >= majority);
    let crowded = crowded.filter(|_| voters.len() > 2).map(|(rack, here)| {
        format!(
            "{here} of {} voting controllers are in rack {rack}: without that rack metadata cannot be changed",
            voters.len()
        )
    });
    two.into_iter().chain(crowded).collect()
}

#[cfg(test)]
mod tests {
    use super::sentences;

    #[test]
    fn two_voters_and_a_majority_in_one_rack_are_told() {
        let racks = [(1, "a"), (2, "b"), (3, "a")].into();
        assert!(sentences(&[1], &racks).is_empty());
        assert!(sentences(&[1, 2], &racks)[0].contains("two controllers vote"));
        let three = sentences(&[1, 2, 3], &racks);
        assert!(three[0].contains("2 of 3 voting controllers are in rack a"));
        assert!(sentences(&[1, 2, 4], &racks).is_empty());
    }
}

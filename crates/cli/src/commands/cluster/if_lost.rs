//! What the loss of each node would mean, as the cluster is now.

use std::collections::BTreeSet;

use super::View;

/// What the loss of a node would mean.
#[derive(Debug, PartialEq, Eq)]
pub struct IfLost {
    pub node: i32,
    /// Partitions without another replica in sync: they would have no leader.
    pub leaderless: usize,
    /// Whether the controllers that are left could not change metadata.
    pub stops_metadata: bool,
}

impl IfLost {
    pub fn text(&self) -> String {
        let mut meanings = Vec::new();
        match self.leaderless {
            0 => {}
            1 => meanings.push("1 partition would have no leader".to_owned()),
            count => meanings.push(format!("{count} partitions would have no leader")),
        }
        if self.stops_metadata {
            meanings.push("metadata could not be changed".to_owned());
        }
        if meanings.is_empty() {
            meanings.push("every partition would have a leader".to_owned());
        }
        format!("without node {}: {}", self.node, meanings.join(", "))
    }
}

/// The nodes that are up, and those that vote.
pub fn all(view: &View) -> Vec<IfLost> {
    let isrs: Vec<&[i32]> = view
        .metadata
        .topics
        .values()
        .flat_map(|topic| topic.partitions.values())
        .map(|partition| partition.isr.as_slice())
        .collect();
    let quorum = view.quorum.as_ref();
    let voters: Vec<i32> = quorum.map_or_else(Vec::new, |quorum| {
        quorum.voters.iter().map(|voter| voter.id).collect()
    });
    let up = view.brokers.iter().filter(|broker| !broker.is_fenced);
    let nodes: BTreeSet<i32> = up.map(|broker| broker.node.id).collect();
    meanings(nodes, &isrs, &voters)
}

fn meanings(mut nodes: BTreeSet<i32>, isrs: &[&[i32]], voters: &[i32]) -> Vec<IfLost> {
    let brokers = nodes.clone();
    nodes.extend(voters);
    let majority = voters.len() / 2 + 1;
    let one = |node: i32| {
        let is_gone = |id: &i32| *id == node || !brokers.contains(id);
        let is_led = |isr: &[i32]| !isr.is_empty() && isr.contains(&node);
        IfLost {
            node,
            leaderless: isrs
                .iter()
                .filter(|isr| is_led(isr) && isr.iter().all(is_gone))
                .count(),
            stops_metadata: voters.contains(&node) && voters.len() - 1 < majority,
        }
    };
    nodes.iter().copied().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::meanings;

    #[test]
    fn a_node_is_missed_where_it_is_the_last_in_sync_or_half_of_the_voters() {
        let isrs: [&[i32]; 4] = [&[1], &[1, 2], &[2, 9], &[3, 1, 2]];
        let texts = |voters: &[i32]| {
            let all = meanings([1, 2, 3].into(), &isrs, voters);
            all.iter().map(super::IfLost::text).collect::<Vec<_>>()
        };
        assert_eq!(
            texts(&[1]),
            [
                "without node 1: 1 partition would have no leader, metadata could not be changed",
                // Broker 9 is not up.
                "without node 2: 1 partition would have no leader",
                "without node 3: every partition would have a leader",
            ]
        );
        let three = texts(&[1, 2, 100]);
        assert_eq!(three[0], "without node 1: 1 partition would have no leader");
        assert_eq!(
            three[3],
            "without node 100: every partition would have a leader"
        );
        assert!(texts(&[1, 2])[1].contains("metadata could not be changed"));
    }
}

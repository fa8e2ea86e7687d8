//! What is unsafe about the voters of the metadata quorum, in sentences: two of them, or a majority in one rack.
//!
//! The rack of a voter is that of the broker with the same node id. A controller that is no broker has none.

use std::collections::BTreeMap;

use ottla_metadata::MetadataImage;
use ottla_protocol::ids::NodeId;
use ottla_quorum::Voter;

/// What is unsafe; nothing if the loss of any one node or rack leaves a majority. A voter alone is no news to anybody.
pub fn of(voters: &[Voter], image: &MetadataImage) -> Vec<String> {
    let nodes: Vec<NodeId> = voters.iter().map(|voter| voter.node_id).collect();
    let two = (nodes.len() == 2).then(|| {
        format!(
            "controllers {} are the only voters: without either of them metadata cannot be changed, which is less safe than \
             one voter; add a third, for example with ottla serve --join",
            names(&nodes)
        )
    });
    let in_one_rack = crowded(&nodes, image).map(|(rack, here)| {
        format!(
            "a majority of the voters, {} of {}, is in rack {rack}: without that rack metadata cannot be changed; have \
             controllers in more racks (key broker.rack)",
            names(&here),
            names(&nodes)
        )
    });
    two.into_iter().chain(in_one_rack).collect()
}

/// The rack of a majority of three or more voters, and which these are.
fn crowded<'a>(voters: &[NodeId], image: &'a MetadataImage) -> Option<(&'a String, Vec<NodeId>)> {
    let mut racks = BTreeMap::<&String, Vec<NodeId>>::new();
    for voter in voters {
        if let Some(rack) = image.brokers.get(voter).and_then(|it| it.rack.as_ref()) {
            racks.entry(rack).or_default().push(*voter);
        }
    }
    let majority = voters.len() / 2 + 1;
    let mut racks = racks.into_iter();
    racks.find(|(_, here)| voters.len() > 2 && here.len() >= majority)
}

fn names(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::of;
    use ottla_metadata::{BrokerRegistration, MetadataImage};
    use ottla_protocol::ids::{NodeId, Uuid};
    use ottla_quorum::Voter;

    fn voters(nodes: &[i32]) -> Vec<Voter> {
        let voter = |node: &i32| Voter {
            node_id: NodeId(*node),
            directory_id: Uuid::from_parts(1, 1),
            endpoints: Vec::new(),
        };
        nodes.iter().map(voter).collect()
    }

    fn racks(of: &[(i32, &str)]) -> MetadataImage {
        let mut image = MetadataImage::default();
        for (node, rack) in of {
            let registered = BrokerRegistration {
                id: NodeId(*node),
                epoch: 0,
                incarnation: Uuid::ZERO,
                endpoints: Vec::new(),
                features: Vec::new(),
                rack: Some((*rack).to_owned()),
                fenced: false,
                in_controlled_shutdown: false,
                directories: Vec::new(),
                cordoned_directories: None,
            };
            image.brokers.insert(NodeId(*node), registered.into());
        }
        image
    }

    #[test]
    fn two_voters_are_a_concern_and_one_or_three_are_none() {
        let none = MetadataImage::default();
        assert!(of(&voters(&[1]), &none).is_empty());
        assert!(of(&voters(&[1, 2, 3]), &none).is_empty());
        let two = of(&voters(&[1, 2]), &none);
        assert!(two[0].contains("controllers 1, 2 are the only voters"));
        assert_eq!(two.len(), 1);
    }

    #[test]
    fn a_majority_in_one_rack_is_a_concern() {
        let three = voters(&[1, 2, 3]);
        let apart = racks(&[(1, "a"), (2, "b"), (3, "c")]);
        assert!(of(&three, &apart).is_empty());
        let together = racks(&[(1, "a"), (2, "b"), (3, "a")]);
        let concerns = of(&three, &together);
        assert!(
            concerns[0].contains("1, 3 of 1, 2, 3, is in rack a"),
            "{concerns:?}"
        );
        let four = racks(&[(1, "a"), (2, "a"), (3, "b"), (4, "b")]);
        assert!(
            of(&voters(&[1, 2, 3, 4]), &four).is_empty(),
            "half is no majority"
        );
    }
}

//! Counts the elections of partition leaders while the active controller is in this process.

use std::sync::atomic::{AtomicU64, Ordering};

use ottla_metadata::{Changes, MetadataImage};
use ottla_protocol::ids::NodeId;

/// The elections since the start of the process.
#[derive(Debug, Default)]
pub struct Elections {
    clean: AtomicU64,
    unclean: AtomicU64,
}

impl Elections {
    /// Counts the elections that lie between two images, which differ by `changes`.
    pub fn count(&self, (last, image): (&MetadataImage, &MetadataImage), changes: &Changes) {
        for (topic, index) in &changes.partitions {
            let before = last.partition(*topic, *index);
            let (Some(before), Some(now)) = (before, image.partition(*topic, *index)) else {
                continue;
            };
            if is_election(before.leader, now.leader) {
                let counter = if now.recovering {
                    &self.unclean
                } else {
                    &self.clean
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Those that lost nothing, and those that may have.
    pub fn counted(&self) -> (u64, u64) {
        (
            self.clean.load(Ordering::Relaxed),
            self.unclean.load(Ordering::Relaxed),
        )
    }
}

/// Whether a partition has another leader than before.
fn is_election(before: Option<NodeId>, now: Option<NodeId>) -> bool {
    now.is_some() && now != before
}

#[cfg(test)]
mod tests {
    use super::is_election;
    use ottla_protocol::ids::NodeId;

    #[test]
    fn only_another_leader_is_an_election() {
        let (one, two) = (Some(NodeId(1)), Some(NodeId(2)));
        assert!(is_election(one, two));
        assert!(is_election(None, two));
        assert!(!is_election(two, two));
        assert!(!is_election(two, None));
    }
}

//! Says in words what the records of a topic survive, counted from its configs and from where its replicas are. Pure.

use std::collections::BTreeMap;

use crate::writers::Writer;

/// Upper bound of the clients that are named.
const SHOWN: usize = 5;

/// What decides about the durability of a topic.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The racks of the replicas of each partition; `None` where a broker has none.
    pub racks: Vec<Vec<Option<String>>>,
    /// `min.insync.replicas`.
    pub min_in_sync: usize,
    /// Whether a record is on stable storage before it is acknowledged.
    pub is_flushed: bool,
    /// `unclean.leader.election.enable`.
    pub is_unclean_allowed: bool,
    /// The clients that were seen to write without waiting for the replicas.
    pub writers: Vec<Writer>,
}

impl Facts {
    /// The number of replicas of the partition that has the fewest.
    fn replicas(&self) -> usize {
        self.racks.iter().map(Vec::len).min().unwrap_or(0)
    }

    /// The replicas that have a record for certain when it is acknowledged with acks=all.
    fn kept(&self) -> usize {
        self.min_in_sync.clamp(1, self.replicas().max(1))
    }

    /// Whether those replicas are never all in one rack.
    fn is_spread(&self) -> bool {
        self.racks.iter().all(|racks| {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for rack in racks {
                let Some(rack) = rack else {
                    return false;
                };
                *counts.entry(rack).or_default() += 1;
            }
            counts.values().all(|count| *count < self.kept())
        })
    }

    /// The sentences.
    pub fn text(&self) -> String {
        let (stored, power_cut) = if self.is_flushed {
            ("on the disks", "a power cut of all nodes loses nothing")
        } else {
            ("in the page caches", "a power cut of all nodes can lose it")
        };
        let unclean = if self.is_unclean_allowed {
            "; an unclean election may lose it, because unclean.leader.election.enable is true"
        } else {
            ""
        };
        format!(
            "an acks=all record is {stored} of {} of {} replicas{}; {power_cut}; such writes {}{unclean}; an acks=1 record \
             can be lost with one node{}",
            self.kept(),
            self.replicas(),
            self.survives(),
            self.goes_on(),
            self.weak_writes(),
        )
    }

    /// What the clients that do not wait for the replicas risk.
    fn weak_writes(&self) -> String {
        let node = if self.replicas() == 1 {
            "with its node"
        } else {
            "with any node"
        };
        let one = |writer: &Writer| {
            let client = match writer.client_id.as_str() {
                "" => "a client without an id".to_owned(),
                id => format!("client `{id}`"),
            };
            let silent = if writer.acks == 0 {
                ", and it is not told which of them are refused"
            } else {
                ""
            };
            format!(
                "; {client} writes with acks={}: those records can be lost {node}{silent}",
                writer.acks
            )
        };
        let shown: String = self.writers.iter().take(SHOWN).map(one).collect();
        match self.writers.len().saturating_sub(SHOWN) {
            0 => shown,
            more => format!("{shown}; {more} more clients write so"),
        }
    }

    fn survives(&self) -> String {
        match self.kept() - 1 {
            0 => ": losing one node or disk can lose it".to_owned(),
            lost => {
                let rack = if self.is_spread() {
                    ", or of one rack"
                } else {
                    ""
                };
                format!(
                    " and survives the loss of any {}{rack}",
                    count(lost, "node or disk")
                )
            }
        }
    }

    fn goes_on(&self) -> String {
        match self.replicas().saturating_sub(self.kept()) {
            0 => "stop with any one of its nodes".to_owned(),
            spare => format!("go on without any {}", count(spare, "node")),
        }
    }
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("one {what}"),
        _ => format!("{number} of its nodes"),
    }
}

#[cfg(test)]
mod tests {
    use super::Facts;
    use crate::writers::Writer;

    fn facts(racks: &[&str], min_in_sync: usize) -> Facts {
        let rack = |rack: &&str| (!rack.is_empty()).then(|| (*rack).to_owned());
        Facts {
            racks: vec![racks.iter().map(rack).collect()],
            min_in_sync,
            is_flushed: true,
            is_unclean_allowed: false,
            writers: Vec::new(),
        }
    }

    #[test]
    fn clients_that_do_not_wait_are_named() {
        let writer = |(client_id, acks): (&str, i64)| Writer {
            client_id: client_id.to_owned(),
            acks,
            last_ms: 0,
        };
        let told = |facts: Facts, writers: &[(&str, i64)]| {
            let writers = writers.iter().copied().map(writer).collect();
            Facts { writers, ..facts }.text()
        };
        let text = told(facts(&["a", "b", "c"], 2), &[("billing", 1)]);
        let billing =
            "; client `billing` writes with acks=1: those records can be lost with any node";
        assert!(text.ends_with(billing), "{text}");
        let text = told(facts(&[""], 1), &[("", 0)]);
        let silent = "; a client without an id writes with acks=0: those records can be lost with its node, and it is not told \
                      which of them are refused";
        assert!(text.ends_with(silent), "{text}");
        let text = told(facts(&["a", "b"], 1), &[("x", 1); 7]);
        assert!(text.ends_with("; 2 more clients write so"), "{text}");
    }

    #[test]
    fn what_a_topic_survives_is_counted() {
        let text = facts(&["a", "b", "c"], 2).text();
        assert_eq!(
            text,
            "an acks=all record is on the disks of 2 of 3 replicas and survives the loss of any one node or disk, or of one \
             rack; a power cut of all nodes loses nothing; such writes go on without any one node; an acks=1 record can be \
             lost with one node"
        );
        let one = facts(&[""], 1).text();
        assert!(
            one.contains("1 of 1 replicas: losing one node or disk can lose it"),
            "{one}"
        );
        assert!(one.contains("stop with any one of its nodes"), "{one}");
        assert!(
            facts(&["a", "b", "c"], 3)
                .text()
                .contains("any 2 of its nodes, or of one rack")
        );
        assert!(
            facts(&["a", "b", "c"], 1)
                .text()
                .contains("go on without any 2 of its nodes")
        );
    }

    #[test]
    fn racks_count_only_if_the_replicas_in_sync_cannot_be_in_one() {
        assert!(!facts(&["a", "a", "b"], 2).text().contains("rack"));
        assert!(facts(&["a", "a", "b"], 3).text().contains("or of one rack"));
        assert!(!facts(&["a", "b", ""], 2).text().contains("rack"));
        let mut two = facts(&["a", "b", "c"], 2);
        two.racks
            .push(vec![Some("a".to_owned()), Some("a".to_owned()), None]);
        assert!(!two.text().contains("rack"));
    }

    #[test]
    fn page_caches_and_unclean_elections_are_told() {
        let mut weak = facts(&["a", "b", "c"], 5);
        weak.is_flushed = false;
        weak.is_unclean_allowed = true;
        let text = weak.text();
        assert!(
            text.contains("in the page caches of 3 of 3 replicas"),
            "{text}"
        );
        assert!(
            text.contains("a power cut of all nodes can lose it"),
            "{text}"
        );
        assert!(text.contains("an unclean election may lose it"), "{text}");
    }
}

//! In the broker, threads and tasks are started where the map says: by drivers, the network and the start.

use super::exceptions::{self, SPAWNS};
use super::source::Tree;

const STARTS: &[&str] = &["thread::Builder::new()", "tokio::spawn(", ".spawn("];
const PLACES: &[&str] = &[
    "crates/broker/src/drivers",
    "crates/broker/src/network",
    "crates/broker/src/start",
];

pub fn check(tree: &Tree) -> Vec<String> {
    let of_broker = tree.sources.iter().filter(|source| {
        source.path.starts_with("crates/broker/src/")
            && !source.is_tests()
            && !PLACES.iter().any(|place| source.path.starts_with(place))
    });
    let found = of_broker.filter_map(|source| {
        let starts = |line: &str| STARTS.iter().any(|word| line.contains(word));
        let count = source.code().filter(|(_, line)| starts(line)).count();
        (count > 0).then(|| (source.path.clone(), count))
    });
    exceptions::judge(SPAWNS, found, |place, _| {
        format!("{place} starts a thread or a task; that belongs into drivers/, network/ or start/")
    })
}

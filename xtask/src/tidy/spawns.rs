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

#[cfg(test)]
mod tests {
    use super::{STARTS, check};
    use crate::tidy::source::{Source, Tree};

    fn problems(path: &str, text: &str) -> usize {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let tree = Tree {
            sources: vec![source],
            documents: Vec::new(),
            manifests: Vec::new(),
        };
        let found = check(&tree);
        found.iter().filter(|it| it.starts_with(path)).count()
    }

    #[test]
    fn a_spawn_outside_of_its_places_is_found() {
        for start in STARTS {
            assert_eq!(
                problems("crates/broker/src/access/x.rs", start),
                1,
                "{start}"
            );
            assert_eq!(
                problems("crates/broker/src/drivers/x.rs", start),
                0,
                "{start}"
            );
        }
    }
}

//! Each numbered assumption about the disk in `docs/formats.md` must be named by the code that relies on it, and code must
//! not name others.

use std::collections::BTreeSet;

use super::source::Tree;

const DOCUMENT: &str = "docs/formats.md";

pub fn check(tree: &Tree) -> Vec<String> {
    let Some((_, text)) = tree.documents.iter().find(|(path, _)| path == DOCUMENT) else {
        return vec![format!("{DOCUMENT} is missing")];
    };
    let stated = stated(text);
    let named = tree
        .sources
        .iter()
        .filter(|source| source.path.starts_with("crates/"));
    let named: BTreeSet<u32> = named.flat_map(|source| named_in(&source.text)).collect();
    let unused = stated.difference(&named).map(|number| {
        format!(
            "no code names assumption {number} of {DOCUMENT}; name it where the code relies on it"
        )
    });
    let unknown = named
        .difference(&stated)
        .map(|number| format!("code names assumption {number}, and {DOCUMENT} has none"));
    unused.chain(unknown).collect()
}

/// The numbers of the list items whose text begins in bold.
fn stated(text: &str) -> BTreeSet<u32> {
    let items = text.lines().filter_map(|line| line.split_once(". **"));
    let numbers = items.filter_map(|(number, _)| number.parse().ok());
    numbers.collect()
}

/// The numbers after the word, as in "assumption 3" or "assumptions 1, 2 and 7".
fn named_in(text: &str) -> BTreeSet<u32> {
    let mut numbers = BTreeSet::new();
    let words = text.split_whitespace();
    let mut words = words.filter(|word| !word.starts_with("//"));
    while let Some(word) = words.next() {
        let word = word.trim_start_matches('(').to_lowercase();
        if word != "assumption" && word != "assumptions" {
            continue;
        }
        for next in words.by_ref() {
            let number = next.trim_end_matches(|letter: char| !letter.is_ascii_digit());
            match number.parse() {
                Ok(number) => _ = numbers.insert(number),
                Err(_) if next == "and" => {}
                Err(_) => break,
            }
            if next.ends_with(['.', ')', ':', ';']) {
                break;
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::{named_in, stated};

    #[test]
    fn numbers_are_read_from_both_sides() {
        let text = "1. **A sync is final.** So\n2. **Torn.**\n3. a step\n";
        assert_eq!(stated(text).into_iter().collect::<Vec<_>>(), [1, 2]);
        let code = "//! as (assumptions 1, 2\n//! and 7 of `docs/formats.md`): 9\n/// order: assumption 8.\n";
        assert_eq!(named_in(code).into_iter().collect::<Vec<_>>(), [1, 2, 7, 8]);
        assert!(named_in("an assumption of 5").is_empty());
    }
}

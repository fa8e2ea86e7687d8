//! Names of the schemas in the styles of Rust and JSON.

/// `PartitionRecord` to `partition_record`.
pub fn snake(name: &str) -> String {
    let mut out = String::new();
    for (at, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && at > 0 {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

/// `PartitionId` to `partitionId`.
pub fn camel(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// The texts of all items, one after another.
pub fn each<T>(items: &[T], render: impl Fn(&T) -> String) -> String {
    items.iter().map(render).collect()
}

/// Whether `text` contains `word` as a whole word.
pub fn mentions(text: &str, word: &str) -> bool {
    let in_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(in_word) && !after.is_some_and(in_word)
    })
}

#[cfg(test)]
mod tests {
    use super::{camel, mentions, snake};

    #[test]
    fn names_are_split_at_capitals() {
        assert_eq!(snake("KRaftVersion"), "k_raft_version");
        assert_eq!(camel("PartitionId"), "partitionId");
    }

    #[test]
    fn a_part_of_a_word_is_not_mentioned() {
        assert!(mentions("Vec<Bytes>", "Bytes"));
        assert!(!mentions("BytesMut, min_bytes", "Bytes"));
        assert!(!mentions("self.version_of", "version"));
    }
}

//! Which partition of a coordinator's topic owns a group id (or, later, a transactional id).

/// Java's `String.hashCode`: over UTF-16 code units, wrapping.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// The partition that owns `id` among `count` of them (at least one).
///
/// The hash is made non-negative as Kafka does: the lowest integer, which has no positive twin, becomes 0.
pub fn partition_for(id: &str, count: i32) -> i32 {
    assert!(count > 0, "a coordinator's topic has partitions");
    java_hash(id).checked_abs().unwrap_or(0) % count
}

#[cfg(test)]
mod tests {
    use super::{java_hash, partition_for};

    #[test]
    fn hash_is_that_of_java() {
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("abc"), 96354);
        assert_eq!(java_hash("polygenelubricants"), i32::MIN);
    }

    #[test]
    fn hash_runs_over_utf_16() {
        // Two code units: U+D83D U+DE00.
        assert_eq!(java_hash("\u{1F600}"), 0xD83D * 31 + 0xDE00);
    }

    #[test]
    fn lowest_hash_falls_on_the_first_partition() {
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        assert_eq!(partition_for("abc", 50), 4);
    }
}

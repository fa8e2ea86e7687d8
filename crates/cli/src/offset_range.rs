//! The range of a partition's offsets, and the nearest offset in it.

use std::cmp::Ordering;

use ottla_client::TopicPartition;

/// From the first offset to the end, which is the offset of the next record.
#[derive(Debug, Clone, Copy)]
pub struct OffsetRange {
    /// The first offset.
    pub start: i64,
    /// The offset after the last record.
    pub end: i64,
}

impl OffsetRange {
    /// The offset, or the nearest one in the range.
    pub fn nearest(self, offset: i64) -> i64 {
        // When records are deleted between the two requests, the start can be larger than the end.
        offset.clamp(self.start, self.end.max(self.start))
    }

    /// Why an offset is replaced by the nearest; `None` when it is in the range.
    pub fn why_moved(self, partition: &TopicPartition, offset: i64) -> Option<String> {
        let nearest = self.nearest(offset);
        match nearest.cmp(&offset) {
            Ordering::Greater => Some(format!("{partition} begins at {nearest}, after {offset}")),
            Ordering::Less => Some(format!("{partition} ends at {nearest}, before {offset}")),
            Ordering::Equal => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OffsetRange;
    use ottla_client::TopicPartition;

    #[test]
    fn what_is_outside_moves_to_the_nearest_end_and_says_so() {
        let partition = TopicPartition::new("t", 0);
        let range = OffsetRange { start: 2, end: 5 };
        for (wanted, nearest, why) in [
            (0, 2, Some("t-0 begins at 2, after 0")),
            (2, 2, None),
            (5, 5, None),
            (6, 5, Some("t-0 ends at 5, before 6")),
        ] {
            assert_eq!(range.nearest(wanted), nearest);
            assert_eq!(range.why_moved(&partition, wanted).as_deref(), why);
        }
        let crossed = OffsetRange { start: 7, end: 5 };
        assert_eq!(crossed.nearest(6), 7);
    }
}

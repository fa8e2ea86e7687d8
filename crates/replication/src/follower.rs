//! Where the logs of a leader and of a follower diverge, by leader epochs (KIP-101, KIP-595).

use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::planted::{Bug, is_planted};

/// The end of an epoch in a log: the largest epoch of the log that is not above the requested one, and the offset after
/// its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    pub epoch: LeaderEpoch,
    /// The offset after its last record.
    pub end: Offset,
}

/// The leader's check of a fetch from `offset` by a reader whose last record has `epoch`: where the logs diverge, if
/// they do. `of_epoch` is the end of that epoch in the leader's log.
pub fn divergence(of_epoch: EpochEnd, epoch: LeaderEpoch, offset: Offset) -> Option<EpochEnd> {
    let diverges = of_epoch.epoch < epoch || of_epoch.end < offset;
    diverges.then_some(of_epoch)
}

/// What a follower does about a divergence that its leader reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation {
    /// The new end of its log.
    pub to: Offset,
    /// If records below the high watermark are removed, the first of their offsets. Consumers may have read them, and
    /// they are lost unless the leader has the same.
    pub below_high_watermark: Option<Offset>,
}

/// The truncation of a follower. `own` is the end of the diverging epoch in the follower's log; `None` if it has no
/// record of that epoch or an earlier one.
///
/// If the follower has no record of the diverging epoch itself, only its records of later epochs are removed. The next
/// fetch finds out about the earlier ones. If it knows no such epoch at all, the leader's end of the epoch counts.
pub fn truncation(
    diverging: EpochEnd,
    own: Option<EpochEnd>,
    log_start: Offset,
    high_watermark: Offset,
) -> Truncation {
    let to = match own {
        Some(own) if is_planted(Bug::DivergingEndKept) => own.end,
        Some(own) if own.epoch == diverging.epoch => own.end.min(diverging.end),
        Some(own) => own.end,
        None => diverging.end,
    };
    let to = if is_planted(Bug::TruncatedBelowHighWatermark) {
        Offset(to.min(high_watermark).0 - 1)
    } else {
        to
    };
    let to = to.max(log_start);
    Truncation {
        to,
        below_high_watermark: (to < high_watermark).then_some(to),
    }
}

#[cfg(test)]
mod tests {
    use super::{EpochEnd, divergence, truncation};
    use ottla_protocol::ids::{LeaderEpoch, Offset};

    fn end(epoch: i32, end: i64) -> EpochEnd {
        EpochEnd {
            epoch: LeaderEpoch(epoch),
            end: Offset(end),
        }
    }

    #[test]
    fn a_reader_within_the_epochs_of_the_leader_does_not_diverge() {
        assert_eq!(divergence(end(3, 10), LeaderEpoch(3), Offset(10)), None);
        assert_eq!(divergence(end(3, 10), LeaderEpoch(3), Offset(4)), None);
        let beyond = divergence(end(3, 10), LeaderEpoch(3), Offset(11));
        assert_eq!(beyond, Some(end(3, 10)), "the leader's epoch ended before");
        let unknown = divergence(end(2, 7), LeaderEpoch(3), Offset(7));
        assert_eq!(unknown, Some(end(2, 7)), "the leader has no such epoch");
    }

    #[test]
    fn a_follower_truncates_to_where_both_have_the_epoch() {
        let to = |diverging, own| truncation(diverging, own, Offset(2), Offset(6)).to.0;
        assert_eq!(to(end(3, 10), Some(end(3, 12))), 10);
        assert_eq!(to(end(3, 10), Some(end(3, 8))), 8);
        assert_eq!(to(end(3, 10), Some(end(1, 7))), 7, "epochs 2 and 3 go");
        assert_eq!(to(end(0, 1), None), 2, "nothing is left");
    }

    #[test]
    fn what_goes_below_the_high_watermark_is_told() {
        let lost = |to| truncation(end(1, to), Some(end(1, 9)), Offset(0), Offset(6));
        assert_eq!(lost(6).below_high_watermark, None);
        assert_eq!(lost(4).below_high_watermark, Some(Offset(4)));
    }
}

//! Exact quantiles: all values are kept and sorted.

use serde_json::{Value, json};

/// The usual quantiles in milliseconds, from nanoseconds.
pub fn of(mut nanoseconds: Vec<u64>) -> Value {
    nanoseconds.sort_unstable();
    json!({
        "count": nanoseconds.len(),
        "p50_ms": milliseconds(quantile(&nanoseconds, 500)),
        "p99_ms": milliseconds(quantile(&nanoseconds, 990)),
        "p999_ms": milliseconds(quantile(&nanoseconds, 999)),
    })
}

/// The smallest value that at least `per_mille` of a thousand do not exceed.
fn quantile(sorted: &[u64], per_mille: usize) -> Option<u64> {
    let rank = (sorted.len() * per_mille).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied()
}

fn milliseconds(nanoseconds: Option<u64>) -> Option<f64> {
    nanoseconds.map(|nanoseconds| nanoseconds as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let sorted: Vec<u64> = (1..=1000).collect();
        assert_eq!(quantile(&sorted, 500), Some(500));
        assert_eq!(quantile(&sorted, 990), Some(990));
        assert_eq!(quantile(&sorted, 999), Some(999));
        assert_eq!(quantile(&[7], 999), Some(7));
        assert_eq!(quantile(&[], 500), None);
    }
}

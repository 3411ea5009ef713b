//! From counts to figures.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Serialize;

/// What a run found. Latencies are milliseconds, processor time microseconds per valid
/// transaction.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) mode: String,
    pub(crate) clients: usize,
    pub(crate) seconds: f64,
    pub(crate) transactions: u64,
    pub(crate) tps: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    /// Longest time without any acknowledgement: commit event, answer to an evaluation, or
    /// orderer's success.
    pub(crate) longest_gap_ms: f64,
    /// Bytes of a whole envelope, where only ordering was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) envelope_bytes: Option<usize>,
    /// Refusals and invalid transactions.
    pub(crate) errors: u64,
    /// Ordered, but never seen in a block.
    pub(crate) lost: u64,
    /// How often each refusal or validation code came.
    pub(crate) error_texts: BTreeMap<String, u64>,
    pub(crate) cpu_us_per_tx: BTreeMap<String, f64>,
    pub(crate) cpu_us_per_tx_total: f64,
}

/// What a run counted.
pub(crate) struct Counted {
    pub(crate) mode: String,
    pub(crate) clients: usize,
    pub(crate) length: Duration,
    pub(crate) done: u64,
    pub(crate) latencies_us: Vec<u32>,
    pub(crate) longest_gap: Duration,
    pub(crate) envelope_bytes: Option<usize>,
    pub(crate) errors: HashMap<String, u64>,
    pub(crate) lost: u64,
    pub(crate) cpu_us: BTreeMap<String, u64>,
}

impl Report {
    pub(crate) fn of(counted: Counted) -> Self {
        let seconds = counted.length.as_secs_f64();
        let per = |us: u64| {
            if counted.done == 0 {
                0.0
            } else {
                us as f64 / counted.done as f64
            }
        };
        let total: u64 = counted.cpu_us.values().sum();
        Self {
            mode: counted.mode,
            clients: counted.clients,
            seconds: tenths(seconds),
            transactions: counted.done,
            tps: if seconds > 0.0 {
                tenths(counted.done as f64 / seconds)
            } else {
                0.0
            },
            p50_ms: percentile_ms(&counted.latencies_us, 50),
            p95_ms: percentile_ms(&counted.latencies_us, 95),
            p99_ms: percentile_ms(&counted.latencies_us, 99),
            longest_gap_ms: tenths(counted.longest_gap.as_secs_f64() * 1_000.0),
            envelope_bytes: counted.envelope_bytes,
            errors: counted.errors.values().sum(),
            lost: counted.lost,
            error_texts: counted.errors.into_iter().collect(),
            cpu_us_per_tx: counted
                .cpu_us
                .iter()
                .map(|(n, us)| (n.clone(), tenths(per(*us))))
                .collect(),
            cpu_us_per_tx_total: tenths(per(total)),
        }
    }

    /// A few lines for a person.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![
            format!(
                "{}, {} clients, {:.1} s",
                self.mode, self.clients, self.seconds
            ),
            format!(
                "  {:>10.1} transactions/s ({} in all)",
                self.tps, self.transactions
            ),
            format!(
                "  {:>10.1} ms p50, {:.1} ms p95, {:.1} ms p99",
                self.p50_ms, self.p95_ms, self.p99_ms
            ),
            format!(
                "  {:>10.1} ms at most without an acknowledgement",
                self.longest_gap_ms
            ),
            format!("  {:>10} errors, {} lost", self.errors, self.lost),
            format!(
                "  {:>10.1} CPU µs per transaction:",
                self.cpu_us_per_tx_total
            ),
        ];
        lines.extend(
            self.cpu_us_per_tx
                .iter()
                .map(|(name, us)| format!("  {us:>10.1}   {name}")),
        );
        lines.extend(
            self.error_texts
                .iter()
                .map(|(text, n)| format!("  {n:>10} × {text}")),
        );
        lines.join("\n")
    }
}

/// The value that `percent` of the sorted values do not exceed; 0 when there are none.
fn percentile_ms(sorted_us: &[u32], percent: usize) -> f64 {
    let rank = (sorted_us.len() * percent).div_ceil(100).max(1) - 1;
    let us = sorted_us.get(rank).copied().unwrap_or(0);
    (f64::from(us) / 10.0).round() / 100.0
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[u32], percent: usize, expected_ms: f64) {
        assert_eq!(
            percentile_ms(values, percent),
            expected_ms,
            "{values:?} {percent}"
        );
    }

    #[test]
    fn percentiles_are_the_nearest_rank() {
        check(&[], 50, 0.0);
        check(&[1_000], 99, 1.0);
        check(&[1_000, 2_000], 50, 1.0);
        check(&[1_000, 2_000, 3_000], 50, 2.0);
        let hundred: Vec<u32> = (1..=100).map(|n| n * 1_000).collect();
        check(&hundred, 95, 95.0);
        check(&hundred, 99, 99.0);
    }

    #[test]
    fn nothing_done_is_no_division_by_zero() {
        let report = Report::of(Counted {
            mode: "open".into(),
            clients: 1,
            length: Duration::ZERO,
            done: 0,
            latencies_us: Vec::new(),
            longest_gap: Duration::from_micros(1_240),
            envelope_bytes: None,
            errors: HashMap::from([("x".into(), 3)]),
            lost: 0,
            cpu_us: BTreeMap::from([("peer".into(), 5)]),
        });
        assert_eq!(
            (report.tps, report.cpu_us_per_tx_total, report.errors),
            (0.0, 0.0, 3)
        );
        assert_eq!(report.longest_gap_ms, 1.2);
    }
}

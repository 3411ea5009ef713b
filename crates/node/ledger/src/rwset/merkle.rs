//! The summary of a long range query: a tree of hashes instead of the results themselves.
//!
//! Results are leaves. Whenever more than `max_degree` entries of a level have gathered, they are
//! hashed together into one entry of the level above. Up to `max_degree` results are kept raw.

use prost::Message;
use selvage_crypto::sha256;
use selvage_proto::kvrwset::{KvRead, QueryReads, QueryReadsMerkleSummary};

/// How many results Fabric keeps before it hashes them. A constant of the wire format.
pub(crate) const MAX_DEGREE: u32 = 50;

/// Gathers the results of one range query.
#[derive(Debug)]
pub(crate) struct Results {
    pending: Vec<KvRead>,
    tree: Tree,
}

/// What is left of a range query's results.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The query gave nothing.
    Nothing,
    Raw(Vec<KvRead>),
    Summary(QueryReadsMerkleSummary),
}

/// The highest level of a summary that is being built.
pub(crate) struct Progress<'a> {
    /// Its number; the hashes of results are level 1.
    pub(crate) level: u32,
    pub(crate) hashes: &'a [Hash],
}

impl Results {
    /// `max_degree` below 2 cannot build a tree; such summaries come only from forged sets.
    pub(crate) fn new(max_degree: u32) -> Option<Self> {
        (max_degree >= 2).then(|| Self {
            pending: Vec::new(),
            tree: Tree {
                levels: vec![Vec::new()],
                max_degree: max_degree as usize,
            },
        })
    }

    pub(crate) fn fabric() -> Self {
        Self::new(MAX_DEGREE).expect("the constant is above 1")
    }

    pub(crate) fn add(&mut self, read: KvRead) {
        self.pending.push(read);
        if self.pending.len() > self.tree.max_degree {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let reads = QueryReads {
            kv_reads: std::mem::take(&mut self.pending),
        };
        self.tree.push(sha256(&reads.encode_to_vec()));
    }

    /// The highest level as far as it has been built.
    pub(crate) fn progress(&self) -> Progress<'_> {
        let top = self.tree.levels.len() - 1;
        Progress {
            level: self.tree.levels.len() as u32,
            hashes: &self.tree.levels[top],
        }
    }

    pub(crate) fn finish(mut self) -> Outcome {
        if self.tree.is_empty() {
            return if self.pending.is_empty() {
                Outcome::Nothing
            } else {
                Outcome::Raw(self.pending)
            };
        }
        if !self.pending.is_empty() {
            self.flush();
        }
        self.tree.finish();
        Outcome::Summary(self.tree.summary())
    }
}

type Hash = [u8; 32];

/// `levels[0]` is level 1, the hashes of results. There is always at least one level.
#[derive(Debug)]
struct Tree {
    levels: Vec<Vec<Hash>>,
    max_degree: usize,
}

impl Tree {
    fn is_empty(&self) -> bool {
        self.levels.len() == 1 && self.levels[0].is_empty()
    }

    fn push(&mut self, leaf: Hash) {
        self.levels[0].push(leaf);
        let mut level = 0;
        while self.levels[level].len() > self.max_degree {
            let combined = combine(&std::mem::take(&mut self.levels[level]));
            level += 1;
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(combined);
        }
    }

    /// Moves what is left on lower levels up to the highest one.
    fn finish(&mut self) {
        let top = self.levels.len() - 1;
        for level in 0..top {
            let hashes = std::mem::take(&mut self.levels[level]);
            match hashes[..] {
                [] => {}
                [only] => self.levels[level + 1].push(only),
                _ => self.levels[level + 1].push(combine(&hashes)),
            }
        }
        if self.levels[top].len() > self.max_degree {
            let combined = combine(&std::mem::take(&mut self.levels[top]));
            self.levels.push(vec![combined]);
        }
    }

    fn summary(&self) -> QueryReadsMerkleSummary {
        let top = self.levels.len() - 1;
        QueryReadsMerkleSummary {
            max_degree: self.max_degree as u32,
            max_level: self.levels.len() as u32,
            max_level_hashes: self.levels[top].iter().map(|h| h.to_vec().into()).collect(),
        }
    }
}

fn combine(hashes: &[Hash]) -> Hash {
    sha256(hashes.as_flattened())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Version;

    fn read(n: u64) -> KvRead {
        KvRead {
            key: format!("key_{n}"),
            version: Some(Version::new(n, n % 7).to_proto()),
        }
    }

    fn run(count: u64, degree: u32) -> Outcome {
        let mut results = Results::new(degree).unwrap();
        for n in 0..count {
            results.add(read(n));
        }
        results.finish()
    }

    fn leaf(range: std::ops::Range<u64>) -> Hash {
        let reads = QueryReads {
            kv_reads: range.map(read).collect(),
        };
        sha256(&reads.encode_to_vec())
    }

    fn check_summary(count: u64, degree: u32, level: u32, hashes: &[Hash]) {
        let Outcome::Summary(summary) = run(count, degree) else {
            panic!("{count} results at degree {degree} give no summary");
        };
        assert_eq!(summary.max_degree, degree);
        assert_eq!(summary.max_level, level, "{count} results");
        let got: Vec<_> = summary
            .max_level_hashes
            .iter()
            .map(|b| b.to_vec())
            .collect();
        let want: Vec<_> = hashes.iter().map(|h| h.to_vec()).collect();
        assert_eq!(got, want, "{count} results at degree {degree}");
    }

    #[test]
    fn few_results_stay_raw() {
        assert_eq!(run(0, 50), Outcome::Nothing);
        assert_eq!(run(50, 50), Outcome::Raw((0..50).map(read).collect()));
        assert_eq!(run(3, 3), Outcome::Raw((0..3).map(read).collect()));
    }

    #[test]
    fn one_level() {
        check_summary(51, 50, 1, &[leaf(0..51)]);
        check_summary(60, 50, 1, &[leaf(0..51), leaf(51..60)]);
        check_summary(9, 3, 1, &[leaf(0..4), leaf(4..8), leaf(8..9)]);
    }

    #[test]
    fn two_levels() {
        let first = combine(&[leaf(0..4), leaf(4..8), leaf(8..12), leaf(12..16)]);
        check_summary(16, 3, 2, &[first]);
        check_summary(17, 3, 2, &[first, leaf(16..17)]);
        let second = combine(&[leaf(16..20), leaf(20..24), leaf(24..26)]);
        check_summary(26, 3, 2, &[first, second]);
    }

    #[test]
    fn an_overfull_top_level_is_combined_once_more() {
        // After 52 results level 2 has its three entries and level 1 one more, which moves up
        // when the query ends.
        let group = |g: u64| {
            let start = g * 16;
            combine(&[
                leaf(start..start + 4),
                leaf(start + 4..start + 8),
                leaf(start + 8..start + 12),
                leaf(start + 12..start + 16),
            ])
        };
        let all = combine(&[group(0), group(1), group(2), leaf(48..52)]);
        check_summary(52, 3, 3, &[all]);
    }

    #[test]
    fn a_degree_below_two_is_refused() {
        assert!(Results::new(1).is_none());
        assert!(Results::new(0).is_none());
    }
}

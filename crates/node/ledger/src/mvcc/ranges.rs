//! Checking that a range query would still give what it gave.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;

use selvage_proto::kvrwset::range_query_info::ReadsInfo;
use selvage_proto::kvrwset::{KvRead, QueryReadsMerkleSummary, RangeQueryInfo};

use super::updates::{Update, Updates};
use crate::Version;
use crate::error::LedgerError;
use crate::rwset::merkle::{Outcome, Results};
use crate::state::{StateRange, StateView};

/// Whether the query still gives the same keys with the same versions, the writes of earlier
/// transactions of the block included.
pub(crate) fn still_holds(
    ns: &str,
    info: &RangeQueryInfo,
    state: &StateView,
    updates: &Updates,
) -> Result<bool, LedgerError> {
    let mut now = Combined::new(ns, info, state, updates)?;
    match &info.reads_info {
        Some(ReadsInfo::ReadsMerkleHashes(summary)) => summary_holds(summary, &mut now),
        Some(ReadsInfo::RawReads(reads)) => raw_holds(&reads.kv_reads, &mut now),
        None => raw_holds(&[], &mut now),
    }
}

fn raw_holds(reads: &[KvRead], now: &mut Combined<'_>) -> Result<bool, LedgerError> {
    for read in reads {
        let Some((key, version)) = now.next()? else {
            return Ok(false);
        };
        if key != read.key || Some(version) != Version::from_proto(read.version.as_ref()) {
            return Ok(false);
        }
    }
    Ok(now.next()?.is_none())
}

/// Builds the summary again and stops at the first difference.
///
/// A summary that no query could have produced, or one that grows past the recorded level, does
/// not hold; Fabric's peer stops on these with an error or a panic.
fn summary_holds(
    recorded: &QueryReadsMerkleSummary,
    now: &mut Combined<'_>,
) -> Result<bool, LedgerError> {
    let Some(mut results) = Results::new(recorded.max_degree) else {
        return Ok(false);
    };
    let mut matched = 0;
    while let Some((key, version)) = now.next()? {
        results.add(KvRead {
            key,
            version: Some(version.to_proto()),
        });
        let built = results.progress();
        match built.level.cmp(&recorded.max_level) {
            Ordering::Less => continue,
            Ordering::Greater => return Ok(false),
            Ordering::Equal => {}
        }
        if built.hashes.len() == matched {
            continue;
        }
        let (new, old) = (
            built.hashes.get(matched),
            recorded.max_level_hashes.get(matched),
        );
        match (new, old) {
            (Some(new), Some(old)) if new[..] == old[..] => matched += 1,
            _ => return Ok(false),
        }
    }
    Ok(match results.finish() {
        Outcome::Summary(summary) => summary == *recorded,
        _ => false,
    })
}

/// Committed keys and the block's updates in one order; updates win.
struct Combined<'a> {
    ns: &'a str,
    state: &'a StateView,
    updates: &'a Updates,
    committed: StateRange,
    updated: Option<btree_map::Range<'a, String, Update>>,
    next_committed: Option<(String, Version)>,
    next_updated: Option<(&'a String, &'a Update)>,
    /// The last key the query saw; a query that was not exhausted includes it.
    end_key: Option<&'a str>,
}

impl<'a> Combined<'a> {
    fn new(
        ns: &'a str,
        info: &'a RangeQueryInfo,
        state: &'a StateView,
        updates: &'a Updates,
    ) -> Result<Self, LedgerError> {
        let (start, end) = (info.start_key.as_str(), info.end_key.as_str());
        let updated = updates
            .public
            .get(ns)
            .and_then(|keys| slice(keys, start, end));
        let mut combined = Self {
            ns,
            state,
            updates,
            committed: state.range(ns, start, end),
            updated,
            next_committed: None,
            next_updated: None,
            end_key: (!info.itr_exhausted).then_some(end),
        };
        combined.advance_committed()?;
        combined.advance_updated();
        Ok(combined)
    }

    fn advance_committed(&mut self) -> Result<(), LedgerError> {
        let next = self.committed.next()?;
        self.next_committed = next.map(|(key, entry)| (key, entry.version));
        Ok(())
    }

    fn advance_updated(&mut self) {
        self.next_updated = self.updated.as_mut().and_then(Iterator::next);
    }

    fn next(&mut self) -> Result<Option<(String, Version)>, LedgerError> {
        loop {
            let order = match (&self.next_committed, self.next_updated) {
                (None, None) => return self.end_key(),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.as_str().cmp(b),
            };
            if order == Ordering::Less {
                let item = self.next_committed.take();
                self.advance_committed()?;
                return Ok(item);
            }
            if order == Ordering::Equal {
                self.advance_committed()?;
            }
            let item = self.next_updated;
            self.advance_updated();
            if let Some((key, update)) = item
                && update.value.is_some()
            {
                return Ok(Some((key.clone(), update.version)));
            }
        }
    }

    fn end_key(&mut self) -> Result<Option<(String, Version)>, LedgerError> {
        let Some(key) = self.end_key.take() else {
            return Ok(None);
        };
        let version = match self.updates.public(self.ns, key) {
            Some(update) => update.value.is_some().then_some(update.version),
            None => self.state.get(self.ns, key.as_bytes())?.map(|e| e.version),
        };
        Ok(version.map(|version| (key.to_owned(), version)))
    }
}

fn slice<'a>(
    keys: &'a BTreeMap<String, Update>,
    start: &str,
    end: &str,
) -> Option<btree_map::Range<'a, String, Update>> {
    if end.is_empty() {
        return Some(keys.range::<str, _>((Bound::Included(start), Bound::Unbounded)));
    }
    (start < end).then(|| keys.range::<str, _>((Bound::Included(start), Bound::Excluded(end))))
}

//! Running a transaction against the state without changing it (Fabric: `ledger.TxSimulator`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvage_proto::kvrwset::range_query_info::ReadsInfo;
use selvage_proto::kvrwset::{KvRead, QueryReads, RangeQueryInfo};
use selvage_proto::rwset::TxPvtReadWriteSet;

use crate::error::LedgerError;
use crate::history::{History, HistorySource};
use crate::query::{CollectionSource, Kv, StateReader, metadata_of};
use crate::rwset::builder::Builder;
use crate::rwset::merkle::{Outcome, Results};
use crate::state::{StateRange, StateView};
use crate::{Metadata, Version};

type Result<T> = std::result::Result<T, LedgerError>;

/// A range query that a simulator has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RangeId(u64);

/// A key of a write set: namespace, collection (empty for public keys), key.
pub type WrittenKey = (String, String, String);

/// What a simulation gives.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// Encoded `rwset.TxReadWriteSet`: the results of a `ChaincodeAction`.
    pub results: Bytes,
    /// The private write sets, when private data was written.
    pub private: Option<TxPvtReadWriteSet>,
    /// Namespaces and collections whose private values were read. A plan for endorsement must
    /// choose peers that are members of them.
    pub private_reads: BTreeSet<(String, String)>,
    /// The committed metadata of every written key, for key-level endorsement policies.
    pub written_metadata: BTreeMap<WrittenKey, Metadata>,
}

/// Runs one transaction: reads the state of one height, gathers the read/write set.
///
/// Writes are not seen by later reads. Commits do not disturb it.
pub struct Simulator {
    txid: String,
    state: StateView,
    height: u64,
    history: HistorySource,
    collections: Arc<dyn CollectionSource>,
    known_collections: HashMap<String, BTreeSet<String>>,
    builder: Builder,
    ranges: Vec<Range>,
    private_reads: BTreeSet<(String, String)>,
    writes_done: bool,
    private_queries_done: bool,
    paged_queries_done: bool,
}

/// A range query. Its results stay in the read set after it is closed.
struct Range {
    namespace: String,
    end_key: String,
    source: Option<StateRange>,
    /// 0 for no limit.
    page_size: i32,
    returned: i32,
    /// Public queries are recorded, private ones are not.
    record: Option<(RangeQueryInfo, Results)>,
}

const NO_WRITES_AFTER_PRIVATE: &str =
    "Transaction has already performed queries on pvt data. Writes are not allowed";
const NO_WRITES_AFTER_PAGES: &str =
    "Transaction has already performed a paginated query. Writes are not allowed";
const PRIVATE_READ_ONLY: &str = "Queries on pvt data is supported only in a read-only transaction";
const PAGES_READ_ONLY: &str = "Paginated queries are supported only in a read-only transaction";

impl Simulator {
    pub(crate) fn new(
        txid: &str,
        state: StateView,
        history: HistorySource,
        collections: Arc<dyn CollectionSource>,
    ) -> Result<Self> {
        let height = state.height()?;
        Ok(Self {
            txid: txid.to_owned(),
            state,
            height,
            history,
            collections,
            known_collections: HashMap::new(),
            builder: Builder::default(),
            ranges: Vec::new(),
            private_reads: BTreeSet::new(),
            writes_done: false,
            private_queries_done: false,
            paged_queries_done: false,
        })
    }

    /// Number of the first block that is not seen here.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When the state cannot be read; so for every method here.
    pub fn get_state(&mut self, ns: &str, key: &str) -> Result<Option<Bytes>> {
        let entry = self.state.get(ns, key.as_bytes())?;
        let version = entry.as_ref().map(|e| e.version);
        self.builder.read(ns, key, version);
        Ok(entry.map(|e| e.value))
    }

    /// Reads several keys.
    ///
    /// # Errors
    /// As [`Simulator::get_state`].
    pub fn get_states(&mut self, ns: &str, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        keys.iter().map(|key| self.get_state(ns, key)).collect()
    }

    /// Reads the metadata of a key; the key counts as read.
    ///
    /// # Errors
    /// As [`Simulator::get_state`].
    pub fn get_state_metadata(&mut self, ns: &str, key: &str) -> Result<Option<Metadata>> {
        let entry = self.state.get(ns, key.as_bytes())?;
        let version = entry.as_ref().map(|e| e.version);
        self.builder.read(ns, key, version);
        metadata_of(entry)
    }

    /// Writes a key. An empty value deletes it.
    ///
    /// # Errors
    /// [`LedgerError::Unsupported`] after queries that only read-only transactions may make.
    pub fn set_state(&mut self, ns: &str, key: &str, value: Bytes) -> Result<()> {
        self.check_write()?;
        self.builder.write(ns, key, value);
        Ok(())
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// As [`Simulator::set_state`].
    pub fn delete_state(&mut self, ns: &str, key: &str) -> Result<()> {
        self.set_state(ns, key, Bytes::new())
    }

    /// Sets the metadata of a key; empty metadata removes it.
    ///
    /// # Errors
    /// As [`Simulator::set_state`].
    pub fn set_state_metadata(&mut self, ns: &str, key: &str, metadata: Metadata) -> Result<()> {
        self.check_write()?;
        self.builder.metadata_write(ns, key, metadata);
        Ok(())
    }

    /// Opens a query over keys from `start` on and before `end` (empty: all that follow).
    ///
    /// # Errors
    /// As [`Simulator::get_state`].
    pub fn range(&mut self, ns: &str, start: &str, end: &str) -> Result<RangeId> {
        Ok(self.open_range(ns, start, end, 0))
    }

    /// Like [`Simulator::range`], giving at most `page_size` results (0: all). The next page
    /// starts at the bookmark. Only in read-only transactions.
    ///
    /// # Errors
    /// [`LedgerError::Unsupported`] after a write.
    pub fn range_paged(
        &mut self,
        ns: &str,
        start: &str,
        end: &str,
        page_size: i32,
    ) -> Result<RangeId> {
        if self.writes_done {
            return Err(self.unsupported(PAGES_READ_ONLY));
        }
        self.paged_queries_done = true;
        Ok(self.open_range(ns, start, end, page_size))
    }

    fn open_range(&mut self, ns: &str, start: &str, end: &str, page_size: i32) -> RangeId {
        let info = RangeQueryInfo {
            start_key: start.to_owned(),
            ..Default::default()
        };
        self.push_range(Range {
            namespace: ns.to_owned(),
            end_key: end.to_owned(),
            source: Some(self.state.range(ns, start, end)),
            page_size,
            returned: 0,
            record: Some((info, Results::fabric())),
        })
    }

    fn push_range(&mut self, range: Range) -> RangeId {
        self.ranges.push(range);
        RangeId(self.ranges.len() as u64 - 1)
    }

    /// The next result of a query. What is fetched here is in the read set even when the caller
    /// never shows it to the chaincode, so how far a peer reads ahead matters.
    ///
    /// # Errors
    /// [`LedgerError::NoSuchRange`] after closing, or when the state cannot be read.
    pub fn next(&mut self, id: RangeId) -> Result<Option<Kv>> {
        let range = self
            .ranges
            .get_mut(id.0 as usize)
            .ok_or(LedgerError::NoSuchRange(id.0))?;
        range.next(id)
    }

    /// Closes a query and gives the key at which the next page starts; empty at the end.
    ///
    /// # Errors
    /// As [`Simulator::next`].
    pub fn bookmark_and_close(&mut self, id: RangeId) -> Result<String> {
        let range = self
            .ranges
            .get_mut(id.0 as usize)
            .ok_or(LedgerError::NoSuchRange(id.0))?;
        let source = range.source.take();
        let next = source.ok_or(LedgerError::NoSuchRange(id.0))?.next()?;
        Ok(next.map(|(key, _)| key).unwrap_or_default())
    }

    /// Closes a query. What it returned stays in the read set. Closing twice does nothing.
    pub fn close(&mut self, id: RangeId) {
        if let Some(range) = self.ranges.get_mut(id.0 as usize) {
            range.source = None;
        }
    }

    /// Rich queries need another state database.
    ///
    /// # Errors
    /// Always, with the text of Fabric on LevelDB.
    pub fn execute_query(&mut self, _ns: &str, _query: &str) -> Result<RangeId> {
        Err(LedgerError::NoRichQueries)
    }

    /// Rich queries need another state database.
    ///
    /// # Errors
    /// Always, with the text of Fabric on LevelDB, or [`LedgerError::Unsupported`] after a write.
    pub fn execute_query_paged(
        &mut self,
        _ns: &str,
        _query: &str,
        _bookmark: &str,
        _page_size: i32,
    ) -> Result<RangeId> {
        if self.writes_done {
            return Err(self.unsupported(PAGES_READ_ONLY));
        }
        self.paged_queries_done = true;
        Err(LedgerError::NoRichQueriesPaged)
    }

    /// Rich queries need another state database.
    ///
    /// # Errors
    /// Always, with the text of Fabric on LevelDB, or [`LedgerError::Unsupported`] after a write.
    pub fn execute_query_private(&mut self, ns: &str, coll: &str, _: &str) -> Result<RangeId> {
        self.check_private_query()?;
        self.check_collection(ns, coll)?;
        Err(LedgerError::NoRichQueries)
    }

    /// Every change of a key, newest first. It leaves no trace in the read set.
    ///
    /// # Errors
    /// As [`Simulator::get_state`].
    pub fn history(&self, ns: &str, key: &str) -> Result<History> {
        Ok(self.history.of(&self.state, ns, key))
    }

    /// Reads a private value.
    ///
    /// # Errors
    /// [`LedgerError::PrivateDataMissing`] when this peer does not hold the newest value, and
    /// errors of the collection's name.
    pub fn get_private_data(&mut self, ns: &str, coll: &str, key: &str) -> Result<Option<Bytes>> {
        self.check_collection(ns, coll)?;
        let plain = self.state.private(ns, coll, key)?;
        let public = self.state.hashed_by_key(ns, coll, key)?;
        let have = plain.as_ref().map(|e| e.version);
        let want = public.map(|e| e.version);
        if have != want {
            return Err(LedgerError::PrivateDataMissing {
                public: version_text(want),
                private: version_text(have),
            });
        }
        self.private_read(ns, coll, key, have);
        Ok(plain.map(|e| e.value))
    }

    /// Reads several private values. As in Fabric, stale values are not noticed here but at
    /// validation.
    ///
    /// # Errors
    /// As [`Simulator::get_private_data`].
    pub fn get_private_data_multiple(
        &mut self,
        ns: &str,
        coll: &str,
        keys: &[String],
    ) -> Result<Vec<Option<Bytes>>> {
        self.check_collection(ns, coll)?;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let plain = self.state.private(ns, coll, key)?;
            let version = plain.as_ref().map(|e| e.version);
            self.private_read(ns, coll, key, version);
            values.push(plain.map(|e| e.value));
        }
        Ok(values)
    }

    fn private_read(&mut self, ns: &str, coll: &str, key: &str, version: Option<Version>) {
        self.builder.hashed_read(ns, coll, key, version);
        self.private_reads.insert((ns.to_owned(), coll.to_owned()));
    }

    /// Reads the hash of a private value; every peer has it.
    ///
    /// # Errors
    /// As [`Simulator::get_private_data`].
    pub fn get_private_data_hash(
        &mut self,
        ns: &str,
        coll: &str,
        key: &str,
    ) -> Result<Option<Bytes>> {
        self.check_collection(ns, coll)?;
        let entry = self.state.hashed_by_key(ns, coll, key)?;
        let version = entry.as_ref().map(|e| e.version);
        self.builder.hashed_read(ns, coll, key, version);
        Ok(entry.map(|e| e.value))
    }

    /// Reads the metadata of a private key; its hash counts as read.
    ///
    /// # Errors
    /// As [`Simulator::get_private_data`].
    pub fn get_private_data_metadata(
        &mut self,
        ns: &str,
        coll: &str,
        key: &str,
    ) -> Result<Option<Metadata>> {
        self.check_collection(ns, coll)?;
        let entry = self.state.hashed_by_key(ns, coll, key)?;
        let version = entry.as_ref().map(|e| e.version);
        self.builder.hashed_read(ns, coll, key, version);
        metadata_of(entry)
    }

    /// Opens a query over private keys. Only in read-only transactions; it leaves no trace.
    ///
    /// # Errors
    /// [`LedgerError::Unsupported`] after a write, and errors of the collection's name.
    pub fn private_range(
        &mut self,
        ns: &str,
        coll: &str,
        start: &str,
        end: &str,
    ) -> Result<RangeId> {
        self.check_private_query()?;
        self.check_collection(ns, coll)?;
        let derived = crate::keys::private_ns(ns, coll);
        let source = self.state.range(&derived, start, end);
        Ok(self.push_range(Range {
            namespace: ns.to_owned(),
            end_key: end.to_owned(),
            source: Some(source),
            page_size: 0,
            returned: 0,
            record: None,
        }))
    }

    /// Writes a private key. An empty value deletes it.
    ///
    /// # Errors
    /// As [`Simulator::set_state`], and errors of the collection's name.
    pub fn set_private_data(
        &mut self,
        ns: &str,
        coll: &str,
        key: &str,
        value: Bytes,
    ) -> Result<()> {
        self.check_collection(ns, coll)?;
        self.check_write()?;
        self.builder.private_write(ns, coll, key, value);
        Ok(())
    }

    /// Deletes a private key.
    ///
    /// # Errors
    /// As [`Simulator::set_private_data`].
    pub fn delete_private_data(&mut self, ns: &str, coll: &str, key: &str) -> Result<()> {
        self.set_private_data(ns, coll, key, Bytes::new())
    }

    /// Deletes a private key together with everything that peers keep of its past.
    ///
    /// # Errors
    /// As [`Simulator::set_private_data`].
    pub fn purge_private_data(&mut self, ns: &str, coll: &str, key: &str) -> Result<()> {
        self.check_collection(ns, coll)?;
        self.check_write()?;
        self.builder.private_purge(ns, coll, key);
        Ok(())
    }

    /// Sets the metadata of a private key; empty metadata removes it.
    ///
    /// # Errors
    /// As [`Simulator::set_private_data`].
    pub fn set_private_data_metadata(
        &mut self,
        ns: &str,
        coll: &str,
        key: &str,
        metadata: Metadata,
    ) -> Result<()> {
        self.check_collection(ns, coll)?;
        self.check_write()?;
        self.builder.private_metadata(ns, coll, key, metadata);
        Ok(())
    }

    fn check_collection(&mut self, ns: &str, coll: &str) -> Result<()> {
        if !self.known_collections.contains_key(ns) {
            let source = self.collections.clone();
            let found = source
                .collections(ns, self)
                .map_err(LedgerError::Collections)?
                .ok_or_else(|| LedgerError::NoCollections(ns.to_owned()))?;
            let names = found.into_iter().map(|c| c.name).collect();
            self.known_collections.insert(ns.to_owned(), names);
        }
        if self.known_collections[ns].contains(coll) {
            return Ok(());
        }
        Err(LedgerError::NoSuchCollection {
            ns: ns.to_owned(),
            collection: coll.to_owned(),
        })
    }

    fn check_write(&mut self) -> Result<()> {
        if self.private_queries_done {
            return Err(self.unsupported(NO_WRITES_AFTER_PRIVATE));
        }
        if self.paged_queries_done {
            return Err(self.unsupported(NO_WRITES_AFTER_PAGES));
        }
        self.writes_done = true;
        Ok(())
    }

    fn check_private_query(&mut self) -> Result<()> {
        if self.writes_done {
            return Err(self.unsupported(PRIVATE_READ_ONLY));
        }
        self.private_queries_done = true;
        Ok(())
    }

    fn unsupported(&self, rule: &'static str) -> LedgerError {
        LedgerError::Unsupported {
            txid: self.txid.clone(),
            rule,
        }
    }

    /// Ends the simulation and gives its results.
    ///
    /// # Errors
    /// When the metadata of a written key cannot be read.
    pub fn done(mut self) -> Result<Simulation> {
        let written_metadata = self.written_metadata()?;
        for range in std::mem::take(&mut self.ranges) {
            if let Some((info, results)) = range.record {
                let info = finish_range(info, results);
                self.builder.range(&range.namespace, info);
            }
        }
        let (public, private) = self.builder.finish();
        Ok(Simulation {
            results: public.encode_to_vec().into(),
            private,
            private_reads: self.private_reads,
            written_metadata,
        })
    }

    fn written_metadata(&self) -> Result<BTreeMap<WrittenKey, Metadata>> {
        let mut found = BTreeMap::new();
        for (ns, key) in self.builder.written_keys() {
            let entry = self.state.get(ns, key.as_bytes())?;
            let metadata = metadata_of(entry)?.unwrap_or_default();
            found.insert((ns.to_owned(), String::new(), key.to_owned()), metadata);
        }
        for (ns, coll, key) in self.builder.written_private_keys() {
            let entry = self.state.hashed_by_key(ns, coll, key)?;
            let metadata = metadata_of(entry)?.unwrap_or_default();
            found.insert((ns.to_owned(), coll.to_owned(), key.to_owned()), metadata);
        }
        Ok(found)
    }
}

impl StateReader for Simulator {
    fn get_state(&mut self, ns: &str, key: &str) -> Result<Option<Bytes>> {
        Simulator::get_state(self, ns, key)
    }
}

impl Range {
    fn next(&mut self, id: RangeId) -> Result<Option<Kv>> {
        let source = self.source.as_mut().ok_or(LedgerError::NoSuchRange(id.0))?;
        let full = self.page_size > 0 && self.returned >= self.page_size;
        let found = if full { None } else { source.next()? };
        let Some((key, entry)) = found else {
            if let Some((info, _)) = self.record.as_mut() {
                info.itr_exhausted = true;
                info.end_key.clone_from(&self.end_key);
            }
            return Ok(None);
        };
        self.returned = self.returned.saturating_add(1);
        if let Some((info, results)) = self.record.as_mut() {
            results.add(KvRead {
                key: key.clone(),
                version: Some(entry.version.to_proto()),
            });
            // The caller may never ask for more, so the query ends here until it does.
            info.end_key.clone_from(&key);
        }
        Ok(Some(Kv {
            namespace: self.namespace.clone(),
            key,
            value: entry.value,
        }))
    }
}

fn finish_range(mut info: RangeQueryInfo, results: Results) -> RangeQueryInfo {
    info.reads_info = match results.finish() {
        Outcome::Nothing => None,
        Outcome::Raw(kv_reads) => Some(ReadsInfo::RawReads(QueryReads { kv_reads })),
        Outcome::Summary(summary) => Some(ReadsInfo::ReadsMerkleHashes(summary)),
    };
    info
}

fn version_text(version: Option<Version>) -> String {
    version.map_or_else(|| "<nil>".to_owned(), |v| v.to_string())
}

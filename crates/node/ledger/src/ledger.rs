//! The ledger of one channel: blocks, state, history, indexes and private data as one thing.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use selvage_crypto::sha256;
use selvage_env::Disk;
use selvage_proto::block::header_bytes;
use selvage_proto::common::{Block, BlockMetadataIndex, BlockchainInfo, Envelope, Metadata};
use selvage_proto::peer::{ProcessedTransaction, TxValidationCode};
use selvage_proto::transientstore::TxPvtReadWriteSetWithConfigInfo;

use crate::blocks::{BlockStore, BlockStoreOptions, ChainInfo};
use crate::commit::{self, Parsed, TxEntry};
use crate::encode::encode_block;
use crate::error::{BlockStoreError, LedgerError};
use crate::events::{CommitListener, CommittedBlock};
use crate::history::{History, HistorySource, Location};
use crate::keys;
use crate::mvcc;
use crate::private::{PrivateSet, PrivateSets, PrivateStore, assemble};
use crate::query::{CollectionSource, QueryExecutor};
use crate::simulator::Simulator;
use crate::state::StateView;
use crate::store::fjall::{Fjall, Limits};
use crate::store::memory::Memory;
use crate::store::{Batch, Durability, Store};
use crate::tx::DecodedTx;
use crate::version::take_ordered;

type Result<T> = std::result::Result<T, LedgerError>;

/// Where the state is kept. Blocks always go through the disk that the ledger is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateStorage {
    /// In a database beside the block files.
    Database,
    /// In memory, rebuilt from the blocks at each start. For tests: private data does not survive.
    Memory,
}

/// Budgets and choices of a ledger.
#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// Layout of the block files.
    pub blocks: BlockStoreOptions,
    /// Where the state is kept.
    pub state: StateStorage,
    /// Memory for blocks of the database that were read lately.
    pub cache_bytes: u64,
    /// Changes gathered in memory before the database writes them out in order.
    pub memtable_bytes: u64,
    /// Whether to keep the history of keys (Fabric: `ledger.history.enableHistoryDatabase`).
    pub history: bool,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self {
            blocks: BlockStoreOptions::default(),
            state: StateStorage::Database,
            cache_bytes: 4 << 20,
            memtable_bytes: 4 << 20,
            history: true,
        }
    }
}

/// The ledger of one channel. Reads never wait for commits.
pub struct Ledger {
    blocks: Arc<BlockStore>,
    store: Arc<dyn Store>,
    private: PrivateStore,
    collections: Arc<dyn CollectionSource>,
    history: bool,
    /// Serialises commits.
    writer: Mutex<Writer>,
    /// The chain as far as its state can be read.
    info: RwLock<ChainInfo>,
    listeners: RwLock<Vec<Arc<dyn CommitListener>>>,
}

#[derive(Default)]
struct Writer {
    commit_hash: Bytes,
    /// A commit got past the block files and failed after that.
    poisoned: bool,
    /// Blocks to live by namespace and collection. They never change once defined.
    lifetimes: HashMap<(String, String), u64>,
}

/// The database layout that this version writes.
const FORMAT: u8 = 1;

impl Ledger {
    /// Opens the ledger in `dir`, creating it when it is missing.
    ///
    /// Blocks that the state has not seen yet, after a crash or because the state folder was
    /// removed, are applied again.
    ///
    /// # Errors
    /// When the folder is in use, the disk fails or stored data are damaged.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LedgerOptions,
        collections: Arc<dyn CollectionSource>,
    ) -> Result<Arc<Self>> {
        let blocks = BlockStore::open(disk.clone(), &dir.join("blocks"), options.blocks)?;
        let limits = Limits {
            cache_bytes: options.cache_bytes,
            memtable_bytes: options.memtable_bytes,
        };
        let (store, private): (Arc<dyn Store>, _) = match options.state {
            StateStorage::Database => {
                let folder = dir.join("private");
                let open = {
                    let folder = folder.clone();
                    Box::new(move || {
                        Ok(Arc::new(Fjall::open_synced(&folder, limits)?) as Arc<dyn Store>)
                    })
                };
                let private = PrivateStore::new(&*disk, Some(folder), open)?;
                let can_be_made_again = blocks.first_block() == 0;
                let state = open_state(&*disk, dir, limits, can_be_made_again)?;
                (Arc::new(state), private)
            }
            StateStorage::Memory => {
                let open = Box::new(|| Ok(Arc::new(Memory::default()) as Arc<dyn Store>));
                let private = PrivateStore::new(&*disk, None, open)?;
                (Arc::new(Memory::default()), private)
            }
        };
        let ledger = Self {
            blocks: Arc::new(blocks),
            store,
            private,
            collections,
            history: options.history,
            writer: Mutex::new(Writer::default()),
            info: RwLock::new(ChainInfo::default()),
            listeners: RwLock::new(Vec::new()),
        };
        ledger.recover()?;
        Ok(Arc::new(ledger))
    }

    /// Brings the state up to the block files.
    fn recover(&self) -> Result<()> {
        let view = self.view();
        match view.view().get(keys::FORMAT)? {
            None => {
                let mut batch = Batch::default();
                batch.put(keys::FORMAT.to_vec(), vec![FORMAT]);
                self.store.commit(batch, Durability::Buffered)?;
            }
            Some(format) if format[..] == [FORMAT] => {}
            Some(_) => return Err(LedgerError::Malformed { what: "format" }),
        }
        let height = view.height()?.max(self.blocks.first_block());
        let blocks = self.blocks.height();
        if height > blocks {
            return Err(LedgerError::StateAhead {
                state: height,
                blocks,
            });
        }
        let mut writer = self.writer.lock();
        for number in height..blocks {
            self.replay(number, &mut writer)?;
            if number % 1000 == 0 {
                tracing::info!(number, blocks, "applying stored blocks to the state");
            }
        }
        if let Some(last) = self.blocks.last_block()? {
            writer.commit_hash = stored_commit_hash(&last)?;
        }
        *self.info.write() = self.blocks.info();
        Ok(())
    }

    /// Applies a stored block to the state, trusting the codes it carries.
    fn replay(&self, number: u64, writer: &mut Writer) -> Result<()> {
        let block = self.blocks.block(number)?;
        let filter = block.metadata_slot(BlockMetadataIndex::TransactionsFilter);
        let codes = filter
            .iter()
            .map(|&code| code_from(code))
            .collect::<Vec<_>>();
        let mut parsed = commit::parse(&block, &codes, Vec::new())?;
        let sets = self.private.of_block(number)?;
        let view = self.view();
        let validated = mvcc::validate(number, &mut parsed.txs, &view, false)?;
        let (_, at) = encode_block(&block);
        let batch = self.changes(&block, &parsed, &at, validated, &sets, &view, writer)?;
        // What a view holds the store has to copy or keep.
        drop(view);
        self.store.commit(batch, Durability::Buffered)?;
        Ok(())
    }

    /// Everything that a block changes, private data that must go included.
    #[allow(clippy::too_many_arguments)]
    fn changes(
        &self,
        block: &Block,
        parsed: &Parsed,
        at: &[Location],
        mut validated: mvcc::Validated,
        sets: &[PrivateSet],
        view: &StateView,
        writer: &mut Writer,
    ) -> Result<Batch> {
        let number = block.number();
        let mut batch = Batch::default();
        let updates = &mut validated.updates;
        let mut private = commit::private_updates(sets, &parsed.codes, updates, view)?;
        commit::purge_values(&validated.purges, view, &mut private)?;
        let expiry = |ns: &str, coll: &str| self.expiry(number, ns, coll, view, writer);
        commit::expire(number, view, updates, &mut private, expiry, &mut batch)?;
        self.private.trim(number, &validated.purges)?;
        commit::put_state(updates, &private, &mut batch);
        if self.history {
            commit::put_history(number, parsed, at, &mut batch);
        }
        let header = block.header.clone().unwrap_or_default();
        let hash = sha256(&header_bytes(&header));
        commit::put_indexes(number, &hash, parsed, at, view, &mut batch)?;
        Ok(batch)
    }

    /// The block with which data of a collection written now expires; `None` for never.
    fn expiry(
        &self,
        block: u64,
        ns: &str,
        coll: &str,
        view: &StateView,
        writer: &mut Writer,
    ) -> Result<Option<u64>> {
        let name = (ns.to_owned(), coll.to_owned());
        let lifetime = match writer.lifetimes.get(&name) {
            Some(&lifetime) => lifetime,
            None => {
                let mut reader = QueryExecutor::new(view.clone())?;
                let found = self
                    .collections
                    .collections(ns, &mut reader)
                    .map_err(LedgerError::Collections)?;
                let found = found.unwrap_or_default().into_iter();
                // A collection nobody defined: Fabric's peer stops here. Such data never expires.
                let Some(info) = found.into_iter().find(|c| c.name == coll) else {
                    return Ok(None);
                };
                writer.lifetimes.insert(name, info.block_to_live);
                info.block_to_live
            }
        };
        if lifetime == 0 {
            return Ok(None);
        }
        let at = block.checked_add(lifetime).and_then(|n| n.checked_add(1));
        Ok(at.filter(|&at| at != u64::MAX))
    }

    /// Makes the next block part of the ledger, decoding its transactions.
    ///
    /// # Errors
    /// As [`Ledger::commit_decoded`].
    pub fn commit(
        &self,
        block: Block,
        codes: &[TxValidationCode],
        private: &PrivateSets,
    ) -> Result<Arc<CommittedBlock>> {
        self.commit_decoded(block, codes, Vec::new(), private)
    }

    /// Makes the next block part of the ledger.
    ///
    /// `codes` are what the validator decided for each transaction; those it found valid are
    /// checked against the state here. `decoded` are those endorser transactions that the validator
    /// decoded, each at its place in the block, and is taken to be what the block holds; where it
    /// ends or has nothing, the ledger decodes. `private` are the private write sets this peer is entitled
    /// to, as far as it has them. On return the block is durable and its state can be read. Calls
    /// wait for each other, reads do not wait. Meant for a thread that may block.
    ///
    /// # Errors
    /// When the block does not follow or cannot be decoded where the validator said it can, and
    /// when the disk fails. After an error that [`LedgerError::is_fatal`] the node must stop.
    pub fn commit_decoded(
        &self,
        mut block: Block,
        codes: &[TxValidationCode],
        decoded: Vec<Option<DecodedTx>>,
        private: &PrivateSets,
    ) -> Result<Arc<CommittedBlock>> {
        let mut writer = self.writer.lock();
        if writer.poisoned {
            return Err(LedgerError::Poisoned);
        }
        let number = block.number();
        let header = block.header.clone().unwrap_or_default();
        // Before anything is kept for it: private data of a block that cannot be added must not
        // lie around for the one that can.
        self.blocks.check_follows(&header)?;
        let mut parsed = commit::parse(&block, codes, decoded)?;
        let view = self.view();
        let validated = mvcc::validate(number, &mut parsed.txs, &view, true)?;
        for tx in &parsed.txs {
            parsed.codes[tx.index] = tx.code;
        }
        let filter: Vec<u8> = parsed.codes.iter().map(|&c| c as u8).collect();
        let mut commit_hash = Bytes::new();
        if number == 1 || !writer.commit_hash.is_empty() {
            let hash = validated.updates.commit_hash(&filter, &writer.commit_hash);
            commit_hash = Bytes::copy_from_slice(&hash);
            let metadata = Metadata {
                value: commit_hash.clone(),
                signatures: Vec::new(),
            };
            block.set_metadata_slot(BlockMetadataIndex::CommitHash, metadata.encode_to_vec());
        }
        block.set_metadata_slot(BlockMetadataIndex::TransactionsFilter, filter);
        let (raw, at) = encode_block(&block);
        let namespaces = validated.updates.namespaces();
        let namespaces = namespaces.into_iter().map(str::to_owned).collect();

        let sets = self.keep_private(&block, &parsed, private, &view, &mut writer)?;
        self.blocks.append_encoded(&[(header, raw.clone())])?;
        // From here on the block counts; whatever fails now is repaired at the next start.
        writer.poisoned = true;
        let batch = self.changes(&block, &parsed, &at, validated, &sets, &view, &mut writer)?;
        // What a view holds the store has to copy or keep.
        drop(view);
        self.store.commit(batch, Durability::Buffered)?;
        writer.poisoned = false;
        writer.commit_hash.clone_from(&commit_hash);
        *self.info.write() = self.blocks.info();
        let committed = Arc::new(CommittedBlock {
            number,
            block,
            raw,
            codes: parsed.codes,
            tx_ids: parsed.ids,
            commit_hash,
            namespaces,
        });
        for listener in self.listeners.read().iter() {
            listener.committed(&committed);
        }
        Ok(committed)
    }

    /// Stores the private sets of a block before the block itself. Sets that an interrupted
    /// attempt left behind count as well.
    fn keep_private(
        &self,
        block: &Block,
        parsed: &Parsed,
        private: &PrivateSets,
        view: &StateView,
        writer: &mut Writer,
    ) -> Result<Vec<PrivateSet>> {
        let number = block.number();
        let sets = commit::matching_sets(block, parsed, private);
        self.private.put(&sets, |set| {
            self.expiry(number, &set.ns, &set.collection, view, writer)
        })?;
        let left = assemble(self.private.of_block(number)?);
        Ok(commit::matching_sets(block, parsed, &left))
    }

    /// Hears of every block from the next one on.
    pub fn add_listener(&self, listener: Arc<dyn CommitListener>) {
        self.listeners.write().push(listener);
    }

    fn view(&self) -> StateView {
        StateView::new(self.store.view())
    }

    /// The block files, for serving blocks as they are stored.
    pub fn blocks(&self) -> &Arc<BlockStore> {
        &self.blocks
    }

    /// Number of the next block.
    pub fn height(&self) -> u64 {
        self.info.read().height
    }

    /// Height and newest hashes (Fabric: qscc `GetChainInfo`).
    pub fn info(&self) -> BlockchainInfo {
        let info = self.info.read().clone();
        BlockchainInfo {
            height: info.height,
            current_block_hash: info.current_hash,
            previous_block_hash: info.previous_hash,
            bootstrapping_snapshot_info: None,
        }
    }

    /// The state as of now.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn query(&self) -> Result<QueryExecutor> {
        QueryExecutor::new(self.view())
    }

    /// Starts a transaction on the state as of now.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn simulator(&self, txid: &str) -> Result<Simulator> {
        let history = HistorySource::new(self.blocks.clone());
        Simulator::new(txid, self.view(), history, self.collections.clone())
    }

    /// Every change of a key, newest first.
    pub fn history(&self, ns: &str, key: &str) -> History {
        HistorySource::new(self.blocks.clone()).of(&self.view(), ns, key)
    }

    /// A block; `u64::MAX` means the newest one.
    ///
    /// # Errors
    /// [`LedgerError::NoSuchBlock`], or when the block cannot be read.
    pub fn block_by_number(&self, number: u64) -> Result<Block> {
        let raw = self.raw_block(number)?;
        Block::decode(raw)
            .map_err(|source| BlockStoreError::Decode { number, source })
            .map_err(LedgerError::from)
    }

    /// The stored bytes of a block; `u64::MAX` means the newest one.
    ///
    /// # Errors
    /// As [`Ledger::block_by_number`].
    pub fn raw_block(&self, number: u64) -> Result<Bytes> {
        let height = self.height();
        let number = if number == u64::MAX {
            height.saturating_sub(1)
        } else {
            number
        };
        if number >= height {
            return Err(LedgerError::NoSuchBlock(number));
        }
        match self.blocks.raw_block(number) {
            Err(BlockStoreError::NotFound { number }) => Err(LedgerError::NoSuchBlock(number)),
            other => Ok(other?),
        }
    }

    /// The block with this header hash.
    ///
    /// # Errors
    /// [`LedgerError::NoSuchHash`], or when the block cannot be read.
    pub fn block_by_hash(&self, hash: &[u8]) -> Result<Block> {
        let stored = self.store.get(&keys::block_hash(hash))?;
        let stored = stored.ok_or_else(|| LedgerError::NoSuchHash(hex::encode(hash)))?;
        let number = take_ordered(&mut &stored[..]);
        self.block_by_number(number.ok_or(LedgerError::Malformed {
            what: "block index",
        })?)
    }

    /// The block that holds the first transaction with this id.
    ///
    /// # Errors
    /// [`LedgerError::NoSuchTransaction`], or when the block cannot be read.
    pub fn block_by_txid(&self, id: &str) -> Result<Block> {
        let entry = self.tx_entry(id)?.ok_or_else(|| no_such_tx(id))?;
        self.block_by_number(entry.version.block)
    }

    /// The first transaction with this id, with its validation code.
    ///
    /// # Errors
    /// [`LedgerError::NoSuchTransaction`], or when the block cannot be read.
    pub fn tx_by_id(&self, id: &str) -> Result<ProcessedTransaction> {
        let entry = self.tx_entry(id)?.ok_or_else(|| no_such_tx(id))?;
        let bytes = entry.location.read(&self.blocks, entry.version.block)?;
        let envelope = Envelope::decode(bytes).map_err(|_| LedgerError::Malformed {
            what: "envelope in a block file",
        })?;
        Ok(ProcessedTransaction {
            transaction_envelope: Some(envelope),
            validation_code: i32::from(entry.code),
        })
    }

    /// Code and block of the first transaction with this id; `None` when there is none.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn tx_validation_code(&self, id: &str) -> Result<Option<(TxValidationCode, u64)>> {
        let entry = self.tx_entry(id)?;
        Ok(entry.map(|e| (code_from(e.code), e.version.block)))
    }

    /// Whether a transaction with this id was committed, valid or not.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn tx_exists(&self, id: &str) -> Result<bool> {
        Ok(self.store.get(&keys::tx_id(id))?.is_some())
    }

    fn tx_entry(&self, id: &str) -> Result<Option<TxEntry>> {
        let Some(stored) = self.store.get(&keys::tx_id(id))? else {
            return Ok(None);
        };
        TxEntry::decode(&stored)
            .map(Some)
            .ok_or(LedgerError::Malformed {
                what: "transaction index",
            })
    }

    /// The private write sets of a block that this peer holds, by index of the transaction.
    /// Expired sets and purged keys are gone.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn private_data(&self, block: u64) -> Result<PrivateSets> {
        Ok(assemble(self.private.of_block(block)?))
    }

    /// Keeps a private write set until its transaction is committed (Fabric: transient store).
    /// Durable on return.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_transient(
        &self,
        txid: &str,
        height: u64,
        set: &TxPvtReadWriteSetWithConfigInfo,
    ) -> Result<()> {
        self.private.put_transient(txid, height, set)
    }

    /// The private write sets that wait for a transaction.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn transient(&self, txid: &str) -> Result<Vec<TxPvtReadWriteSetWithConfigInfo>> {
        self.private.transient(txid)
    }

    /// Forgets the private write sets of committed transactions.
    ///
    /// # Errors
    /// When the change cannot be written.
    pub fn remove_transient(&self, txids: &[String]) -> Result<()> {
        self.private.remove_transient(txids)
    }

    /// Forgets the private write sets that were put at a height below `height`.
    ///
    /// # Errors
    /// When the change cannot be written.
    pub fn purge_transient_below(&self, height: u64) -> Result<()> {
        self.private.purge_transient_below(height)
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("blocks", &self.blocks)
            .finish_non_exhaustive()
    }
}

/// Opens the state. Its batches are not synced, so a power failure may leave its journal with holes;
/// then it is made again from the blocks, where they begin with the first.
fn open_state(
    disk: &dyn Disk,
    dir: &Path,
    limits: Limits,
    can_be_made_again: bool,
) -> Result<Fjall> {
    let (folder, torn) = (dir.join("state"), dir.join("state.torn"));
    let failed = |error| LedgerError::Blocks(BlockStoreError::Disk(error));
    if disk.exists(&torn).map_err(failed)? {
        disk.remove_dir_all(&torn).map_err(failed)?;
    }
    match Fjall::open(&folder, limits) {
        Err(error) if error.is_torn() && can_be_made_again => {
            tracing::warn!(
                folder = %folder.display(),
                "a power failure left the state database with holes; making it again from the blocks"
            );
            // Moved at once: half of it, after a kill in between, could not be told from damage.
            disk.rename(&folder, &torn).map_err(failed)?;
            let state = Fjall::open(&folder, limits)?;
            disk.remove_dir_all(&torn).map_err(failed)?;
            Ok(state)
        }
        opened => Ok(opened?),
    }
}

fn no_such_tx(id: &str) -> LedgerError {
    LedgerError::NoSuchTransaction(id.to_owned())
}

/// A stored code. Bytes that are no code count as not validated.
fn code_from(code: u8) -> TxValidationCode {
    TxValidationCode::try_from(i32::from(code)).unwrap_or(TxValidationCode::NotValidated)
}

/// The commit hash that a stored block carries; empty when it carries none.
fn stored_commit_hash(block: &Block) -> Result<Bytes> {
    let slot = block.metadata_slot(BlockMetadataIndex::CommitHash);
    let metadata = Metadata::decode(slot).map_err(|_| LedgerError::Malformed {
        what: "commit hash in a block",
    })?;
    Ok(metadata.value)
}

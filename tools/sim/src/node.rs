//! One simulated orderer: an engine with its disk, and what its driver keeps.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use selvage_env::{Disk as _, Fault, FaultKind, MemDisk};
use selvage_ledger::{BlockStore, BlockStoreError, BlockStoreOptions};
use selvage_ordering::block::{consenter_metadata, set_signatures, signed_value};
use selvage_ordering::journal::{Journal, JournalError};
use selvage_ordering::{Decision, Effect, Engine, JournalWrite, Parameters, Ticket};
use selvage_proto::common::{Block, BlockHeader};

use crate::bugs::Bug;
use crate::cluster::{Begin, Cluster, config_of, genesis};
use crate::journals;
use crate::liars::Liar;

const LEDGER: &str = "/ledger";
const BLOCKS: &str = "/ledger/blocks";

/// An orderer, running or not.
pub struct Node {
    /// Its slot in the simulation.
    pub index: usize,
    /// The consenter that it is. A liar may have two slots.
    pub identity: usize,
    /// How it lies.
    pub liar: Option<Liar>,
    /// Whether its journal was damaged in the middle. It has to stay down.
    pub spoilt: bool,
    /// Whether its journal may end with what a crash left of a write.
    pub torn: bool,
    /// Its disk.
    pub disk: Arc<MemDisk>,
    /// Whether that is full, until somebody makes room.
    pub full: bool,
    /// What runs, if it is up.
    pub up: Option<Up>,
    /// Counts its starts, so that events of an earlier life are known.
    pub life: u64,
    /// The most blocks it ever reported durable.
    pub reported: u64,
    /// Whether it came to a running channel.
    pub joined: bool,
    /// Where it has to be before an engine may begin without a journal: before that block it was a
    /// consenter, and has forgotten what it signed.
    pub begins_at: u64,
    /// Why its engine refused to start or stopped for good.
    pub failed: Option<String>,
}

/// A running orderer.
pub struct Up {
    /// The engine; none while it only follows.
    pub engine: Option<Box<dyn Engine>>,
    /// Its blocks.
    pub store: BlockStore,
    /// Its journal.
    pub journal: Option<Journal>,
    /// Writes that wait for the journal.
    pub to_journal: VecDeque<JournalWrite>,
    /// The last write that is with the journal.
    pub journal_through: u64,
    /// Whether the journal is busy.
    pub journaling: bool,
    /// Decisions that wait for the block store.
    pub to_store: VecDeque<Decision>,
    /// Whether the block store is busy.
    pub storing: bool,
    /// Clients that wait.
    pub tickets: HashMap<Ticket, Bytes>,
    /// The next ticket.
    pub next_ticket: u64,
    /// The generation of the running batch timer.
    pub timer: Option<u64>,
    /// The newest configuration block.
    pub last_config: u64,
    /// The configuration in force.
    pub parameters: Parameters,
    /// The block that is being caught up to.
    pub catching_up: Option<u64>,
    /// The others, by the numbers the engine knows them by.
    pub members: BTreeMap<u64, usize>,
    /// The number this node's engine runs under.
    pub id: Option<u64>,
    /// Since when nobody leads, in simulated microseconds.
    pub leaderless: Option<u64>,
    /// Consenters that something could not be sent to, of which the engine has not heard yet.
    pub unreachable: BTreeSet<u64>,
}

/// A block as it is stored, with its metadata.
pub fn complete(decision: &Decision, last_config: u64) -> Block {
    let mut block = decision.block.clone();
    let value = signed_value(last_config, decision.consenter_metadata.clone());
    set_signatures(&mut block, last_config, value, decision.signatures.clone());
    block
}

/// What a node starts with, besides its disk.
#[derive(Clone, Copy)]
pub struct With<'a> {
    /// The kind of engine.
    pub cluster: &'a dyn Cluster,
    /// For the engine's chance.
    pub seed: u64,
    /// A mistake in starting.
    pub bug: Option<Bug>,
}

impl Node {
    /// A node that has never run.
    pub fn new(index: usize, joined: bool) -> Self {
        Self {
            index,
            identity: index,
            liar: None,
            spoilt: false,
            torn: false,
            disk: Arc::new(MemDisk::new()),
            full: false,
            up: None,
            life: 0,
            reported: 0,
            joined,
            begins_at: 0,
            failed: None,
        }
    }

    /// Whether it is not to be trusted.
    pub fn lies(&self) -> bool {
        self.liar.as_ref().is_some_and(|liar| !liar.honest)
    }

    /// Starts the node from its disk. The effects are the engine's first. An error that is about
    /// the disk comes back as `None`: the node dies at once.
    pub fn start(&mut self, first: &Parameters, with: With<'_>) -> Option<Vec<Effect>> {
        self.life += 1;
        let disk = self.disk.clone();
        let options = BlockStoreOptions::default();
        let store = BlockStore::open(disk, Path::new(BLOCKS), options).ok()?;
        if store.height() == 0 {
            store.append(&genesis(first)).ok()?;
        }
        let newest = store.last_block().ok()??;
        let last_config = match newest.number() {
            0 => 0,
            _ => newest.last_config_index().ok()?,
        };
        let parameters = config_of(&store.block(last_config).ok()?)?;
        let mut up = Up {
            engine: None,
            store,
            journal: None,
            to_journal: VecDeque::new(),
            journal_through: 0,
            journaling: false,
            to_store: VecDeque::new(),
            storing: false,
            tickets: HashMap::new(),
            next_ticket: 0,
            timer: None,
            last_config,
            parameters,
            catching_up: None,
            members: BTreeMap::new(),
            id: None,
            leaderless: Some(0),
            unreachable: BTreeSet::new(),
        };
        let due = newest.number() >= self.begins_at;
        let effects = match due && up.is_consenter(with.cluster, &newest, self.identity) {
            true => self.start_engine(&mut up, &newest, with)?,
            false => Vec::new(),
        };
        self.up = Some(up);
        Some(effects)
    }

    fn start_engine(&mut self, up: &mut Up, newest: &Block, with: With<'_>) -> Option<Vec<Effect>> {
        let (journal, records) = match self.open_journal(with.bug) {
            Ok(opened) => opened,
            Err(Some(reason)) => {
                self.failed = Some(reason);
                return Some(Vec::new());
            }
            Err(None) => return None,
        };
        if !records.is_empty() {
            // From here on a journal without records is a lost one.
            self.joined = false;
        }
        let me = with.cluster.id_of(newest, &up.parameters, self.identity);
        let records = journals::misread(records, with.bug);
        let begin = Begin {
            node: self.identity,
            newest,
            parameters: up.parameters.clone(),
            records: &records,
            joined: self.joined,
            seed: with.seed,
            lies: self.lies(),
            bug: with.bug,
        };
        up.journal = Some(journal);
        match with.cluster.start(begin) {
            Ok((engine, effects)) => {
                self.torn = false;
                up.engine = Some(engine);
                up.id = me;
                Some(effects)
            }
            Err(reason) => {
                self.failed = Some(reason);
                Some(Vec::new())
            }
        }
    }

    /// The journal, or why the node halts; no reason when the disk failed.
    fn open_journal(&self, bug: Option<Bug>) -> Result<(Journal, Vec<Bytes>), Option<String>> {
        let open = || Journal::open(self.disk.clone(), Path::new(journals::FOLDER));
        let opened = match (open(), bug) {
            (Err(JournalError::Corrupt { offset, .. }), Some(Bug::AcceptDamage)) => {
                journals::cut(&self.disk, offset);
                open()
            }
            (opened, _) => opened,
        };
        opened.map_err(|error| match error {
            JournalError::Corrupt { .. } => Some(error.to_string()),
            _ => None,
        })
    }

    /// A follower that has become a consenter starts its engine.
    pub fn promote(&mut self, with: With<'_>) -> Option<Vec<Effect>> {
        let mut up = self.up.take()?;
        let newest = up.store.last_block().ok()??;
        let reached = newest.number() >= self.begins_at;
        let due = reached && up.engine.is_none() && self.failed.is_none();
        let effects = match due && up.is_consenter(with.cluster, &newest, self.identity) {
            true => self.start_engine(&mut up, &newest, with),
            false => Some(Vec::new()),
        };
        self.up = Some(up);
        effects
    }

    /// The engine is done with the channel, as the block of this number shows: the journal goes, the
    /// blocks stay.
    pub fn demote(&mut self, shown_by: u64) -> bool {
        self.begins_at = shown_by;
        let Some(up) = &mut self.up else { return true };
        up.engine = None;
        up.journal = None;
        up.to_journal.clear();
        up.journaling = false;
        up.timer = None;
        up.catching_up = None;
        up.id = None;
        self.forget()
    }

    /// Takes all room on its disk, from the operation of this number on, or gives it back.
    pub fn fill_disk(&mut self, from: Option<u64>) {
        self.full = from.is_some();
        self.disk.set_fault(from.map(|at| Fault {
            at,
            kind: FaultKind::Full,
            sticky: true,
        }));
    }

    /// Removes the journal, so that the next engine begins without.
    pub fn forget(&mut self) -> bool {
        self.joined = true;
        // Durable before anything new is written in its place.
        let removed = self.disk.remove_dir_all(Path::new(journals::FOLDER));
        removed
            .and_then(|()| self.disk.sync_dir(Path::new(LEDGER)))
            .is_ok()
    }
}

impl Up {
    fn is_consenter(&self, cluster: &dyn Cluster, newest: &Block, identity: usize) -> bool {
        cluster.id_of(newest, &self.parameters, identity).is_some()
    }

    /// Stores a fetched block as it is.
    pub fn store_fetched(&mut self, block: &Block) -> Result<(), BlockStoreError> {
        let header = block.header.clone().unwrap_or_default();
        let raw = Bytes::from(block.encode_to_vec());
        self.store.append_encoded(&[(header, raw)])?;
        self.take_over(block);
        Ok(())
    }

    /// Takes over the configuration of a block that is durable now.
    pub fn take_over(&mut self, block: &Block) -> Option<Parameters> {
        let parameters = config_of(block)?;
        self.last_config = block.number();
        self.parameters = parameters.clone();
        Some(parameters)
    }

    /// The newest durable block's header and consenter metadata.
    pub fn newest(&self) -> Option<(BlockHeader, Bytes)> {
        let block = self.store.last_block().ok()??;
        let metadata = consenter_metadata(&block);
        Some((block.header.unwrap_or_default(), metadata))
    }
}

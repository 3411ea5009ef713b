//! One channel: a task that drives the consensus engine and a thread that signs and stores blocks.
//!
//! The task owns the engine; everything reaches it through one bounded queue. Blocks go to the
//! writer over a second bounded queue and come back as reports once they are durable. Only then are
//! clients told that their messages are ordered (see `docs/decisions/durable-broadcast.md`).

mod driver;
mod effects;
mod engines;
mod fetch;
mod journaling;
mod metrics;
mod source;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use selvage_channel::block::verify_config_block;
use selvage_channel::{ChannelConfig, open_config};
use selvage_env::{DiskError, Env};
use selvage_ledger::{BlockStore, BlockStoreOptions};
use selvage_net::CancellationToken;
use selvage_net::metrics::Gauge;
use selvage_ordering::filters::{Filters, Incoming, Kind, Refusal};
use selvage_ordering::solo::SoloOptions;
use selvage_ordering::{Member, Rejection, Submission};
use selvage_proto::common::{Block, Envelope, Status};
use tokio::sync::{mpsc, oneshot, watch};

use crate::cluster;
use crate::error::ChainError;
use crate::in_full;
use crate::local_msp::Signer;
use crate::refusals::{Reason, Refusals};
pub use engines::CONSENSUS_TYPES;
pub(crate) use engines::{ClusterNode, check_config, is_cluster};
use engines::{Consensus, NotRunning};
pub(crate) use fetch::genesis as first_block;
pub(crate) use metrics::ChainMetrics;
use metrics::ChannelMetrics;
pub(crate) use source::Recent;

/// Messages that wait for the channel's task.
const QUEUE: usize = 4_096;

/// What all channels of a node share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) signer: Signer,
    pub(crate) filters: Filters,
    pub(crate) solo: SoloOptions,
    /// What clusters need of this node.
    pub(crate) cluster: ClusterNode,
    pub(crate) metrics: ChainMetrics,
    pub(crate) refusals: Refusals,
    /// Told when a channel's configuration changes or a channel comes or goes.
    pub(crate) config_changed: Arc<dyn Fn() + Send + Sync>,
    /// Told when a channel can no longer write.
    pub(crate) fatal: mpsc::Sender<(String, String)>,
}

/// The largest join block.
const MAX_JOIN_BLOCK: usize = 128 << 20;

impl Shared {
    /// The folder of what an engine keeps of a channel beside its blocks.
    fn engine_folder(&self, id: &str) -> PathBuf {
        self.cluster.journals.join(id)
    }

    /// The folder of an engine's journal: each has its own, so that none reads another's.
    fn journal_folder(&self, id: &str, consensus: Consensus) -> PathBuf {
        self.engine_folder(id).join(consensus.name())
    }

    /// The file that says that a channel's blocks came from other nodes, so that its engine may
    /// begin without a journal.
    fn joined_marker(&self, id: &str) -> PathBuf {
        self.engine_folder(id).join("joined")
    }

    /// The file with the block that this node was told to join a channel with.
    fn join_file(&self, id: &str) -> PathBuf {
        self.engine_folder(id).join("join")
    }

    /// The channels that this node was told to join with a block that lies ahead.
    pub(crate) fn joins(&self) -> Result<Vec<String>, DiskError> {
        let (disk, journals) = (self.env.disk.as_ref(), &self.cluster.journals);
        if !disk.exists(journals)? {
            return Ok(Vec::new());
        }
        let mut joins = Vec::new();
        for id in disk.list(journals)? {
            if disk.exists(&self.join_file(&id))? {
                joins.push(id);
            }
        }
        Ok(joins)
    }

    /// Forgets, durably, that this node was told to join a channel.
    pub(crate) fn forget_join(&self, id: &str) -> Result<(), DiskError> {
        let (disk, file) = (self.env.disk.as_ref(), self.join_file(id));
        if !disk.exists(&file)? {
            return Ok(());
        }
        disk.remove_file(&file)?;
        disk.sync_dir(&self.engine_folder(id))
    }

    /// The block to join with, while it lies ahead.
    fn join_ahead(&self, id: &str, newest: u64) -> Result<Option<Block>, ChainError> {
        if !self.env.disk.exists(&self.join_file(id))? {
            return Ok(None);
        }
        let block = self.join_block(id)?;
        Ok((block.number() > newest).then_some(block))
    }

    /// The block that this node was told to join with.
    pub(crate) fn join_block(&self, id: &str) -> Result<Block, ChainError> {
        let bytes = self.env.disk.read(&self.join_file(id), MAX_JOIN_BLOCK)?;
        Block::decode(bytes.as_slice()).map_err(ChainError::JoinBlock)
    }

    /// Remembers a join with a block that lies ahead, durably.
    pub(crate) fn remember_join(&self, id: &str, block: &Block) -> Result<(), DiskError> {
        let disk = self.env.disk.as_ref();
        self.expect_no_journal(id)?;
        disk.write_atomic(&self.join_file(id), &block.encode_to_vec())
    }

    /// This node takes no part in the channel: should it ever, it begins without a journal.
    fn expect_no_journal(&self, id: &str) -> Result<(), DiskError> {
        let disk = self.env.disk.as_ref();
        disk.create_dir_all(&self.engine_folder(id))?;
        disk.write_atomic(&self.joined_marker(id), b"selvage\n")
    }

    /// The engine keeps a journal from now on: should that be missing one day, it was lost.
    fn has_journal(&self, id: &str) -> Result<(), DiskError> {
        let (disk, marker) = (self.env.disk.as_ref(), self.joined_marker(id));
        if !disk.exists(&marker)? {
            return Ok(());
        }
        disk.remove_file(&marker)?;
        disk.sync_dir(&self.engine_folder(id))
    }

    /// Removes everything that an engine left of a channel.
    pub(crate) fn forget_engine(&self, id: &str) -> Result<(), DiskError> {
        let (disk, folder) = (self.env.disk.as_ref(), self.engine_folder(id));
        if !disk.exists(&folder)? {
            return Ok(());
        }
        disk.remove_dir_all(&folder)?;
        disk.sync_dir(&self.cluster.journals)
    }
}

/// What became of a message.
pub(crate) type Answer = (Status, String);

/// What this node is to a channel, in the words of the participation API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// It takes part in ordering.
    Consenter,
    /// It keeps up with the blocks.
    Follower,
    /// The channel's consensus has no cluster.
    Other,
}

impl Relation {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Consenter => "consenter",
            Self::Follower => "follower",
            Self::Other => "other",
        }
    }
}

/// How it goes with this node's part in a channel, in the words of the participation API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Active,
    /// The blocks up to the one that this node was told to join with are on their way.
    Onboarding,
    /// It is not served.
    Inactive,
    /// The engine or the removal failed, or the files are damaged.
    Failed,
}

impl Part {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Onboarding => "onboarding",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
        }
    }
}

/// How this node stands to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) relation: Relation,
    pub(crate) part: Part,
}

impl Standing {
    /// A node that follows, and gets the blocks up to this one first if it was told to join with it.
    pub(crate) fn following(shared: &Shared, join: Option<&ChannelConfig>) -> Self {
        let Some(config) = join else {
            return Self {
                relation: Relation::Follower,
                part: Part::Active,
            };
        };
        Self {
            // What it will be, as Fabric says it.
            relation: match engines::is_place_of(shared, config) {
                true => Relation::Consenter,
                false => Relation::Follower,
            },
            part: Part::Onboarding,
        }
    }

    /// Of a channel whose files cannot be used: what this node was to it is not known.
    pub(crate) fn damaged() -> Self {
        Self {
            relation: Relation::Other,
            part: Part::Failed,
        }
    }

    pub(crate) fn inactive(self) -> Self {
        Self {
            part: Part::Inactive,
            ..self
        }
    }

    fn consenting(is_cluster: bool) -> Self {
        let relation = match is_cluster {
            true => Relation::Consenter,
            false => Relation::Other,
        };
        Self {
            relation,
            part: Part::Active,
        }
    }
}

/// A channel that is being served.
pub(crate) struct Chain {
    id: String,
    dir: PathBuf,
    shared: Shared,
    store: Arc<BlockStore>,
    config: ArcSwap<ChannelConfig>,
    height: watch::Sender<u64>,
    recent: Mutex<Recent>,
    /// Why the channel takes no messages at the moment, for example a full disk.
    trouble: Mutex<Option<String>>,
    standing: Mutex<Standing>,
    /// Who leads, by the consenter's number; 0 nobody.
    leader: AtomicU64,
    /// Which consenters are heard, by this node or its leader.
    active: Mutex<Vec<u64>>,
    /// The block this node was told to join with, until it has it.
    join: Mutex<Option<Block>>,
    stop: CancellationToken,
    inbox: mpsc::Sender<driver::Command>,
    height_gauge: Gauge,
    metrics: ChannelMetrics,
}

impl Chain {
    /// Opens the channel in `dir` and starts serving it. A folder without a durable block is
    /// [`ChainError::Empty`].
    pub(crate) fn open(
        id: &str,
        dir: &Path,
        shared: Shared,
        height_gauge: Gauge,
    ) -> Result<Arc<Self>, ChainError> {
        let store = BlockStore::open(shared.env.disk.clone(), dir, BlockStoreOptions::default())?;
        let newest = store.last_block()?.ok_or(ChainError::Empty)?;
        let (config_number, config) = newest_config(&store, &newest)?;
        if config.channel_id() != id {
            return Err(ChainError::OtherChannel(config.channel_id().to_owned()));
        }
        let config = Arc::new(config);
        let join = shared.join_ahead(id, newest.number())?;
        let joined = shared.env.disk.exists(&shared.joined_marker(id))?;
        let running = match &join {
            // Not before it has what it was told to join with.
            Some(_) => Err(NotRunning::NotConsenter),
            None => engines::start(id, &shared, &config, &newest, joined),
        };
        if matches!(running, Err(NotRunning::NotConsenter)) && !joined {
            shared.expect_no_journal(id)?;
        }
        let ports = is_cluster(&config)
            .then_some(shared.cluster.links.as_ref())
            .flatten()
            .map(|links| links.open(id));
        let standing = match &running {
            Err(NotRunning::NotConsenter) => {
                let config = join.as_ref().map(ChannelConfig::from_block);
                Standing::following(&shared, config.and_then(Result::ok).as_ref())
            }
            _ => Standing::consenting(ports.is_some()),
        };
        let (inbox, commands) = mpsc::channel(QUEUE);
        let chain = Arc::new(Self {
            id: id.to_owned(),
            dir: dir.to_owned(),
            height: watch::Sender::new(store.height()),
            store: Arc::new(store),
            config: ArcSwap::new(config),
            recent: Mutex::new(Recent::default()),
            trouble: Mutex::new(None),
            standing: Mutex::new(standing),
            leader: AtomicU64::new(0),
            active: Mutex::new(Vec::new()),
            join: Mutex::new(join),
            stop: CancellationToken::new(),
            inbox,
            height_gauge,
            metrics: shared.metrics.of(id),
            shared,
        });
        chain.height_gauge.set(chain.height() as i64);
        let beginning = driver::Beginning {
            running,
            newest: Arc::new(newest),
            last_config: config_number,
            ports,
        };
        driver::spawn(chain.clone(), commands, beginning);
        Ok(chain)
    }

    /// Creates the channel from its genesis block and starts serving it.
    pub(crate) fn create(
        id: &str,
        dir: &Path,
        genesis: &Block,
        shared: Shared,
        height_gauge: Gauge,
    ) -> Result<Arc<Self>, ChainError> {
        let disk = shared.env.disk.clone();
        let store = BlockStore::open(disk, dir, BlockStoreOptions::default())?;
        store.append(genesis)?;
        drop(store);
        Self::open(id, dir, shared, height_gauge)
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The number of durable blocks.
    pub(crate) fn height(&self) -> u64 {
        *self.height.borrow()
    }

    pub(crate) fn config(&self) -> Arc<ChannelConfig> {
        self.config.load_full()
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    pub(crate) fn standing(&self) -> Standing {
        *self.standing.lock()
    }

    /// The configuration this node was told to join with, until it has its block.
    fn join_config(&self) -> Option<ChannelConfig> {
        let join = self.join.lock();
        ChannelConfig::from_block(join.as_ref()?).ok()
    }

    /// Whether this node takes no part in ordering, or not yet.
    pub(crate) fn is_following(&self) -> bool {
        let standing = self.standing();
        standing.relation == Relation::Follower || standing.part == Part::Onboarding
    }

    /// How this node stands to the channel while it follows.
    fn following(&self) -> Standing {
        Standing::following(&self.shared, self.join_config().as_ref())
    }

    /// Whether this node has the block it was told to join with.
    fn onboarded(&self) -> bool {
        self.join.lock().is_none()
    }

    /// A followed block is durable. False when it stands where the join block should and is another.
    fn reached(&self, block: &Block) -> bool {
        let mut join = self.join.lock();
        let Some(expected) = join.as_ref() else {
            return true;
        };
        if block.number() < expected.number() {
            return true;
        }
        if expected.number() != block.number() || expected.header != block.header {
            return false;
        }
        *join = None;
        tracing::info!(
            channel = self.id,
            "Onboarding finished at block [{}]",
            block.number()
        );
        let mut standing = self.standing.lock();
        // A consenter takes part once its engine runs.
        if standing.relation == Relation::Follower {
            standing.part = Part::Active;
        }
        drop(standing);
        let path = self.shared.join_file(&self.id);
        if let Err(error) = self.shared.env.disk.remove_file(&path) {
            tracing::warn!(channel = self.id, "cannot remove the join block: {error}");
        }
        true
    }

    fn stand(&self, standing: Standing) {
        *self.standing.lock() = standing;
    }

    /// Something of others was refused.
    fn refused(&self, reason: Reason, what: impl std::fmt::Display) {
        if !self.is_stopped() {
            self.shared.refusals.note(&self.id, reason, what);
        }
    }

    /// The disk is full: told once, until there is room again.
    fn note_full(&self, reason: &str) {
        let mut trouble = self.trouble.lock();
        if trouble.is_none() {
            let text = format!(
                "the orderer's disk is full, no transaction is taken until the operator makes room \
                 in {}: {reason}",
                self.dir.display()
            );
            tracing::error!(channel = self.id, "{text}");
            *trouble = Some(text);
        }
    }

    fn note_room(&self) {
        if self.trouble.lock().take().is_some() {
            tracing::info!(channel = self.id, "the disk has room again");
        }
    }

    /// Ends the node: going on could lose what was acknowledged.
    fn fail(&self, reason: String) {
        tracing::error!(channel = self.id, "{reason}");
        *self.trouble.lock() = Some(reason.clone());
        let _ = self.shared.fatal.try_send((self.id.clone(), reason));
    }

    fn send(&self, to: u64, message: Bytes, metadata: Bytes) {
        if let Some(links) = &self.shared.cluster.links {
            links.send(&self.id, to, message, metadata);
        }
    }

    fn forward(&self, to: u64, submission: &Submission) {
        let Ok(envelope) = Envelope::decode(submission.envelope.clone()) else {
            return;
        };
        let Some(links) = &self.shared.cluster.links else {
            return;
        };
        if let Err(reason) = links.forward(&self.id, to, envelope, submission.sequence) {
            // It is sent again by and by; the client is told when that took too long.
            tracing::debug!(channel = self.id, to, %reason, "cannot forward a message");
        }
    }

    fn configure_links(&self, kind: cluster::Kind, members: &[Member]) {
        if let Some(links) = &self.shared.cluster.links {
            links.configure(&self.id, kind, members);
        }
    }

    /// Removes the journal of an engine that is done with the channel. A marker says that the next
    /// one may begin without: when it has the block, if it lies `ahead`, that shows that this
    /// node's part is over. Before that block it was a consenter, and what it signed is forgotten.
    fn forget_journal(&self, ahead: Option<Block>) -> Result<(), DiskError> {
        let (shared, disk) = (&self.shared, self.shared.env.disk.as_ref());
        match ahead {
            Some(block) => {
                shared.remember_join(&self.id, &block)?;
                *self.join.lock() = Some(block);
            }
            None => shared.expect_no_journal(&self.id)?,
        }
        for consensus in [Consensus::Raft, Consensus::Bft] {
            match disk.remove_dir_all(&shared.journal_folder(&self.id, consensus)) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        // Durable before a new journal is written in its place.
        disk.sync_dir(&shared.engine_folder(&self.id))
    }

    pub(crate) fn store(&self) -> &BlockStore {
        &self.store
    }

    /// Filters a message and, when it passes, hands it to the engine. The receiver tells what
    /// became of it once it is durable.
    pub(crate) async fn submit(
        &self,
        incoming: Incoming,
    ) -> Result<oneshot::Receiver<Answer>, Answer> {
        if let Some(trouble) = self.trouble() {
            return Err((Status::ServiceUnavailable, trouble));
        }
        let kind = incoming.kind().map_err(refusal)?;
        let config = self.config();
        let now = self.shared.env.clock.unix_seconds();
        let (envelope, sequence) = match kind {
            Kind::Normal => {
                let sequence = self.shared.filters.check_normal(&config, &incoming, now);
                (incoming.envelope, sequence.map_err(refusal)?)
            }
            Kind::ConfigUpdate => {
                let signer = self.shared.signer.current();
                let author = driver::author(&self.shared, &signer);
                let made = self
                    .shared
                    .filters
                    .process_update(&config, &incoming, author);
                let made = made.map_err(refusal)?;
                self.check_consenters(&config, &made.envelope)
                    .map_err(|reason| (Status::BadRequest, reason))?;
                (made.envelope, made.sequence)
            }
        };
        let (reply, answer) = oneshot::channel();
        let command = driver::Command {
            envelope,
            sequence,
            is_config: kind == Kind::ConfigUpdate,
            reply,
        };
        match self.inbox.send(command).await {
            Ok(()) => Ok(answer),
            Err(_) => Err((Status::ServiceUnavailable, Rejection::Stopped.to_string())),
        }
    }

    fn check_consenters(&self, config: &ChannelConfig, made: &Envelope) -> Result<(), String> {
        if !is_cluster(config) {
            return Ok(());
        }
        let newest = self.store.last_block().map_err(|error| in_full(&error))?;
        let active = self.active.lock().clone();
        let newest = newest.unwrap_or_default();
        engines::check_consenters(&self.shared, config, &newest, made, &active)
    }

    /// Ends the channel's task and writer: no further block is written.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
        if let Some(links) = &self.shared.cluster.links {
            links.close(&self.id);
        }
        self.metrics.forget();
        self.shared.refusals.forget(&self.id);
        // Wakes streams that wait for a block.
        self.height.send_modify(|_| {});
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }
}

/// What a client is told: Fabric's words first, and behind them what helps.
pub(crate) fn refusal(refusal: Refusal) -> Answer {
    let text = match refusal.advice() {
        Some(advice) => format!("{refusal}; {advice}"),
        None => refusal.to_string(),
    };
    (refusal.status(), text)
}

/// The configuration in force at the newest block, and the number of its block.
fn newest_config(store: &BlockStore, newest: &Block) -> Result<(u64, ChannelConfig), ChainError> {
    let number = newest.number();
    let config_number = match number {
        // A genesis block carries no metadata and is its own configuration.
        0 => 0,
        _ => newest
            .last_config_index()
            .map_err(|source| ChainError::Metadata { number, source })?,
    };
    let block = store.block(config_number)?;
    let config = verify_config_block(&block).map_err(|source| ChainError::Config {
        number: config_number,
        source,
    })?;
    Ok((config_number, config))
}

/// Whether a message is of type CONFIG.
fn is_config(envelope: &Envelope) -> bool {
    open_config(envelope).is_ok()
}

/// The configuration after a configuration block.
fn config_after(current: &ChannelConfig, block: &Block) -> Result<ChannelConfig, String> {
    let envelope = selvage_channel::config_transaction(block).map_err(|e| in_full(&e))?;
    let (_, next) = selvage_channel::open_config(&envelope).map_err(|e| in_full(&e))?;
    current.apply(&next).map_err(|e| in_full(&e))
}

/// Encodes a block once for the store.
fn encoded(block: &Block) -> Bytes {
    block.encode_to_vec().into()
}

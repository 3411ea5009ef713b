//! The seam between a consensus engine and everything that touches the world.
//!
//! An [`Engine`] is a state machine: it takes one [`Input`] at a time and answers with
//! [`Effect`]s. It never reads a clock, writes a file or sends a byte itself, so the same engine
//! runs in the orderer, in a test and under a deterministic simulation.
//!
//! What its driver promises:
//!
//! * Effects are carried out in the order given, and before the next input. Writes to the block
//!   store and to the journal only have to be *begun* in that order; their reports come later, each
//!   kind in its own order.
//! * A block from [`Effect::Write`] is durable before [`Input::Persisted`] reports it, and a record
//!   from [`Effect::Journal`] before [`Input::Journaled`] does.
//! * [`Effect::Accept`] is passed on to the client as success. Engines emit it only for messages that
//!   survive a kill at any moment: in a durable block of this node (solo), or on the disks of a
//!   quorum (Raft, BFT).
//! * Messages from [`Effect::Send`] may be lost, doubled and overtaken, but not forged: the driver
//!   knows who sent what it hands in as [`Input::Receive`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use selvage_proto::Message as _;
use selvage_proto::common::{Block, BlockHeader, Consenter, Envelope, MetadataSignature};

use crate::cutter::{BatchLimits, message_size};
use crate::refused::Refused;

/// The driver's name for a client that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A message that passed the filters and waits to be ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Who to answer.
    pub ticket: Ticket,
    /// The encoded envelope, as it will stand in the block.
    pub envelope: Bytes,
    /// Its size as [`message_size`] counts it.
    pub size: u32,
    /// The configuration sequence under which it passed the filters.
    pub sequence: u64,
}

impl Submission {
    /// Encodes an envelope for ordering.
    pub fn new(ticket: Ticket, envelope: &Envelope, sequence: u64) -> Self {
        Self {
            ticket,
            envelope: envelope.encode_to_vec().into(),
            size: message_size(envelope),
            sequence,
        }
    }
}

/// What an engine needs from the channel's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// The configuration's sequence number.
    pub sequence: u64,
    /// Limits of one block.
    pub limits: BatchLimits,
    /// How long a batch may wait for company.
    pub timeout: Duration,
    /// The engine's own settings, the `metadata` of the `ConsensusType` value:
    /// `etcdraft.ConfigMetadata` or `smartbft.Options`, encoded; empty for solo.
    pub metadata: Bytes,
    /// The `Orderers` value, by which BFT channels name their consenters; empty for others.
    pub consenters: Arc<[Consenter]>,
}

/// Another node of the channel, as its engine knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The consenter's number.
    pub id: u64,
    /// Where its cluster service listens.
    pub host: String,
    /// The port there.
    pub port: u32,
    /// The certificate it shows as a TLS client, PEM.
    pub client_tls_cert: Bytes,
    /// The certificate it shows as a TLS server, PEM.
    pub server_tls_cert: Bytes,
}

impl From<&Consenter> for Member {
    fn from(consenter: &Consenter) -> Self {
        Self {
            id: consenter.id.into(),
            host: consenter.host.clone(),
            port: consenter.port,
            client_tls_cert: consenter.client_tls_cert.clone(),
            server_tls_cert: consenter.server_tls_cert.clone(),
        }
    }
}

/// Records for an engine's journal ([`crate::journal`]), written in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalWrite {
    /// Counts up by one with each write of an engine; [`Input::Journaled`] names it.
    pub sequence: u64,
    /// The records, in order.
    pub records: Vec<Bytes>,
    /// Whether everything before may be forgotten: these records alone say what a restarted
    /// engine needs.
    pub checkpoint: bool,
    /// Whether the records must be durable before the report. Others may be lost with the power.
    pub sync: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A normal message wants to be ordered.
    Order(Submission),
    /// A configuration message (type CONFIG, made from an update by the filters) wants to be
    /// ordered.
    Configure(Submission),
    /// The batch timer fired. `generation` is the one it was started with; an engine ignores
    /// others.
    Timer {
        /// Names the start that this firing belongs to.
        generation: u64,
    },
    /// The block of this number, and every one before it, is durable. When it was a configuration
    /// block, `parameters` are those of the configuration now in force.
    Persisted {
        /// The block's number.
        number: u64,
        /// The new configuration, after a configuration block.
        parameters: Option<Parameters>,
    },
    /// The journal write of this sequence, and every one before it, is as durable as it asked.
    Journaled {
        /// [`JournalWrite::sequence`].
        sequence: u64,
    },
    /// A block that [`Effect::CatchUp`] asked for is durable. Reported for each of them in order,
    /// before [`Input::CaughtUp`], so that clients whose messages it holds hear of it and nothing
    /// is ordered twice.
    Fetched {
        /// The block as it is stored.
        block: Arc<Block>,
    },
    /// The blocks that [`Effect::CatchUp`] asked for are durable, the last of them this one.
    CaughtUp {
        /// The newest block's header.
        newest: BlockHeader,
        /// The number of the newest configuration block up to it.
        last_config: u64,
        /// Its consenter metadata, as [`Decision::consenter_metadata`].
        consenter_metadata: Bytes,
        /// The configuration now in force, when a configuration block was among them.
        parameters: Option<Parameters>,
    },
    /// A message for this node could not be sent; more will not get through for a while.
    Unreachable {
        /// The consenter's number.
        id: u64,
    },
    /// A message that another node forwarded, to be ordered if this node leads. Nobody here waits
    /// for an answer.
    Forwarded {
        /// The message; its ticket means nothing.
        submission: Submission,
        /// Whether it is of type CONFIG.
        is_config: bool,
    },
    /// Regular passing of time, for engines with elections. One tick is the length the channel's
    /// consensus metadata says.
    Tick,
    /// A consensus message from another node of the channel.
    Receive {
        /// The consenter's number.
        from: u64,
        /// The message, engine-specific.
        message: Bytes,
    },
}

/// Why an engine did not order a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Too many messages or bytes wait already.
    #[error("the ordering queue is full, try again")]
    Busy,
    /// No node led the channel for as long as a message may wait.
    #[error(
        "no Raft leader; the channel's orderers reach no majority of each other: see which of them \
         run, and try again"
    )]
    NoLeader,
    /// The message was handed on, but no block with it appeared for as long as a message may wait.
    #[error("timed out waiting for the message to be ordered, try again")]
    TimedOut,
    /// This node is no consenter of the channel (any more).
    #[error("this orderer is not a consenter of the channel; send the message to one that is")]
    NotConsenter,
    /// The engine is being stopped.
    #[error(
        "chain is stopped; this orderer is ending: send the message to another one, or again when it \
         runs"
    )]
    Stopped,
}

/// A decided block: header and data complete, metadata still to be added by the writer.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The block, without metadata.
    pub block: Block,
    /// Whether its single message is a configuration.
    pub is_config: bool,
    /// What the engine wants signed into the block beside the configuration index: encoded
    /// `Metadata` (solo and Raft) or view metadata (BFT).
    pub consenter_metadata: Bytes,
    /// Signatures collected by the engine itself. Empty when the writing node signs alone.
    pub signatures: Vec<MetadataSignature>,
}

/// Something the driver has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Start the batch timer, replacing a running one.
    StartTimer {
        /// To be handed back in [`Input::Timer`].
        generation: u64,
        /// When it fires.
        after: Duration,
    },
    /// Stop the batch timer.
    CancelTimer,
    /// Complete, sign and store this block, then report it.
    Write(Decision),
    /// These messages are in durable blocks: tell their clients.
    Accept(Vec<Ticket>),
    /// This message is not ordered: tell its client.
    Refuse(Ticket, Rejection),
    /// The configuration advanced since this message passed the filters. Filter it again and send
    /// it in again, or refuse it with the filter's error. `is_config` tells a CONFIG message, which
    /// has to be rebuilt from the update inside it.
    Revalidate {
        /// The message.
        submission: Submission,
        /// Whether it came as [`Input::Configure`].
        is_config: bool,
    },
    /// Send a consensus message to another node of the channel.
    Send {
        /// The consenter's number.
        to: u64,
        /// The message, engine-specific.
        message: Bytes,
    },
    /// Hand this message to the node that leads. The engine keeps waiting for a block with it.
    Forward {
        /// The consenter's number.
        to: u64,
        /// The message.
        submission: Submission,
        /// Whether it is of type CONFIG.
        is_config: bool,
    },
    /// Append these records to the engine's journal, then report [`Input::Journaled`].
    Journal(JournalWrite),
    /// Fetch the blocks after the newest one up to this number from other nodes, verify and store
    /// them, then report [`Input::CaughtUp`]. Until then the engine emits no [`Effect::Write`].
    CatchUp {
        /// The last block to fetch.
        through: u64,
    },
    /// The nodes to speak with from now on, this one not among them.
    Members(Vec<Member>),
    /// Who leads changed; `None` while nobody does, or nobody could tell.
    Leader(Option<u64>),
    /// Which consenters this node hears from, itself included. With Raft only the leader knows.
    Active(Vec<u64>),
    /// This node is no consenter any more: stop the engine and follow the channel.
    Evicted,
    /// A message of another consenter was refused: count it. The log hears of it from the driver,
    /// which does not let one sender fill it.
    Unheard {
        /// Who sent it.
        from: u64,
        /// Why it was refused.
        why: Refused,
        /// What exactly, for the log; may be empty.
        detail: String,
    },
    /// A first message waits for its batch, for whoever measures how long batches take.
    BatchBegun,
    /// A batch was cut.
    BatchCut,
    /// What this engine keeps begins with the block of this number from now on.
    Snapshot {
        /// The block's number.
        number: u64,
    },
    /// The engine cannot go on without risking the channel's agreement, for this reason, which
    /// says what to do. The driver stops the channel.
    Halt(String),
}

/// A consensus engine of one channel.
pub trait Engine: Send {
    /// Takes one input and says what to do about it.
    fn step(&mut self, input: Input) -> Vec<Effect>;

    /// Stops taking messages. Everything still waiting is refused; blocks on their way to the disk
    /// are still reported and acknowledged.
    fn stop(&mut self) -> Vec<Effect>;
}

//! The seam between a consensus engine and everything that touches the world.
//!
//! An [`Engine`] is a state machine: it takes one [`Input`] at a time and answers with
//! [`Effect`]s. It never reads a clock, writes a file or sends a byte itself, so the same engine
//! runs in the orderer, in a test and under a deterministic simulation.
//!
//! What its driver promises:
//!
//! * Effects are carried out in the order given, and before the next input.
//! * A block from [`Effect::Write`] is durable before [`Input::Persisted`] reports it, and reports
//!   come in block order.
//! * [`Effect::Accept`] is passed on to the client as success. Engines emit it only for messages in
//!   durable blocks, so an acknowledged transaction survives a kill at any moment.

use std::time::Duration;

use bytes::Bytes;
use selvage_proto::Message as _;
use selvage_proto::common::{Block, Envelope, MetadataSignature};

use crate::cutter::{BatchLimits, message_size};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// The configuration's sequence number.
    pub sequence: u64,
    /// Limits of one block.
    pub limits: BatchLimits,
    /// How long a batch may wait for company.
    pub timeout: Duration,
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
    /// No node leads the channel at the moment.
    #[error("no Raft leader")]
    NoLeader,
    /// The engine is being stopped.
    #[error("chain is stopped")]
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
}

/// A consensus engine of one channel.
pub trait Engine: Send {
    /// Takes one input and says what to do about it.
    fn step(&mut self, input: Input) -> Vec<Effect>;

    /// Stops taking messages. Everything still waiting is refused; blocks on their way to the disk
    /// are still reported and acknowledged.
    fn stop(&mut self) -> Vec<Effect>;
}

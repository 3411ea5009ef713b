//! Mistakes put back on purpose. A run with one has to fail; one that is never noticed shows a hole
//! in the simulator. They act at the seams of the engines: on what these ask for, on what they are
//! told, and on what they start from, as a wrong driver, disk or engine would.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use selvage_consensus_raft::wire;
use selvage_ordering::{Decision, Effect, JournalWrite};

use crate::dice::Dice;

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Bug {
    /// Journal records are never written: a restarted node has forgotten its vote and its log.
    ForgetJournal,
    /// One in four journal writes is lost, as on a disk that lies about syncs.
    LoseJournalWrites,
    /// Success is told for messages that were only handed on.
    AcceptForwarded,
    /// Success is told for messages that were refused.
    AcceptRefused,
    /// Blocks go missing before they are stored.
    SkipBlocks,
    /// Checkpoints forget what follows the snapshot.
    EmptyCheckpoints,
    /// A node's block holds one envelope less than the others'.
    DropEnvelope,
    /// Records are reported durable before they are.
    ReportBeforeWriting,
    /// Blocks are reported durable before they are.
    PersistBeforeWriting,
    /// A node fetches one block less than it was told to.
    FetchTooFew,
    /// Nobody is told where messages can be handed on.
    ForgetForwards,
    /// Consensus messages to one member are never sent.
    DeafToOne,
    /// New consenters are not spoken to.
    ForgetMembers,
    /// The engine is not told of new configurations.
    KeepConfiguration,
    /// A configuration block names the one before it as the newest.
    OldLastConfig,
    /// A restarted node gets half of its records, as from a backup.
    RestoreBackup,
    /// A journal that is lost is not missed.
    StartWithoutJournal,
    /// The torn end of a journal is refused: malachite's issue 1434.
    RefuseTornEnd,
    /// A journal that is damaged in the middle is cut off there.
    AcceptDamage,
    /// A leader counts what its fastest follower has for others too, and so commits without a quorum:
    /// openraft's issue 1802.
    CommitWithoutQuorum,
    /// A restarted node has forgotten its term and its vote.
    ForgetHardState,
    /// A restarted node has forgotten what it proposed and makes another block for the same round:
    /// malachite's issue 864.
    ForgetProposals,
    /// Decided blocks are stored with fewer signatures.
    StripSignatures,
    /// Fetched blocks are not verified.
    TrustFetched,
    /// The engine does not see fetched blocks.
    SkipFetched,
    /// Every signature counts as good.
    BelieveSignatures,
    /// Nothing that a leader proposes is judged.
    JudgeNothing,
    /// A consenter that was left out, and gave up its journal, begins again at any block that names it.
    BeginAnywhere,
    /// Somebody runs one orderer twice.
    RunTwice,
    /// One more consenter lies than a cluster can bear.
    OneLiarMore,
}

impl Bug {
    /// Those that either engine can have.
    pub const BOTH: [Self; 17] = [
        Self::ForgetJournal,
        Self::LoseJournalWrites,
        Self::AcceptForwarded,
        Self::AcceptRefused,
        Self::SkipBlocks,
        Self::DropEnvelope,
        Self::ReportBeforeWriting,
        Self::PersistBeforeWriting,
        Self::ForgetForwards,
        Self::DeafToOne,
        Self::ForgetMembers,
        Self::KeepConfiguration,
        Self::OldLastConfig,
        Self::RestoreBackup,
        Self::StartWithoutJournal,
        Self::RefuseTornEnd,
        Self::AcceptDamage,
    ];

    /// Those of Raft alone. The BFT engine does not mind some of them: it asks again for blocks, and
    /// signs the same again from the same proposal.
    pub const RAFT: [Self; 4] = [
        Self::CommitWithoutQuorum,
        Self::EmptyCheckpoints,
        Self::FetchTooFew,
        Self::ForgetHardState,
    ];

    /// Those of BFT alone.
    pub const BFT: [Self; 8] = [
        Self::ForgetProposals,
        Self::StripSignatures,
        Self::TrustFetched,
        Self::SkipFetched,
        Self::BelieveSignatures,
        Self::JudgeNothing,
        Self::RunTwice,
        Self::OneLiarMore,
    ];

    /// Those of BFT that take more seeds than a test has.
    pub const RARE: [Self; 1] = [Self::BeginAnywhere];

    /// What becomes of an engine's effects.
    pub fn corrupt(self, effects: Vec<Effect>, dice: &Dice) -> Vec<Effect> {
        let mut out = Vec::with_capacity(effects.len());
        for effect in effects {
            self.one(effect, dice, &mut out);
        }
        out
    }

    fn one(self, effect: Effect, dice: &Dice, out: &mut Vec<Effect>) {
        match (self, effect) {
            (Self::ForgetJournal, Effect::Journal(write)) => {
                out.push(Effect::Journal(empty(write)));
            }
            (Self::LoseJournalWrites, Effect::Journal(write)) if dice.chance(250) => {
                out.push(Effect::Journal(empty(write)));
            }
            (Self::EmptyCheckpoints, Effect::Journal(mut write)) if write.checkpoint => {
                write.records.truncate(1);
                out.push(Effect::Journal(write));
            }
            (
                Self::AcceptForwarded,
                Effect::Forward {
                    to,
                    submission,
                    is_config,
                },
            ) => {
                let ticket = submission.ticket;
                out.push(Effect::Forward {
                    to,
                    submission,
                    is_config,
                });
                out.push(Effect::Accept(vec![ticket]));
            }
            (Self::AcceptRefused, Effect::Refuse(ticket, _)) => {
                out.push(Effect::Accept(vec![ticket]));
            }
            (Self::ForgetForwards, Effect::Forward { .. }) => {}
            (Self::SkipBlocks, Effect::Write(_)) if dice.chance(50) => {}
            (Self::DropEnvelope, Effect::Write(decision)) if dice.chance(50) => {
                out.push(Effect::Write(smaller(decision)));
            }
            (Self::StripSignatures, Effect::Write(mut decision)) if dice.chance(50) => {
                decision.signatures.truncate(1);
                out.push(Effect::Write(decision));
            }
            (Self::FetchTooFew, Effect::CatchUp { through }) => {
                let through = through.saturating_sub(1);
                out.push(Effect::CatchUp { through });
            }
            (Self::DeafToOne, Effect::Send { to: 1, .. }) => {}
            (_, effect) => out.push(effect),
        }
    }
}

fn empty(write: JournalWrite) -> JournalWrite {
    JournalWrite {
        records: Vec::new(),
        ..write
    }
}

fn smaller(mut decision: Decision) -> Decision {
    if let Some(data) = &mut decision.block.data {
        data.data.pop();
    }
    if let Some(header) = &mut decision.block.header {
        header.data_hash = Bytes::from_static(b"another");
    }
    decision
}

const APPEND_RESPONSE: i32 = 4;

/// What leaders were told that some follower has: node, term and place in the log.
pub type Acknowledged = BTreeMap<usize, (u64, u64)>;

/// Makes a leader believe of any follower what it knows of its fastest one.
pub fn overrate(known: &mut Acknowledged, leader: usize, message: Bytes) -> Bytes {
    let Ok(mut decoded) = wire::Message::decode(message.clone()) else {
        return message;
    };
    if decoded.kind != APPEND_RESPONSE || decoded.reject {
        return message;
    }
    let newest = known.entry(leader).or_default();
    *newest = (*newest).max((decoded.term, decoded.index));
    if newest.0 == decoded.term {
        decoded.index = newest.1;
    }
    decoded.encode_to_vec().into()
}

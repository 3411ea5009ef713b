//! Mistakes put back on purpose. A run with one has to fail; one that is never noticed shows a hole
//! in the simulator.
//!
//! Most act at the seams of the engines: on what these ask for, on what they are told, and on what they
//! start from, as a wrong driver, disk or engine would. Some are inside an engine or the journal
//! ([`selvage_ordering::mistakes`]); they can be made only with this crate's feature `mistakes`.

use bytes::Bytes;
use selvage_crypto::sha256_parts;
use selvage_ordering::mistakes::Mistake;
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
    /// A journal that is damaged in the middle is cut off there.
    AcceptDamage,
    /// A restarted node has forgotten its term and its vote.
    ForgetHardState,
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
    /// Peers do not look whether a transaction's id was there before.
    ValidTwice,
    /// One peer does not.
    JudgeAlone,
    /// A peer loses what a transaction writes.
    LoseWrite,
    /// A message goes to the engine twice although it came once.
    HandInTwice,
    /// A message that nobody sent is ordered.
    MakeUp,
    /// A configuration has the number of the one before it.
    OldSequence,
    /// Journals never begin anew.
    NeverCheckpoint,
    /// [`Mistake::CommitUnsorted`].
    CommitUnsorted,
    /// [`Mistake::TrustSuccessor`].
    TrustSuccessor,
    /// [`Mistake::ElectWhileRestoring`].
    ElectWhileRestoring,
    /// [`Mistake::AwaitLostConfig`].
    AwaitLostConfig,
    /// [`Mistake::MissSilence`].
    MissSilence,
    /// [`Mistake::ForgetProposal`].
    ForgetProposal,
    /// [`Mistake::SendBackEarly`].
    SendBackEarly,
    /// [`Mistake::RefuseTornEnd`].
    RefuseTornEnd,
}

/// A mistake and the invariant that has to notice it first.
pub type Noticed = (Bug, &'static str);

impl Bug {
    /// Those at the seams of the Raft engine.
    pub const RAFT: &[Noticed] = &[
        (Self::ForgetJournal, "durability"),
        (Self::LoseJournalWrites, "durability"),
        (Self::AcceptForwarded, "acknowledged"),
        (Self::AcceptRefused, "acknowledged"),
        (Self::SkipBlocks, "liveness"),
        (Self::DropEnvelope, "agreement"),
        (Self::ReportBeforeWriting, "durability"),
        (Self::PersistBeforeWriting, "durability"),
        (Self::ForgetForwards, "liveness"),
        (Self::DeafToOne, "liveness"),
        (Self::ForgetMembers, "liveness"),
        (Self::KeepConfiguration, "liveness"),
        (Self::OldLastConfig, "liveness"),
        (Self::RestoreBackup, "durability"),
        (Self::StartWithoutJournal, "durability"),
        (Self::AcceptDamage, "durability"),
        (Self::EmptyCheckpoints, "durability"),
        (Self::FetchTooFew, "liveness"),
        (Self::ForgetHardState, "promises"),
        (Self::ValidTwice, "once"),
        (Self::JudgeAlone, "codes"),
        (Self::LoseWrite, "state"),
        (Self::HandInTwice, "copies"),
        (Self::MakeUp, "origin"),
        (Self::OldSequence, "configurations"),
        (Self::NeverCheckpoint, "bounds"),
    ];

    /// Those at the seams of the BFT engine. It does not mind some of Raft's: it asks again for
    /// blocks, and signs the same again from the same proposal.
    pub const BFT: &[Noticed] = &[
        (Self::ForgetJournal, "durability"),
        (Self::LoseJournalWrites, "votes"),
        (Self::AcceptForwarded, "acknowledged"),
        (Self::AcceptRefused, "acknowledged"),
        (Self::SkipBlocks, "liveness"),
        (Self::DropEnvelope, "agreement"),
        (Self::ReportBeforeWriting, "votes"),
        (Self::PersistBeforeWriting, "durability"),
        (Self::ForgetForwards, "liveness"),
        (Self::DeafToOne, "liveness"),
        (Self::ForgetMembers, "liveness"),
        (Self::KeepConfiguration, "signatures"),
        (Self::OldLastConfig, "signatures"),
        (Self::RestoreBackup, "votes"),
        (Self::StartWithoutJournal, "votes"),
        (Self::AcceptDamage, "durability"),
        (Self::StripSignatures, "signatures"),
        (Self::TrustFetched, "signatures"),
        (Self::SkipFetched, "repetitions"),
        (Self::BelieveSignatures, "signatures"),
        (Self::JudgeNothing, "validity"),
        (Self::RunTwice, "votes"),
        (Self::OneLiarMore, "agreement"),
        (Self::LoseWrite, "state"),
        (Self::MakeUp, "origin"),
        (Self::NeverCheckpoint, "bounds"),
        (Self::BeginAnywhere, "votes"),
    ];

    /// Those inside the Raft engine, and a seed from which on it is not far to one that shows them.
    pub const IN_RAFT: &[(Noticed, u64)] = &[
        ((Self::CommitUnsorted, "agreement"), 1),
        ((Self::TrustSuccessor, "liveness"), 225),
        ((Self::ElectWhileRestoring, "no panic"), 310),
        ((Self::AwaitLostConfig, "liveness"), 495),
        ((Self::MissSilence, "liveness"), 640),
        ((Self::RefuseTornEnd, "durability"), 1),
    ];

    /// The same for BFT.
    pub const IN_BFT: &[(Noticed, u64)] = &[
        ((Self::ForgetProposal, "votes"), 1),
        ((Self::SendBackEarly, "liveness"), 540),
        ((Self::RefuseTornEnd, "durability"), 1),
    ];

    /// The mistake that is made inside an engine.
    pub fn mistake(self) -> Option<Mistake> {
        Some(match self {
            Self::CommitUnsorted => Mistake::CommitUnsorted,
            Self::TrustSuccessor => Mistake::TrustSuccessor,
            Self::ElectWhileRestoring => Mistake::ElectWhileRestoring,
            Self::AwaitLostConfig => Mistake::AwaitLostConfig,
            Self::MissSilence => Mistake::MissSilence,
            Self::ForgetProposal => Mistake::ForgetProposal,
            Self::SendBackEarly => Mistake::SendBackEarly,
            Self::RefuseTornEnd => Mistake::RefuseTornEnd,
            _ => return None,
        })
    }

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
            (Self::NeverCheckpoint, Effect::Journal(mut write)) => {
                write.checkpoint = false;
                out.push(Effect::Journal(write));
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
    let block = &mut decision.block;
    if let Some(data) = &mut block.data {
        data.data.pop();
    }
    let hash = sha256_parts(block.envelopes().iter().map(Bytes::as_ref));
    if let Some(header) = &mut block.header {
        header.data_hash = hash.to_vec().into();
    }
    decision
}

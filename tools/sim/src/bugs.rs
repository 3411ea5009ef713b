//! Mistakes put back on purpose. A run with one has to fail; one that is never noticed shows a hole
//! in the simulator. They act on what engines ask for, as a wrong driver or a wrong engine would.

use selvage_ordering::{Effect, JournalWrite};

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
    /// Blocks go missing before they are stored.
    SkipBlocks,
    /// Checkpoints forget what follows the snapshot.
    EmptyCheckpoints,
    /// A node's block holds one envelope less than the others'.
    DropEnvelope,
    /// Messages leave before the records they promise are on disk.
    PromiseBeforeWriting,
    /// A node fetches one block less than it was told to.
    FetchTooFew,
    /// Nobody is told where messages can be handed on.
    ForgetForwards,
    /// Consensus messages to one member are never sent.
    DeafToOne,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::ForgetJournal,
        Self::LoseJournalWrites,
        Self::AcceptForwarded,
        Self::SkipBlocks,
        Self::EmptyCheckpoints,
        Self::DropEnvelope,
        Self::PromiseBeforeWriting,
        Self::FetchTooFew,
        Self::ForgetForwards,
        Self::DeafToOne,
    ];

    /// What becomes of an engine's effects.
    pub fn corrupt(self, effects: Vec<Effect>, dice: &Dice) -> Vec<Effect> {
        let mut out = Vec::with_capacity(effects.len());
        for effect in effects {
            self.one(effect, dice, &mut out);
        }
        if self == Self::PromiseBeforeWriting {
            out.sort_by_key(|effect| !matches!(effect, Effect::Send { .. }));
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
            (Self::ForgetForwards, Effect::Forward { .. }) => {}
            (Self::SkipBlocks, Effect::Write(_)) if dice.chance(50) => {}
            (Self::DropEnvelope, Effect::Write(mut decision)) if dice.chance(50) => {
                if let Some(data) = &mut decision.block.data {
                    data.data.pop();
                }
                if let Some(header) = &mut decision.block.header {
                    header.data_hash = bytes::Bytes::from_static(b"another");
                }
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

//! When batches are cut: the block cutter together with the batch timer.
//!
//! **Eager cutting.** Fabric keeps a lone transaction waiting for the whole batch timeout. Here,
//! when no block is on its way, a message is cut at once; what arrives while one is on its way
//! shares the next. Under load blocks therefore grow by themselves, and the timeout is only the
//! upper bound that the channel's configuration promises.

use std::time::Duration;

use crate::cutter::BlockCutter;
use crate::engine::{Effect, Parameters, Submission};

/// When a batch that reached no limit is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cutting {
    /// As Fabric: when the batch timeout ends.
    Timeout,
    /// As soon as no block is on its way. When messages gathered behind the last block, that is a
    /// sign of load, and the batch stays open for another `linger` so that fewer, larger blocks
    /// reach the peers; zero never waits.
    Eager {
        /// How long a batch stays open under load.
        linger: Duration,
    },
}

impl Default for Cutting {
    fn default() -> Self {
        Self::Eager {
            linger: Duration::from_millis(5),
        }
    }
}

/// Gathers messages into batches. It starts and stops the batch timer through effects; the engine
/// that owns it hands the firings back and says when its blocks are through.
#[derive(Debug)]
pub struct Batcher {
    cutting: Cutting,
    cutter: BlockCutter<Submission>,
    timer: Option<u64>,
    timers_started: u64,
}

impl Batcher {
    /// An empty batcher.
    pub fn new(cutting: Cutting) -> Self {
        Self {
            cutting,
            cutter: BlockCutter::new(),
            timer: None,
            timers_started: 0,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.cutter.is_empty()
    }

    /// Takes a normal message and answers with the batches it finished. `idle` says that no block is
    /// on its way.
    pub fn add(
        &mut self,
        message: Submission,
        parameters: &Parameters,
        idle: bool,
        out: &mut Vec<Effect>,
    ) -> Vec<Vec<Submission>> {
        let began_empty = self.cutter.is_empty();
        let batches = self.gather(message, parameters, idle, out);
        out.extend(batches.iter().map(|_| Effect::BatchCut));
        if !self.cutter.is_empty() && (began_empty || !batches.is_empty()) {
            out.push(Effect::BatchBegun);
        }
        batches
    }

    fn gather(
        &mut self,
        message: Submission,
        parameters: &Parameters,
        idle: bool,
        out: &mut Vec<Effect>,
    ) -> Vec<Vec<Submission>> {
        let size = message.size;
        let cut = self.cutter.ordered(message, size, &parameters.limits);
        let mut batches = cut.batches;
        if !cut.pending {
            self.stop_timer(out);
            return batches;
        }
        let eager = matches!(self.cutting, Cutting::Eager { .. });
        // A running timer under eager cutting means the batch lingers for company.
        if eager && idle && batches.is_empty() && self.timer.is_none() {
            batches.extend(self.cutter.cut());
        } else if !batches.is_empty() || self.timer.is_none() {
            self.start_timer(parameters.timeout, out);
        }
        batches
    }

    /// Cuts what waits, because a configuration comes next or the engine has room.
    pub fn flush(&mut self, out: &mut Vec<Effect>) -> Option<Vec<Submission>> {
        self.stop_timer(out);
        self.cut(out)
    }

    /// The timer of this generation fired.
    pub fn fired(&mut self, generation: u64, out: &mut Vec<Effect>) -> Option<Vec<Submission>> {
        if self.timer != Some(generation) {
            return None;
        }
        self.timer = None;
        self.cut(out)
    }

    fn cut(&mut self, out: &mut Vec<Effect>) -> Option<Vec<Submission>> {
        let batch = self.cutter.cut();
        out.extend(batch.iter().map(|_| Effect::BatchCut));
        batch
    }

    /// No block is on its way any more: cuts what gathered, or lets it linger.
    pub fn idle(
        &mut self,
        parameters: &Parameters,
        out: &mut Vec<Effect>,
    ) -> Option<Vec<Submission>> {
        let Cutting::Eager { linger } = self.cutting else {
            return None;
        };
        if self.cutter.is_empty() {
            return None;
        }
        if linger.is_zero() {
            return self.flush(out);
        }
        self.start_timer(linger.min(parameters.timeout), out);
        None
    }

    fn start_timer(&mut self, after: Duration, out: &mut Vec<Effect>) {
        self.timers_started += 1;
        self.timer = Some(self.timers_started);
        out.push(Effect::StartTimer {
            generation: self.timers_started,
            after,
        });
    }

    fn stop_timer(&mut self, out: &mut Vec<Effect>) {
        if self.timer.take().is_some() {
            out.push(Effect::CancelTimer);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cutter::BatchLimits;
    use crate::engine::Ticket;

    /// What whoever measures batches hears of one message of this size: `B` one begins to wait, `C`
    /// one is cut.
    fn check(batcher: &mut Batcher, size: u32, idle: bool, expected: &str) {
        let parameters = Parameters {
            sequence: 0,
            limits: BatchLimits {
                max_messages: 2,
                preferred_bytes: 100,
            },
            timeout: Duration::from_secs(1),
            metadata: Bytes::new(),
            consenters: [].into(),
        };
        let message = Submission {
            ticket: Ticket(1),
            envelope: Bytes::new(),
            size,
            sequence: 0,
        };
        let mut out = Vec::new();
        let _ = batcher.add(message, &parameters, idle, &mut out);
        assert_eq!(short(&out), expected);
    }

    fn short(effects: &[Effect]) -> String {
        let one = |effect: &Effect| match effect {
            Effect::BatchBegun => "B",
            Effect::BatchCut => "C",
            _ => "",
        };
        effects.iter().map(one).collect()
    }

    #[test]
    fn batches_are_told_from_their_first_message_to_their_cut() {
        let mut batcher = Batcher::new(Cutting::Timeout);
        check(&mut batcher, 10, true, "B");
        check(&mut batcher, 10, true, "C");
        check(&mut batcher, 60, true, "B");
        // It does not fit in with the one that waits, and waits itself.
        check(&mut batcher, 60, true, "CB");
        // One that is too large for company stands alone behind it.
        check(&mut batcher, 101, true, "CC");
        check(&mut batcher, 10, true, "B");
        let mut out = Vec::new();
        assert!(batcher.flush(&mut out).is_some());
        assert!(batcher.flush(&mut out).is_none());
        assert_eq!(short(&out), "C");

        let mut eager = Batcher::new(Cutting::default());
        check(&mut eager, 10, true, "C");
        check(&mut eager, 10, false, "B");
        check(&mut eager, 10, false, "C");
    }
}

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
        self.cutter.cut()
    }

    /// The timer of this generation fired.
    pub fn fired(&mut self, generation: u64) -> Option<Vec<Submission>> {
        if self.timer != Some(generation) {
            return None;
        }
        self.timer = None;
        self.cutter.cut()
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

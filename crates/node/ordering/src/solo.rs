//! The single-node engine: every accepted message is ordered by this node alone.

use std::collections::VecDeque;

use bytes::Bytes;
use selvage_proto::common::BlockHeader;

use crate::batcher::{Batcher, Cutting};
use crate::block::Tip;
use crate::engine::{Decision, Effect, Engine, Input, Parameters, Rejection, Submission, Ticket};

/// Options of the solo engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoloOptions {
    /// When to cut.
    pub cutting: Cutting,
    /// Messages that may wait, beyond which new ones are refused.
    pub max_waiting: usize,
    /// Bytes of messages that may wait, beyond which new ones are refused.
    pub max_waiting_bytes: usize,
}

impl Default for SoloOptions {
    fn default() -> Self {
        Self {
            cutting: Cutting::default(),
            max_waiting: 20_000,
            max_waiting_bytes: 64 << 20,
        }
    }
}

/// A block on its way to the disk.
#[derive(Debug)]
struct InFlight {
    number: u64,
    tickets: Vec<Ticket>,
    bytes: usize,
}

/// The single-node engine of one channel.
#[derive(Debug)]
pub struct Solo {
    options: SoloOptions,
    parameters: Parameters,
    tip: Tip,
    batcher: Batcher,
    in_flight: VecDeque<InFlight>,
    /// Messages behind a configuration block that is not in force yet.
    held: VecDeque<(Submission, bool)>,
    config_in_flight: Option<u64>,
    waiting: usize,
    waiting_bytes: usize,
    stopped: bool,
}

impl Solo {
    /// An engine that continues after the block with header `newest`.
    pub fn new(newest: &BlockHeader, parameters: Parameters, options: SoloOptions) -> Self {
        Self {
            options,
            parameters,
            tip: Tip::after(newest),
            batcher: Batcher::new(options.cutting),
            in_flight: VecDeque::new(),
            held: VecDeque::new(),
            config_in_flight: None,
            waiting: 0,
            waiting_bytes: 0,
            stopped: false,
        }
    }

    fn admit(&mut self, submission: Submission, is_config: bool, out: &mut Vec<Effect>) {
        let bytes = submission.envelope.len();
        let refusal = if self.stopped {
            Some(Rejection::Stopped)
        } else if self.waiting >= self.options.max_waiting
            || self.waiting_bytes + bytes > self.options.max_waiting_bytes.max(bytes)
        {
            Some(Rejection::Busy)
        } else {
            None
        };
        if let Some(reason) = refusal {
            out.push(Effect::Refuse(submission.ticket, reason));
            return;
        }
        self.waiting += 1;
        self.waiting_bytes += bytes;
        self.take(submission, is_config, out);
    }

    /// Orders an admitted message, or holds it while a configuration block decides under which
    /// rules.
    fn take(&mut self, submission: Submission, is_config: bool, out: &mut Vec<Effect>) {
        if self.config_in_flight.is_some() {
            self.held.push_back((submission, is_config));
            return;
        }
        if submission.sequence != self.parameters.sequence {
            self.waiting -= 1;
            self.waiting_bytes -= submission.envelope.len();
            out.push(Effect::Revalidate {
                submission,
                is_config,
            });
            return;
        }
        if is_config {
            if let Some(batch) = self.batcher.flush(out) {
                self.write(batch, false, out);
            }
            self.write(vec![submission], true, out);
            return;
        }
        let idle = self.in_flight.is_empty();
        for batch in self.batcher.add(submission, &self.parameters, idle, out) {
            self.write(batch, false, out);
        }
    }

    fn write(&mut self, batch: Vec<Submission>, is_config: bool, out: &mut Vec<Effect>) {
        let tickets = batch.iter().map(|s| s.ticket).collect();
        let bytes = batch.iter().map(|s| s.envelope.len()).sum();
        let envelopes = batch.into_iter().map(|s| s.envelope).collect();
        let block = self.tip.next_block(envelopes);
        let number = block.number();
        self.in_flight.push_back(InFlight {
            number,
            tickets,
            bytes,
        });
        if is_config {
            self.config_in_flight = Some(number);
        }
        out.push(Effect::Write(Decision {
            block,
            is_config,
            consenter_metadata: Bytes::new(),
            signatures: Vec::new(),
        }));
    }

    fn persisted(&mut self, number: u64, parameters: Option<Parameters>, out: &mut Vec<Effect>) {
        let mut accepted = Vec::new();
        while self.in_flight.front().is_some_and(|b| b.number <= number) {
            if let Some(block) = self.in_flight.pop_front() {
                self.waiting -= block.tickets.len();
                self.waiting_bytes -= block.bytes;
                accepted.extend(block.tickets);
            }
        }
        if !accepted.is_empty() {
            out.push(Effect::Accept(accepted));
        }
        if let Some(parameters) = parameters {
            self.parameters = parameters;
        }
        if self.config_in_flight.is_some_and(|n| n <= number) {
            self.config_in_flight = None;
            for (submission, is_config) in std::mem::take(&mut self.held) {
                self.take(submission, is_config, out);
            }
        }
        if self.in_flight.is_empty()
            && let Some(batch) = self.batcher.idle(&self.parameters, out)
        {
            self.write(batch, false, out);
        }
    }
}

impl Engine for Solo {
    fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        match input {
            Input::Order(submission) => self.admit(submission, false, &mut out),
            Input::Configure(submission) => self.admit(submission, true, &mut out),
            Input::Timer { generation } => {
                if let Some(batch) = self.batcher.fired(generation, &mut out) {
                    self.write(batch, false, &mut out);
                }
            }
            Input::Persisted { number, parameters } => {
                self.persisted(number, parameters, &mut out);
            }
            // One node: there is nobody to elect, to hear from or to fetch from.
            Input::Tick
            | Input::Receive { .. }
            | Input::Forwarded { .. }
            | Input::Unreachable { .. }
            | Input::Journaled { .. }
            | Input::Fetched { .. }
            | Input::CaughtUp { .. } => {}
        }
        out
    }

    fn stop(&mut self) -> Vec<Effect> {
        let mut out = Vec::new();
        self.stopped = true;
        let pending = self.batcher.flush(&mut out).unwrap_or_default();
        let held = std::mem::take(&mut self.held).into_iter().map(|(s, _)| s);
        for submission in pending.into_iter().chain(held) {
            self.waiting -= 1;
            self.waiting_bytes -= submission.envelope.len();
            out.push(Effect::Refuse(submission.ticket, Rejection::Stopped));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use selvage_proto::block::header_bytes;

    use super::*;
    use crate::block::Tip;
    use crate::cutter::BatchLimits;

    const TIMEOUT: Duration = Duration::from_secs(1);
    const LINGER: Duration = Duration::from_millis(5);
    fn parameters(sequence: u64) -> Parameters {
        Parameters {
            sequence,
            limits: BatchLimits {
                max_messages: 3,
                preferred_bytes: 100,
            },
            timeout: TIMEOUT,
            metadata: Bytes::new(),
            consenters: [].into(),
        }
    }

    fn solo(cutting: Cutting) -> Solo {
        let options = SoloOptions {
            cutting,
            ..SoloOptions::default()
        };
        Solo::new(&BlockHeader::default(), parameters(0), options)
    }

    fn message(ticket: u64, sequence: u64) -> Submission {
        Submission {
            ticket: Ticket(ticket),
            envelope: ticket.to_be_bytes().to_vec().into(),
            size: 10,
            sequence,
        }
    }

    fn order(ticket: u64) -> Input {
        Input::Order(message(ticket, 0))
    }

    fn persisted(number: u64) -> Input {
        Input::Persisted {
            number,
            parameters: None,
        }
    }

    /// Effects in short: `W1[7,8]` block 1 with messages 7 and 8 (`C` for a configuration), `A`
    /// accepted, `R` refused, `V` to be validated again, `T` timer started, `X` timer stopped. What
    /// only measures is left out.
    fn short(effects: &[Effect]) -> String {
        let list = |tickets: Vec<u64>| {
            let texts: Vec<String> = tickets.iter().map(u64::to_string).collect();
            format!("[{}]", texts.join(","))
        };
        let one = |effect: &Effect| match effect {
            Effect::StartTimer { after, .. } if *after == TIMEOUT => "T".to_owned(),
            Effect::StartTimer { after, .. } => format!("T{}ms", after.as_millis()),
            Effect::CancelTimer => "X".to_owned(),
            Effect::Write(decision) => {
                let kind = if decision.is_config { "C" } else { "W" };
                let number = |b: &Bytes| {
                    let bytes: [u8; 8] = b.as_ref().try_into().expect("a ticket in 8 bytes");
                    u64::from_be_bytes(bytes)
                };
                let tickets = decision.block.envelopes().iter().map(number).collect();
                format!("{kind}{}{}", decision.block.number(), list(tickets))
            }
            Effect::Accept(tickets) => {
                format!("A{}", list(tickets.iter().map(|t| t.0).collect()))
            }
            Effect::Refuse(ticket, _) => format!("R{}", ticket.0),
            Effect::Revalidate { submission, .. } => format!("V{}", submission.ticket.0),
            other => panic!("solo does not emit {other:?}"),
        };
        let measures = |e: &&Effect| matches!(e, Effect::BatchBegun | Effect::BatchCut);
        let effects = effects.iter().filter(|effect| !measures(effect));
        effects.map(one).collect::<Vec<_>>().join(" ")
    }

    fn check(engine: &mut Solo, steps: &[(Input, &str)]) {
        for (i, (input, expected)) in steps.iter().enumerate() {
            let effects = engine.step(input.clone());
            assert_eq!(short(&effects), *expected, "step {i}: {input:?}");
        }
    }

    #[test]
    fn eager_cutting_writes_a_lone_message_at_once() {
        let mut engine = solo(Cutting::Eager { linger: LINGER });
        check(
            &mut engine,
            &[
                (order(1), "W1[1]"),
                (persisted(1), "A[1]"),
                (order(2), "W2[2]"),
                (persisted(2), "A[2]"),
            ],
        );
    }

    #[test]
    fn messages_behind_a_write_share_the_next_block() {
        let mut engine = solo(Cutting::Eager { linger: LINGER });
        check(
            &mut engine,
            &[
                (order(1), "W1[1]"),
                (order(2), "T"),
                (order(3), ""),
                (persisted(1), "A[1] T5ms"),
                // The timer that was replaced may still fire: it is an old generation.
                (Input::Timer { generation: 1 }, ""),
                (Input::Timer { generation: 2 }, "W2[2,3]"),
                (persisted(2), "A[2,3]"),
            ],
        );
    }

    #[test]
    fn a_full_batch_does_not_linger() {
        let mut engine = solo(Cutting::Eager { linger: LINGER });
        check(
            &mut engine,
            &[
                (order(1), "W1[1]"),
                (order(2), "T"),
                (persisted(1), "A[1] T5ms"),
                (order(3), ""),
                (order(4), "X W2[2,3,4]"),
            ],
        );
    }

    #[test]
    fn without_linger_the_next_block_follows_the_last() {
        let linger = Duration::ZERO;
        let mut engine = solo(Cutting::Eager { linger });
        check(
            &mut engine,
            &[
                (order(1), "W1[1]"),
                (order(2), "T"),
                (persisted(1), "A[1] X W2[2]"),
            ],
        );
    }

    #[test]
    fn timeout_cutting_waits() {
        let mut engine = solo(Cutting::Timeout);
        check(
            &mut engine,
            &[
                (order(1), "T"),
                (order(2), ""),
                (Input::Timer { generation: 1 }, "W1[1,2]"),
                (order(3), "T"),
                (persisted(1), "A[1,2]"),
                (order(4), ""),
                (order(5), "X W2[3,4,5]"),
            ],
        );
    }

    #[test]
    fn a_configuration_stands_alone_and_holds_what_follows() {
        let mut engine = solo(Cutting::Timeout);
        let in_force = Input::Persisted {
            number: 2,
            parameters: Some(parameters(1)),
        };
        check(
            &mut engine,
            &[
                (order(1), "T"),
                (Input::Configure(message(2, 0)), "X W1[1] C2[2]"),
                (order(3), ""),
                (persisted(1), "A[1]"),
                (in_force, "A[2] V3"),
                (order(4), "V4"),
                (Input::Order(message(3, 1)), "T"),
                (Input::Configure(message(5, 0)), "V5"),
            ],
        );
    }

    #[test]
    fn a_full_queue_refuses() {
        let options = SoloOptions {
            cutting: Cutting::Timeout,
            max_waiting: 2,
            max_waiting_bytes: 1000,
        };
        let mut engine = Solo::new(&BlockHeader::default(), parameters(0), options);
        check(
            &mut engine,
            &[(order(1), "T"), (order(2), ""), (order(3), "R3")],
        );

        let options = SoloOptions {
            max_waiting: 100,
            max_waiting_bytes: 15,
            ..options
        };
        let mut engine = Solo::new(&BlockHeader::default(), parameters(0), options);
        check(&mut engine, &[(order(1), "T"), (order(2), "R2")]);
    }

    #[test]
    fn stopping_refuses_what_waits_and_acknowledges_what_is_written() {
        let mut engine = solo(Cutting::Eager { linger: LINGER });
        check(&mut engine, &[(order(1), "W1[1]"), (order(2), "T")]);
        assert_eq!(short(&engine.stop()), "X R2");
        check(&mut engine, &[(order(3), "R3"), (persisted(1), "A[1]")]);
    }

    /// Plays random inputs the way a driver would and checks what a client may rely on.
    fn play(choices: &[u8], cutting: Cutting) {
        let mut engine = solo(cutting);
        let mut tip = Tip::after(&BlockHeader::default());
        let (mut sent, mut written, mut accepted) = (0, Vec::new(), Vec::new());
        let (mut timer, mut queue) = (None, VecDeque::new());
        let mut run = |input: Input, timer: &mut Option<u64>, queue: &mut VecDeque<u64>| {
            for effect in engine.step(input) {
                match effect {
                    Effect::StartTimer { generation, .. } => *timer = Some(generation),
                    Effect::CancelTimer => *timer = None,
                    Effect::BatchBegun | Effect::BatchCut => {}
                    Effect::Write(decision) => {
                        let header = decision.block.header.clone().expect("a header");
                        assert_eq!(header.number, tip.number() + 1);
                        assert_eq!(header.previous_hash, tip.hash());
                        assert!(!header_bytes(&header).is_empty());
                        tip = Tip::after(&header);
                        queue.push_back(header.number);
                        written.extend(decision.block.envelopes().iter().cloned());
                    }
                    Effect::Accept(tickets) => accepted.extend(tickets.iter().map(|t| t.0)),
                    other => panic!("unexpected {other:?}"),
                }
            }
        };
        for choice in choices {
            match choice % 3 {
                0 => {
                    sent += 1;
                    run(order(sent), &mut timer, &mut queue);
                }
                1 => {
                    if let Some(number) = queue.pop_front() {
                        run(persisted(number), &mut timer, &mut queue);
                    }
                }
                _ => {
                    if let Some(generation) = timer.take() {
                        run(Input::Timer { generation }, &mut timer, &mut queue);
                    }
                }
            }
        }
        // Whatever is left gets through by itself: writes finish and timers fire.
        while !queue.is_empty() || timer.is_some() {
            if let Some(number) = queue.pop_front() {
                run(persisted(number), &mut timer, &mut queue);
            } else if let Some(generation) = timer.take() {
                run(Input::Timer { generation }, &mut timer, &mut queue);
            }
        }
        let all: Vec<u64> = (1..=sent).collect();
        assert_eq!(
            accepted, all,
            "every message is acknowledged once, in order"
        );
        let envelopes: Vec<Bytes> = all.iter().map(|t| message(*t, 0).envelope).collect();
        assert_eq!(
            written, envelopes,
            "every message is in exactly one block, in order"
        );
    }

    proptest! {
        #[test]
        fn every_message_is_written_and_acknowledged(
            choices in proptest::collection::vec(any::<u8>(), 0..300),
            linger_ms in 0u64..3,
            eager in any::<bool>(),
        ) {
            let linger = Duration::from_millis(linger_ms);
            let eager = if eager { Cutting::Eager { linger } } else { Cutting::Timeout };
            play(&choices, eager);
        }
    }
}

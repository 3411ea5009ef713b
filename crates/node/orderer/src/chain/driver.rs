//! The task that drives the engine: queue, timer, answers.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use prost::Message;
use selvage_env::random_array;
use selvage_ordering::filters::{Author, Incoming};
use selvage_ordering::solo::Solo;
use selvage_ordering::{Decision, Effect, Engine, Input, Parameters, Submission, Ticket};
use selvage_proto::common::{BlockHeader, Envelope, Status};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use super::writer::{self, Report};
use super::{Answer, Chain, Shared, refusal};

/// Blocks on their way to the writer.
const TO_WRITER: usize = 64;

/// A message that passed the filters.
pub(super) struct Command {
    pub(super) envelope: Envelope,
    pub(super) sequence: u64,
    pub(super) is_config: bool,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// Who this node signs configurations as.
pub(super) fn author(shared: &Shared) -> Author<'_> {
    Author {
        signer: &shared.signer,
        nonce: random_array(shared.env.rng.as_ref()),
        unix_seconds: shared.env.clock.unix_seconds(),
    }
}

/// Starts the channel's task and writer.
pub(super) fn spawn(
    chain: Arc<Chain>,
    commands: mpsc::Receiver<Command>,
    newest: &BlockHeader,
    parameters: Parameters,
    last_config: u64,
) {
    let (to_writer, decisions) = mpsc::channel(TO_WRITER);
    let (report, reports) = mpsc::channel(TO_WRITER);
    writer::spawn(chain.clone(), decisions, report, last_config);
    let driver = Driver {
        engine: Box::new(Solo::new(newest, parameters, chain.shared.solo)),
        chain,
        to_writer,
        reports,
        reported: VecDeque::new(),
        waiting: HashMap::new(),
        next_ticket: 0,
        timer: None,
    };
    tokio::spawn(driver.run(commands));
}

struct Driver {
    chain: Arc<Chain>,
    engine: Box<dyn Engine>,
    to_writer: mpsc::Sender<Decision>,
    reports: mpsc::Receiver<Report>,
    /// Reports that came while the writer's queue was full.
    reported: VecDeque<Report>,
    waiting: HashMap<Ticket, oneshot::Sender<Answer>>,
    next_ticket: u64,
    timer: Option<(u64, Pin<Box<Sleep>>)>,
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let stop = self.chain.stop.clone();
        loop {
            let input = if let Some(report) = self.reported.pop_front() {
                persisted(report)
            } else {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    report = self.reports.recv() => match report {
                        Some(report) => persisted(report),
                        // The writer is gone: the disk failed.
                        None => break,
                    },
                    generation = fire(&mut self.timer) => Input::Timer { generation },
                    command = commands.recv() => match command {
                        Some(command) => self.admit(command),
                        None => break,
                    },
                }
            };
            let effects = self.engine.step(input);
            if !self.carry_out(effects).await {
                break;
            }
        }
        commands.close();
        let reason = self
            .chain
            .trouble()
            .unwrap_or_else(|| "chain is stopped".to_owned());
        for (_, reply) in self.waiting.drain() {
            let _ = reply.send((Status::ServiceUnavailable, reason.clone()));
        }
    }

    fn admit(&mut self, command: Command) -> Input {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.insert(ticket, command.reply);
        let submission = Submission::new(ticket, &command.envelope, command.sequence);
        if command.is_config {
            Input::Configure(submission)
        } else {
            Input::Order(submission)
        }
    }

    /// Carries out effects in order. False when the writer is gone.
    async fn carry_out(&mut self, effects: Vec<Effect>) -> bool {
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            match effect {
                Effect::StartTimer { generation, after } => {
                    let sleep = tokio::time::sleep_until(Instant::now() + after);
                    self.timer = Some((generation, Box::pin(sleep)));
                }
                Effect::CancelTimer => self.timer = None,
                Effect::Write(decision) => {
                    if !self.hand_to_writer(decision).await {
                        return false;
                    }
                }
                Effect::Accept(tickets) => {
                    for ticket in tickets {
                        self.answer(ticket, (Status::Success, String::new()));
                    }
                }
                Effect::Refuse(ticket, why) => {
                    self.answer(ticket, (Status::ServiceUnavailable, why.to_string()));
                }
                Effect::Revalidate {
                    submission,
                    is_config,
                } => {
                    if let Some(input) = self.revalidate(submission, is_config) {
                        queue.extend(self.engine.step(input));
                    }
                }
                other => tracing::error!(?other, "the engine asks for what this driver cannot do"),
            }
        }
        true
    }

    /// Waits for room in the writer's queue and takes reports meanwhile: the writer may be waiting
    /// for room in theirs.
    async fn hand_to_writer(&mut self, decision: Decision) -> bool {
        loop {
            tokio::select! {
                permit = self.to_writer.reserve() => match permit {
                    Ok(permit) => {
                        permit.send(decision);
                        return true;
                    }
                    Err(_) => return false,
                },
                report = self.reports.recv() => match report {
                    Some(report) => self.reported.push_back(report),
                    None => return false,
                },
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(reply) = self.waiting.remove(&ticket) {
            // Whoever asked may have hung up; the message is ordered all the same.
            let _ = reply.send(answer);
        }
    }

    /// Filters a message again by the configuration that is in force now.
    fn revalidate(&mut self, submission: Submission, is_config: bool) -> Option<Input> {
        let shared = &self.chain.shared;
        let config = self.chain.config();
        let ticket = submission.ticket;
        let checked = Envelope::decode(submission.envelope.clone())
            .map_err(|error| (Status::BadRequest, error.to_string()))
            .and_then(|envelope| {
                if is_config {
                    let author = author(shared);
                    return shared
                        .filters
                        .reprocess_config(&config, &envelope, author)
                        .map(|made| (made.envelope, made.sequence))
                        .map_err(refusal);
                }
                let incoming = Incoming::open(envelope).map_err(refusal)?;
                let now = shared.env.clock.unix_seconds();
                let sequence = shared.filters.check_normal(&config, &incoming, now);
                Ok((incoming.envelope, sequence.map_err(refusal)?))
            });
        match checked {
            Ok((envelope, sequence)) => {
                let submission = Submission::new(ticket, &envelope, sequence);
                Some(if is_config {
                    Input::Configure(submission)
                } else {
                    Input::Order(submission)
                })
            }
            Err(answer) => {
                self.answer(ticket, answer);
                None
            }
        }
    }
}

fn persisted(report: Report) -> Input {
    Input::Persisted {
        number: report.number,
        parameters: report.parameters,
    }
}

async fn fire(timer: &mut Option<(u64, Pin<Box<Sleep>>)>) -> u64 {
    match timer {
        Some((generation, sleep)) => {
            sleep.as_mut().await;
            let generation = *generation;
            *timer = None;
            generation
        }
        None => std::future::pending().await,
    }
}

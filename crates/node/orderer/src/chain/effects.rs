//! Carrying out what engines ask for.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use selvage_channel::ChannelConfig;
use selvage_ordering::filters::Incoming;
use selvage_ordering::{Effect, Input, JournalWrite, Submission, Ticket};
use selvage_proto::Message as _;
use selvage_proto::common::{Block, Envelope, Status};
use selvage_proto::etcdraft::ClusterMetadata;
use tokio::time::Instant;

use super::driver::{Driver, Role, author};
use super::engines::Consensus;
use super::writer::Job;
use super::{Answer, engines, refusal};
use crate::refusals::Reason;

impl Driver {
    /// Carries out effects in order. False when the channel is over.
    pub(super) async fn carry_out(&mut self, effects: Vec<Effect>) -> bool {
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            let going = match effect {
                Effect::Write(decision) => {
                    self.handed_over = decision.block.number();
                    self.hand_to_writer(Job::Decide(decision)).await
                }
                Effect::Journal(write) => self.hand_to_journal(write).await,
                Effect::Revalidate {
                    submission,
                    is_config,
                } => {
                    // What the engine answers comes behind what it asked for before.
                    if let Some(input) = self.revalidate(submission, is_config)
                        && let Role::Consenting(consenting) = &mut self.role
                    {
                        queue.extend(consenting.engine.step(input));
                    }
                    true
                }
                Effect::Evicted => {
                    tracing::warn!(
                        channel = self.chain.id,
                        "Evicted from the channel's consenters: following it from now on"
                    );
                    return Box::pin(self.leave(None)).await;
                }
                other => {
                    self.carry_out_one(other);
                    true
                }
            };
            if !going {
                return false;
            }
        }
        true
    }

    /// Effects that never wait.
    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::StartTimer { generation, after } => {
                let sleep = tokio::time::sleep_until(Instant::now() + after);
                self.timer = Some((generation, Box::pin(sleep)));
            }
            Effect::CancelTimer => self.timer = None,
            Effect::Accept(tickets) => tickets
                .into_iter()
                .for_each(|ticket| self.answer(ticket, (Status::Success, String::new()))),
            Effect::Refuse(ticket, why) => {
                if let Some(measures) = &self.measures {
                    measures.failed(1);
                }
                self.answer(ticket, (Status::ServiceUnavailable, why.to_string()));
            }
            Effect::Send { to, message } => {
                let metadata = self.cluster_metadata(to);
                self.chain.send(to, message, metadata);
            }
            Effect::Forward { to, submission, .. } => self.chain.forward(to, &submission),
            Effect::CatchUp { through } => {
                if let Role::Consenting(consenting) = &mut self.role {
                    consenting.catching_up = Some(through);
                }
                self.fetch();
            }
            Effect::Members(members) => {
                self.members = members;
                self.configure_links(&self.chain.config());
            }
            Effect::Leader(leader) => {
                if leader.is_none() {
                    self.set_active(Vec::new());
                }
                self.lead(leader);
            }
            Effect::Active(active) => {
                self.set_active(active);
                self.informed.clear();
            }
            Effect::Halt(reason) => self.halt(reason),
            other => self.note(other),
        }
    }

    /// Effects that are only counted and measured.
    fn note(&mut self, effect: Effect) {
        match effect {
            Effect::Unheard { from, why, detail } => {
                let text = match detail.is_empty() {
                    true => why.to_string(),
                    false => format!("{why}: {detail}"),
                };
                let reason = Reason::Consensus(why);
                let what = format_args!("a consensus message of consenter {from}: {text}");
                self.chain.refused(reason, what);
            }
            Effect::BatchBegun => self.filling = Some(Instant::now()),
            Effect::BatchCut => {
                let waited = self.filling.take().map(|since| since.elapsed());
                self.chain.metrics.filled(waited.unwrap_or_default());
            }
            Effect::Snapshot { number } => {
                if let Some(measures) = &self.measures {
                    measures.snapshot(number);
                }
            }
            _ => {}
        }
    }

    fn lead(&mut self, leader: Option<u64>) {
        let number = leader.unwrap_or(0);
        let before = self.chain.leader.swap(number, Ordering::Relaxed);
        let Role::Consenting(consenting) = &mut self.role else {
            return;
        };
        consenting.leaderless = leader.is_none().then(Instant::now);
        if let Some(measures) = &self.measures
            && before != number
        {
            measures.leader_changed(leader, consenting.id == leader);
        }
    }

    fn set_active(&mut self, active: Vec<u64>) {
        if let Some(measures) = &self.measures {
            measures.active(active.len());
        }
        *self.chain.active.lock() = active;
    }

    /// Who is active, for a consenter that this node leads and has not told yet.
    fn cluster_metadata(&mut self, to: u64) -> Bytes {
        let Role::Consenting(consenting) = &self.role else {
            return Bytes::new();
        };
        let leads = consenting.id == Some(self.chain.leader.load(Ordering::Relaxed));
        if consenting.consensus != Consensus::Raft || !leads || !self.informed.insert(to) {
            return Bytes::new();
        }
        let active_nodes = self.chain.active.lock().clone();
        ClusterMetadata { active_nodes }.encode_to_vec().into()
    }

    /// A Raft leader says who is active: any consenter then refuses a configuration that would lose
    /// the quorum.
    pub(super) fn note_metadata(&mut self, from: u64, metadata: &Bytes) {
        if metadata.is_empty() || self.chain.leader.load(Ordering::Relaxed) != from {
            return;
        }
        let Ok(cluster) = ClusterMetadata::decode(metadata.clone()) else {
            return;
        };
        let mut active = cluster.active_nodes;
        active.truncate(self.members.len() + 1);
        self.set_active(active);
    }

    /// Gives up ordering, and follows the channel: behind the block that showed this node's part to be
    /// over, when that lies `ahead`, it may begin anew, should it be added again.
    pub(super) async fn leave(&mut self, ahead: Option<Block>) -> bool {
        if !self.end_engine(ahead).await {
            return false;
        }
        self.follow_on();
        true
    }

    /// The engine is gone: whoever waits for it is told, and the channel followed.
    fn follow_on(&mut self) {
        self.refuse_waiting(&format!(
            "orderer is a follower of channel {}",
            self.chain.id
        ));
        self.follow();
    }

    /// Follows the channel for as long as a Raft channel names another certificate for this node's
    /// number. What it promised under that number stands, so the journal stays: without it, the
    /// others would find that it lost what it once had.
    pub(super) async fn stand_aside(&mut self) -> bool {
        let role = std::mem::replace(&mut self.role, Role::Following);
        if let Role::Consenting(consenting) = role {
            consenting.end().await;
        }
        self.follow_on();
        true
    }

    /// Ends the engine; its journal goes. A marker says that the next one may begin without.
    async fn end_engine(&mut self, ahead: Option<Block>) -> bool {
        self.end_measuring();
        let role = std::mem::replace(&mut self.role, Role::Following);
        if let Role::Consenting(consenting) = role {
            consenting.end().await;
        }
        let chain = self.chain.clone();
        let removed = tokio::task::spawn_blocking(move || chain.forget_journal(ahead)).await;
        if let Ok(Err(error)) = removed {
            self.chain
                .fail(format!("the orderer cannot remove its journal: {error}"));
            return false;
        }
        true
    }

    /// The channel's newest configuration names another consensus than the engine's: the engine ends,
    /// and the other one begins, as soon as this node has every block there is.
    pub(super) async fn change_engine(&mut self) -> bool {
        let chain = self.chain.clone();
        tracing::info!(
            channel = chain.id,
            "the channel's consensus changes at block [{}]",
            self.newest.number()
        );
        self.refuse_waiting("the channel's consensus has just changed, try again");
        if !self.end_engine(None).await {
            return false;
        }
        if self.handed_over > self.newest.number() {
            self.follow();
            return true;
        }
        let config = chain.config();
        let running = engines::start(&chain.id, &chain.shared, &config, &self.newest, true);
        Box::pin(self.begin(running)).await
    }

    fn refuse_waiting(&mut self, reason: &str) {
        if let Some(measures) = &self.measures {
            measures.failed(self.waiting.len());
        }
        for (_, reply) in self.waiting.drain() {
            let _ = reply.send((Status::ServiceUnavailable, reason.to_owned()));
        }
    }

    /// Tells the links who the channel's other nodes are, and how they are spoken with.
    pub(super) fn configure_links(&self, config: &ChannelConfig) {
        if let Role::Consenting(consenting) = &self.role {
            let kind = engines::link_kind(config, consenting.id.unwrap_or_default());
            self.chain.configure_links(kind, &self.members);
        }
    }

    /// Waits for room in the writer's queue and takes reports meanwhile: the writer may be waiting
    /// for room in theirs.
    pub(super) async fn hand_to_writer(&mut self, job: Job) -> bool {
        loop {
            tokio::select! {
                permit = self.to_writer.reserve() => match permit {
                    Ok(permit) => {
                        permit.send(job);
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

    /// Waits for room in the journal's queue and takes reports meanwhile, for the same reason.
    async fn hand_to_journal(&mut self, write: JournalWrite) -> bool {
        let Role::Consenting(consenting) = &mut self.role else {
            return true;
        };
        let Some(journaling) = &mut consenting.journaling else {
            return true;
        };
        loop {
            tokio::select! {
                permit = journaling.writes.reserve() => match permit {
                    Ok(permit) => {
                        permit.send(write);
                        return true;
                    }
                    Err(_) => return false,
                },
                report = journaling.reports.recv() => match report {
                    Some(sequence) => self.journaled = Some(sequence),
                    None => return false,
                },
            }
        }
    }

    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
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
                    let signer = shared.signer.current();
                    let author = author(shared, &signer);
                    let made = shared
                        .filters
                        .reprocess_config(&config, &envelope, author)
                        .map_err(refusal)?;
                    engines::check_consenters(shared, &config, &self.newest, &made.envelope, &[])
                        .map_err(|reason| (Status::BadRequest, reason))?;
                    return Ok((made.envelope, made.sequence));
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

//! The clients of a run.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use parking_lot::Mutex;
use selvage_client::{Invocation, Proposal};
use selvage_proto::common::{Envelope, HeaderType};
use selvage_proto::gateway::{EndorseRequest, EvaluateRequest, SubmitRequest};
use selvage_proto::peer::ProposalResponse;

use crate::broadcast::{Stream, Submitter};
use crate::commits::Commits;
use crate::gaps::Gaps;
use crate::plan::Plan;
use crate::target::Target;

/// Longest wait for one transaction to be committed before a closed-loop client goes on.
const COMMIT_WAIT: Duration = Duration::from_secs(30);

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Endorse, order, do not wait for the commit.
    Open,
    /// Endorse, order, wait for the commit.
    Closed,
    /// Ask one peer and use its answer.
    Evaluate,
    /// Order envelopes that nobody endorsed.
    Order,
}

/// How a run is to be made.
pub(crate) struct Settings {
    pub(crate) work: Work,
    pub(crate) gateway: bool,
    pub(crate) clients: usize,
    pub(crate) length: Duration,
    pub(crate) value_bytes: usize,
    pub(crate) chaincode: String,
    pub(crate) function: String,
    /// Arguments after the function; `{key}` and `{value}` are filled in.
    pub(crate) arguments: Vec<String>,
}

impl Settings {
    /// Text of the wanted length that begins with a number.
    fn value(&self, number: u64) -> String {
        let mut value = format!("{number:016x}");
        let more = self.value_bytes.saturating_sub(value.len());
        value.extend(std::iter::repeat_n('v', more));
        value.truncate(self.value_bytes);
        value
    }
}

/// Everything the clients of a run share.
pub(crate) struct Run {
    pub(crate) target: Target,
    pub(crate) plan: Plan,
    pub(crate) settings: Settings,
    pub(crate) commits: Arc<Commits>,
    pub(crate) counters: Counters,
    /// Stands in every key, so that runs do not meet.
    pub(crate) name: String,
}

#[derive(Default)]
pub(crate) struct Counters {
    sequence: AtomicU64,
    answered: AtomicU64,
    errors: Mutex<HashMap<String, u64>>,
    answer_us: Mutex<Vec<u32>>,
    pub(crate) gaps: Gaps,
}

impl Counters {
    fn error(&self, text: String) {
        let mut errors = self.errors.lock();
        // A bound on distinct texts: messages that carry ids would otherwise fill the memory.
        let key = if errors.len() < 32 || errors.contains_key(&text) {
            text
        } else {
            "other".into()
        };
        *errors.entry(key).or_default() += 1;
    }

    pub(crate) fn errors(&self) -> HashMap<String, u64> {
        self.errors.lock().clone()
    }

    /// An answer came that ends a transaction for its client.
    fn answer(&self, since: Instant) {
        let now = Instant::now();
        let us = u32::try_from(now.duration_since(since).as_micros()).unwrap_or(u32::MAX);
        self.answer_us.lock().push(us);
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.gaps.acknowledged(now);
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn answer_us(&self) -> Vec<u32> {
        let mut all = self.answer_us.lock().clone();
        all.sort_unstable();
        all
    }
}

impl Run {
    /// Runs every client until `length` has passed.
    pub(crate) async fn drive(self: &Arc<Self>) {
        let end = Instant::now() + self.settings.length;
        let clients: Vec<_> = (0..self.settings.clients)
            .map(|number| {
                let run = Arc::clone(self);
                tokio::spawn(async move { run.client(number, end).await })
            })
            .collect();
        for client in clients {
            if let Err(error) = client.await {
                self.counters.error(format!("a client stopped: {error}"));
            }
        }
    }

    async fn client(&self, number: usize, end: Instant) {
        let mut ordering = None;
        let mut submitter = (self.settings.work == Work::Order)
            .then(|| Submitter::new(&self.plan.orderers, self.plan.trust, number));
        while Instant::now() < end {
            let outcome = match (self.settings.work, &mut submitter) {
                (_, Some(submitter)) => self.order(submitter).await,
                (Work::Evaluate, _) => self.evaluate().await,
                _ if self.settings.gateway => self.through_gateway().await,
                _ => self.directly(&mut ordering, number).await,
            };
            if let Err(text) = outcome {
                self.counters.error(text);
                ordering = None;
                // A network that refuses at once must not be asked in a tight loop.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    fn invocation(&self) -> Invocation {
        let number = self.counters.sequence.fetch_add(1, Ordering::Relaxed);
        let key = format!("{}-{number}", self.name);
        let value = self.settings.value(number);
        let fill = |a: &String| Bytes::from(a.replace("{key}", &key).replace("{value}", &value));
        let call = Invocation::new(&self.settings.chaincode, &self.settings.function);
        self.settings
            .arguments
            .iter()
            .map(fill)
            .fold(call, Invocation::arg)
    }

    fn propose(&self) -> Proposal {
        Proposal::new(&self.target.user, &self.target.channel, self.invocation())
    }

    async fn evaluate(&self) -> Result<(), String> {
        let proposal = self.propose();
        let since = Instant::now();
        if self.settings.gateway {
            let request = EvaluateRequest {
                transaction_id: proposal.tx_id,
                channel_id: self.target.channel.clone(),
                proposed_transaction: Some(proposal.signed),
                target_organizations: Vec::new(),
            };
            self.plan
                .peer
                .gateway()
                .evaluate(request)
                .await
                .map_err(|s| s.to_string())?;
        } else {
            let mut peer = self.plan.peer.endorser();
            let answer = peer
                .process_proposal(proposal.signed)
                .await
                .map_err(|s| s.to_string())?;
            endorsed(answer.into_inner())?;
        }
        self.counters.answer(since);
        Ok(())
    }

    /// A signed envelope in the form of a transaction, with `--size` bytes in the place where a
    /// transaction has its proposal, results and endorsements.
    pub(crate) fn envelope(&self) -> Envelope {
        let number = self.counters.sequence.fetch_add(1, Ordering::Relaxed);
        let data = self.settings.value(number).into();
        let kind = HeaderType::EndorserTransaction;
        self.target.user.envelope(kind, &self.target.channel, data)
    }

    async fn order(&self, submitter: &mut Submitter<'_>) -> Result<(), String> {
        let envelope = self.envelope();
        let since = Instant::now();
        submitter.submit(envelope).await?;
        self.counters.answer(since);
        Ok(())
    }

    async fn directly(&self, ordering: &mut Option<Stream>, number: usize) -> Result<(), String> {
        let proposal = self.propose();
        let since = Instant::now();
        let calls = self.plan.endorsers.iter().map(|peer| {
            let mut stub = peer.endorser();
            let signed = proposal.signed.clone();
            async move {
                let answer = stub
                    .process_proposal(signed)
                    .await
                    .map_err(|s| format!("endorsement: {s}"))?;
                Ok::<_, String>((peer.address.as_str(), endorsed(answer.into_inner())?))
            }
        });
        let answers = try_join_all(calls).await?;
        let envelope = proposal
            .assemble(&self.target.user, &answers)
            .map_err(|e| e.to_string())?;
        if ordering.is_none() {
            let orderer = &self.plan.orderers[number % self.plan.orderers.len()];
            *ordering = Some(Stream::open(orderer).await?);
        }
        let stream = ordering.as_mut().ok_or("no stream")?;
        self.ordered(&proposal.tx_id, since, stream.send(envelope))
            .await
    }

    async fn through_gateway(&self) -> Result<(), String> {
        let proposal = self.propose();
        let since = Instant::now();
        let mut gateway = self.plan.peer.gateway();
        let request = EndorseRequest {
            transaction_id: proposal.tx_id.clone(),
            channel_id: self.target.channel.clone(),
            proposed_transaction: Some(proposal.signed.clone()),
            endorsing_organizations: Vec::new(),
        };
        let endorsed = gateway
            .endorse(request)
            .await
            .map_err(|s| format!("endorse: {s}"))?;
        let prepared = endorsed
            .into_inner()
            .prepared_transaction
            .ok_or("no transaction")?;
        let envelope = self.target.user.signed(prepared.payload);
        let request = SubmitRequest {
            transaction_id: proposal.tx_id.clone(),
            channel_id: self.target.channel.clone(),
            prepared_transaction: Some(envelope),
        };
        let submit = async {
            gateway
                .submit(request)
                .await
                .map_err(|s| format!("submit: {s}"))?;
            Ok(())
        };
        self.ordered(&proposal.tx_id, since, submit).await
    }

    /// Hands a transaction over by `submit` and, in a closed loop, waits until it was committed.
    async fn ordered(
        &self,
        tx_id: &str,
        since: Instant,
        submit: impl Future<Output = Result<(), String>>,
    ) -> Result<(), String> {
        if self.settings.work == Work::Open {
            self.commits.expect(tx_id, since);
            return submit.await.inspect_err(|_| self.commits.forget(tx_id));
        }
        let ended = self.commits.expect_told(tx_id, since);
        submit.await.inspect_err(|_| self.commits.forget(tx_id))?;
        match tokio::time::timeout(COMMIT_WAIT, ended).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(format!("not committed within {} s", COMMIT_WAIT.as_secs())),
        }
    }
}

/// The answer, if the peer really endorsed.
fn endorsed(answer: ProposalResponse) -> Result<ProposalResponse, String> {
    match &answer.response {
        Some(response) if (200..400).contains(&response.status) => Ok(answer),
        Some(response) => Err(format!(
            "endorsement: {} {}",
            response.status, response.message
        )),
        None => Err("endorsement: an empty answer".into()),
    }
}

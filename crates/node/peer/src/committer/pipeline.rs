//! The second half of the pipeline: judge, commit, tell.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use selvage_ledger::QueryExecutor;
use selvage_net::CancellationToken;
use selvage_proto::common::Block;
use selvage_proto::peer::{MetaDataKeys, TxValidationCode};
use tokio::sync::{mpsc, watch};

use super::{CommitError, private};
use crate::channels::{CommittedBlock, CommittedTx, PeerChannel};
use crate::lifecycle::{BoxError, ChaincodeDefinition, LifecycleError};
use crate::validator::{Prepared, Scope, StateView, Validator};

/// Invalid transactions of one block that the log names one by one.
const NAMED: usize = 10;
/// Characters of a transaction id.
const TX_ID: usize = 64;

/// A block whose state-independent half is done.
pub(super) struct Job {
    pub(super) block: Block,
    pub(super) prepared: Prepared,
}

/// Commits queued blocks one after the other until the queue closes, the node shuts down or a block
/// cannot be committed.
pub(super) async fn run(
    channel: Arc<PeerChannel>,
    validator: Arc<Validator>,
    retention: u64,
    mut queue: mpsc::Receiver<Job>,
    stopped: watch::Sender<Option<Arc<CommitError>>>,
    shutdown: CancellationToken,
) {
    loop {
        let job = tokio::select! {
            () = shutdown.cancelled() => return,
            job = queue.recv() => match job {
                Some(job) => job,
                None => return,
            },
        };
        let number = job.block.number();
        let (worker, threads) = (channel.clone(), validator.clone());
        // A commit that has begun is not abandoned: it runs to its end on a thread of its own.
        let work = tokio::task::spawn_blocking(move || commit(&worker, &threads, retention, job));
        let result = match work.await {
            Ok(result) => result,
            Err(_) => Err(CommitError::Interrupted { number }),
        };
        if let Err(error) = result {
            let channel = channel.id();
            tracing::error!(channel, error = %crate::report(&error), "channel stopped");
            stopped.send_replace(Some(Arc::new(error)));
            return;
        }
    }
}

/// Judges and commits one block, and tells the channel's listeners.
fn commit(
    channel: &PeerChannel,
    validator: &Validator,
    retention: u64,
    job: Job,
) -> Result<(), CommitError> {
    let started = Instant::now();
    let number = job.block.number();
    let ledger_error = |source| CommitError::Ledger {
        number,
        source: Box::new(source),
    };
    let Job {
        block,
        mut prepared,
    } = job;
    if !Arc::ptr_eq(prepared.scope().config(), &channel.config()) {
        let scope = Arc::new(Scope::new(channel.config()));
        prepared = validator.prepare(&block, &scope);
    }
    let query = channel.ledger().query().map_err(ledger_error)?;
    let view = View { channel, query };
    let judged = validator
        .judge(&prepared, &view)
        .map_err(|source| CommitError::Validate {
            number,
            source: Box::new(source),
        })?;
    drop(view);
    let validated = started.elapsed();
    let ledger = channel.ledger();
    let waiting = private::waiting(ledger, &prepared, &judged.codes).map_err(ledger_error)?;
    let stored = ledger
        .commit_decoded(block, &judged.codes, prepared.decoded(), &waiting.sets)
        .map_err(ledger_error)?;
    private::forget(ledger, &waiting.tx_ids, number, retention).map_err(ledger_error)?;
    let (lifecycle_written, redefined) = prepared.lifecycle_changes(&stored.codes);
    let transactions: Vec<CommittedTx> = stored
        .tx_ids
        .iter()
        .zip(&stored.codes)
        .map(|(tx_id, code)| CommittedTx {
            tx_id: tx_id.clone(),
            code: *code,
        })
        .collect();
    tracing::info!(
        channel = channel.id(),
        block = number,
        transactions = transactions.len(),
        validate_us = validated.as_micros() as u64,
        commit_us = (started.elapsed() - validated).as_micros() as u64,
        "Committed block [{number}]"
    );
    note_invalid(channel.id(), number, &transactions);
    let announced = CommittedBlock {
        number,
        transactions,
        redefined,
        reconfigured: judged.config.is_some(),
    };
    channel.committed(
        stored.block.clone(),
        announced,
        judged.config,
        lifecycle_written,
    );
    Ok(())
}

/// Says which transactions of a block count for nothing, why, and what helps; their senders are told
/// the code only.
fn note_invalid(channel: &str, number: u64, transactions: &[CommittedTx]) {
    let numbered = transactions.iter().enumerate();
    let mut invalid = numbered.filter(|(_, tx)| tx.code != TxValidationCode::Valid);
    for (index, CommittedTx { tx_id, code }) in invalid.by_ref().take(NAMED) {
        // It may be anything, because nobody has checked it.
        let tx_id: String = tx_id.escape_default().take(TX_ID).collect();
        tracing::warn!(
            channel,
            "Block [{number}] Transaction index [{index}] TxId [{tx_id}] marked as invalid by \
             committer. Reason code [{}]: {}",
            code.as_str_name(),
            advice(*code)
        );
    }
    let more = invalid.count();
    if more > 0 {
        tracing::warn!(
            channel,
            "Block [{number}] has {more} more invalid transactions"
        );
    }
}

/// What the sender of an invalid transaction can do.
fn advice(code: TxValidationCode) -> &'static str {
    use TxValidationCode as Code;
    match code {
        Code::MvccReadConflict | Code::PhantomReadConflict => {
            "something else changed what it had read: make and submit it anew, and let transactions \
             touch different keys"
        }
        Code::EndorsementPolicyFailure => {
            "too few or other organisations endorsed it than the chaincode's policy asks for: have \
             it endorsed by those"
        }
        Code::DuplicateTxid => {
            "the chain has a transaction of this id: make a new one, with a nonce of its own"
        }
        Code::InvalidChaincode | Code::ExpiredChaincode => {
            "it writes what no usable chaincode definition covers: commit the chaincode's \
             definition, and make the transaction anew"
        }
        Code::BadCreatorSignature => {
            "its creator did not sign it, or is no member of the channel: sign it with the key of \
             the certificate that it carries"
        }
        _ => {
            "it is not built as Fabric's protocol prescribes: make it with one of Fabric's SDKs, or \
             compare it with Fabric's messages (fabric-protos)"
        }
    }
}

/// The ledger as validation sees it.
struct View<'a> {
    channel: &'a PeerChannel,
    query: QueryExecutor,
}

impl StateView for View<'_> {
    fn has_transaction(&self, tx_id: &str) -> Result<bool, BoxError> {
        Ok(self.channel.ledger().tx_exists(tx_id)?)
    }

    fn state(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, BoxError> {
        Ok(self.query.get_state(namespace, key)?)
    }

    fn validation_parameter(
        &self,
        namespace: &str,
        collection: &str,
        key: &[u8],
    ) -> Result<Option<Bytes>, BoxError> {
        let metadata = if collection.is_empty() {
            match std::str::from_utf8(key) {
                Ok(key) => self.query.get_state_metadata(namespace, key)?,
                Err(_) => None,
            }
        } else {
            self.query
                .get_private_metadata_by_hash(namespace, collection, key)?
        };
        let name = MetaDataKeys::ValidationParameter.as_str_name();
        Ok(metadata.and_then(|mut metadata| metadata.remove(name)))
    }

    fn definition(&self, name: &str) -> Result<Option<Arc<ChaincodeDefinition>>, LifecycleError> {
        self.channel.definition(name)
    }
}

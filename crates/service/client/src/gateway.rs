//! The Fabric Gateway service of a peer, as applications use it.

use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::stream;
use selvage_net::MAX_MESSAGE_BYTES;
use selvage_net::deliver::{Signer as _, newest, specified};
use selvage_net::services::gateway_client::GatewayClient;
use selvage_net::tonic::Streaming;
use selvage_net::tonic::transport::Channel;
use selvage_proto::Message as _;
use selvage_proto::common::Envelope;
use selvage_proto::gateway::{
    ChaincodeEventsRequest, ChaincodeEventsResponse, CommitStatusRequest, EndorseRequest,
    EvaluateRequest, SignedChaincodeEventsRequest, SignedCommitStatusRequest, SubmitRequest,
};
use selvage_proto::peer::{ChaincodeEvent, TxValidationCode};
use serde::{Deserialize, Serialize};

use crate::deliver::From;
use crate::error::ClientError;
use crate::node::{Peer, check_size, within};
use crate::proposal::{Invocation, Proposal, transaction_result};
use crate::user::User;

/// A user's view of one channel through one peer's gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    peer: Peer,
    user: User,
    channel_id: String,
    /// How long endorsing and evaluating may take.
    pub endorse_timeout: Duration,
    /// How long the orderer's acknowledgement may take.
    pub submit_timeout: Duration,
    /// How long a transaction may take to be committed.
    pub commit_timeout: Duration,
}

/// An endorsed transaction, signed and ready to be submitted.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The transaction's id.
    pub tx_id: String,
    /// What the chaincode returned.
    pub result: Bytes,
    /// The transaction.
    pub envelope: Envelope,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitStatus {
    /// Valid, or why not.
    pub code: TxValidationCode,
    /// Its block.
    pub block: u64,
}

/// A committed, valid transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The transaction's id.
    pub tx_id: String,
    /// Its block.
    pub block: u64,
    /// What the chaincode returned.
    pub result: Bytes,
}

/// How far events have been handled. Keep it with what the events led to, and start from it again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The block to go on with; `None` starts with the next one to come.
    pub block: Option<u64>,
    /// The last transaction of that block whose event was handled.
    pub after_tx: Option<String>,
}

impl Checkpoint {
    /// Start from this block.
    pub fn at_block(block: u64) -> Self {
        Self {
            block: Some(block),
            after_tx: None,
        }
    }

    /// Where a stream of blocks has to start. The block may have been handled in part: pass over
    /// its transactions up to [`Self::after_tx`].
    pub fn start(&self) -> From {
        self.block.map_or(From::Newest, From::Block)
    }

    /// An event of this block was handled.
    pub fn event(&mut self, block: u64, tx_id: &str) {
        self.block = Some(block);
        self.after_tx = Some(tx_id.to_owned());
    }

    /// Everything of this block was handled.
    pub fn block_done(&mut self, block: u64) {
        *self = Self::at_block(block + 1);
    }
}

/// A chaincode event and its block.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The block.
    pub block: u64,
    /// The event.
    pub event: ChaincodeEvent,
}

impl Gateway {
    /// A gateway with the timeouts of Fabric's client libraries: 15 s to endorse, 5 s to submit, 60
    /// s to commit.
    pub fn new(peer: Peer, user: User, channel_id: &str) -> Self {
        Self {
            peer,
            user,
            channel_id: channel_id.to_owned(),
            endorse_timeout: Duration::from_secs(15),
            submit_timeout: Duration::from_secs(5),
            commit_timeout: Duration::from_secs(60),
        }
    }

    fn stub(&self) -> GatewayClient<Channel> {
        GatewayClient::new(self.peer.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn failed(&self, status: &selvage_net::tonic::Status) -> ClientError {
        ClientError::grpc(&self.peer.address, status)
    }

    /// Calls a function that only reads. `orgs` restricts which organisations may answer; empty
    /// leaves it to the gateway.
    pub async fn evaluate(
        &self,
        invocation: &Invocation,
        orgs: &[String],
    ) -> Result<Bytes, ClientError> {
        let proposal = Proposal::new(&self.user, &self.channel_id, invocation.clone());
        let request = EvaluateRequest {
            transaction_id: proposal.tx_id,
            channel_id: self.channel_id.clone(),
            proposed_transaction: Some(proposal.signed),
            target_organizations: orgs.to_vec(),
        };
        let call = async {
            check_size(&self.peer.address, &request)?;
            let answer = self.stub().evaluate(request).await;
            let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
            Ok(answer.result.unwrap_or_default().payload)
        };
        within(self.endorse_timeout, "the evaluation", call).await
    }

    /// Has a call endorsed and signs the transaction that comes of it.
    pub async fn endorse(
        &self,
        invocation: &Invocation,
        orgs: &[String],
    ) -> Result<Prepared, ClientError> {
        let proposal = Proposal::new(&self.user, &self.channel_id, invocation.clone());
        let tx_id = proposal.tx_id;
        let request = EndorseRequest {
            transaction_id: tx_id.clone(),
            channel_id: self.channel_id.clone(),
            proposed_transaction: Some(proposal.signed),
            endorsing_organizations: orgs.to_vec(),
        };
        let call = async {
            check_size(&self.peer.address, &request)?;
            let answer = self.stub().endorse(request).await;
            Ok(answer.map_err(|status| self.failed(&status))?.into_inner())
        };
        let answer = within(self.endorse_timeout, "the endorsement", call).await?;
        let unusable = |e: &dyn std::fmt::Display| {
            ClientError::answer(&self.peer.address, "prepared transaction", e)
        };
        let prepared = answer.prepared_transaction;
        let prepared = prepared.ok_or_else(|| unusable(&"it is missing"))?;
        let response = transaction_result(&prepared).map_err(|e| unusable(&e))?;
        Ok(Prepared {
            tx_id,
            result: response.payload,
            envelope: self.user.signed(prepared.payload),
        })
    }

    /// Sends an endorsed transaction to be ordered.
    pub async fn submit(&self, prepared: &Prepared) -> Result<(), ClientError> {
        let request = SubmitRequest {
            transaction_id: prepared.tx_id.clone(),
            channel_id: self.channel_id.clone(),
            prepared_transaction: Some(prepared.envelope.clone()),
        };
        let call = async {
            check_size(&self.peer.address, &request)?;
            let answer = self.stub().submit(request).await;
            answer.map(drop).map_err(|status| self.failed(&status))
        };
        within(self.submit_timeout, "the submission", call).await
    }

    /// Waits until the peer has committed a transaction and says what became of it.
    pub async fn commit_status(&self, tx_id: &str) -> Result<CommitStatus, ClientError> {
        let request: Bytes = CommitStatusRequest {
            transaction_id: tx_id.to_owned(),
            channel_id: self.channel_id.clone(),
            identity: self.user.creator(),
        }
        .encode_to_vec()
        .into();
        let signed = SignedCommitStatusRequest {
            signature: self.user.sign(&request).into(),
            request,
        };
        let call = async {
            let answer = self.stub().commit_status(signed).await;
            Ok(answer.map_err(|status| self.failed(&status))?.into_inner())
        };
        let what = format!("the commit of transaction {tx_id}");
        let answer = within(self.commit_timeout, &what, call).await?;
        Ok(CommitStatus {
            code: validation_code(answer.result),
            block: answer.block_number,
        })
    }

    /// Endorses, submits, and waits for the commit.
    pub async fn submit_transaction(
        &self,
        invocation: &Invocation,
    ) -> Result<Committed, ClientError> {
        let prepared = self.endorse(invocation, &[]).await?;
        self.submit(&prepared).await?;
        let status = self.commit_status(&prepared.tx_id).await?;
        committed(prepared.tx_id, prepared.result, status)
    }

    /// Opens the stream of a chaincode's events from a checkpoint on.
    pub async fn chaincode_events(
        &self,
        chaincode: &str,
        from: &Checkpoint,
    ) -> Result<impl Stream<Item = Result<Event, ClientError>> + Send + use<>, ClientError> {
        let request: Bytes = ChaincodeEventsRequest {
            channel_id: self.channel_id.clone(),
            chaincode_id: chaincode.to_owned(),
            identity: self.user.creator(),
            start_position: Some(from.block.map_or_else(newest_to_come, specified)),
            after_transaction_id: from.after_tx.clone().unwrap_or_default(),
        }
        .encode_to_vec()
        .into();
        let signed = SignedChaincodeEventsRequest {
            signature: self.user.sign(&request).into(),
            request,
        };
        let answer = self.stub().chaincode_events(signed).await;
        let answers = answer.map_err(|status| self.failed(&status))?.into_inner();
        Ok(event_stream(answers, self.peer.address.clone()))
    }
}

/// The next block to be committed.
fn newest_to_come() -> selvage_proto::orderer::SeekPosition {
    use selvage_proto::orderer::{SeekNextCommit, seek_position::Type};
    let mut position = newest();
    position.r#type = Some(Type::NextCommit(SeekNextCommit {}));
    position
}

fn event_stream(
    answers: Streaming<ChaincodeEventsResponse>,
    address: String,
) -> impl Stream<Item = Result<Event, ClientError>> + Send {
    let state = (answers, address, Vec::new().into_iter(), 0, false);
    stream::unfold(
        state,
        |(mut answers, address, mut events, mut block, failed)| async move {
            if failed {
                return None;
            }
            loop {
                if let Some(event) = events.next() {
                    let item = Ok(Event { block, event });
                    return Some((item, (answers, address, events, block, false)));
                }
                match answers.message().await {
                    Ok(Some(answer)) => {
                        block = answer.block_number;
                        events = answer.events.into_iter();
                    }
                    Ok(None) => return None,
                    Err(status) => {
                        let item = Err(ClientError::grpc(&address, &status));
                        return Some((item, (answers, address, events, block, true)));
                    }
                }
            }
        },
    )
}

pub(crate) fn validation_code(code: i32) -> TxValidationCode {
    TxValidationCode::try_from(code).unwrap_or(TxValidationCode::InvalidOtherReason)
}

pub(crate) fn committed(
    tx_id: String,
    result: Bytes,
    status: CommitStatus,
) -> Result<Committed, ClientError> {
    if status.code == TxValidationCode::Valid {
        return Ok(Committed {
            tx_id,
            block: status.block,
            result,
        });
    }
    Err(ClientError::Invalidated {
        tx_id,
        block: status.block,
        code: status.code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_survive_being_written_down() {
        let mut checkpoint = Checkpoint::default();
        assert_eq!(checkpoint.start(), From::Newest);
        checkpoint.event(7, "tx");
        assert_eq!(checkpoint.start(), From::Block(7));
        let text = serde_json::to_string(&checkpoint).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Checkpoint>(&text).expect("JSON"),
            checkpoint
        );
        checkpoint.block_done(7);
        assert_eq!(checkpoint, Checkpoint::at_block(8));
    }
}

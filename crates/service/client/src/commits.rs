//! Watching a peer for commits.

use std::pin::pin;

use futures::StreamExt as _;
use selvage_net::tonic;
use selvage_proto::common::{Block, BlockMetadataIndex, Envelope, Status};
use selvage_proto::peer::deliver_response::Type as FromPeer;
use selvage_proto::peer::{DeliverResponse, FilteredBlock, TxValidationCode};
use selvage_proto::{Message as _, tx::OpenEnvelope};

use crate::deliver::{From, read};
use crate::error::ClientError;
use crate::gateway::{CommitStatus, validation_code};
use crate::node::Peer;
use crate::user::User;

impl Peer {
    /// Watches for commits from now on: the newest block there is when this returns is the first
    /// of the watch. Open it before sending a transaction, then ask it.
    pub async fn watch_commits(
        &self,
        user: &User,
        channel_id: &str,
    ) -> Result<CommitWatch, ClientError> {
        let info = From::Newest.on();
        let answers = self.answers(user, channel_id, &info, true).await?;
        let mut watch = CommitWatch {
            peer: self.clone(),
            user: user.clone(),
            channel_id: channel_id.to_owned(),
            answers,
            next: None,
            first: None,
        };
        // A transaction sent after this lies in a later block. A refusal is told with the first
        // question.
        watch.first = Some(watch.read_block().await);
        Ok(watch)
    }
}

/// Commits as a peer reports them.
pub struct CommitWatch {
    peer: Peer,
    user: User,
    channel_id: String,
    answers: tonic::Streaming<DeliverResponse>,
    /// The block after the last one seen.
    next: Option<u64>,
    /// The block the watch began with, until somebody asks.
    first: Option<Result<Ended, ClientError>>,
}

/// Transactions of one block and what became of them.
type Ended = Vec<(String, CommitStatus)>;

impl CommitWatch {
    /// Waits until the peer has committed a transaction. Blocks before it are passed over, so ask
    /// for several transactions in the order they were sent, or with [`Self::commits`].
    pub async fn commit(&mut self, tx_id: &str) -> Result<CommitStatus, ClientError> {
        loop {
            let ended = self.commits().await?;
            if let Some((_, status)) = ended.into_iter().find(|(id, _)| id == tx_id) {
                return Ok(status);
            }
        }
    }

    /// The next block's transactions and what became of them. One whose id cannot be read is left
    /// out.
    pub async fn commits(&mut self) -> Result<Vec<(String, CommitStatus)>, ClientError> {
        match self.first.take() {
            Some(first) => first,
            None => self.read_block().await,
        }
    }

    async fn read_block(&mut self) -> Result<Ended, ClientError> {
        let answer = self.answers.message().await;
        let block = read(answer, &self.peer.address, |answer| match answer {
            FromPeer::FilteredBlock(block) => Some(block),
            _ => None,
        });
        match block {
            Some(Ok(block)) => {
                self.next = Some(block.number.saturating_add(1));
                Ok(filtered(block))
            }
            Some(Err(error)) if is_bad_request(&error) => self.read_whole(error).await,
            Some(Err(error)) => Err(error),
            None => Err(ClientError::Deliver {
                address: self.peer.address.clone(),
                status: Status::Success,
            }),
        }
    }

    /// A peer cannot filter a block that holds a transaction it cannot decode; it says the same of
    /// it as of a request that it cannot use. The whole block, which it does hand out, tells the
    /// two apart and how its transactions ended. Behind it the watch goes on with a new stream:
    /// whether the old one does is up to the peer.
    async fn read_whole(&mut self, refused: ClientError) -> Result<Ended, ClientError> {
        let from = self.next.map_or(From::Newest, From::Block);
        let blocks = self.peer.blocks(&self.user, &self.channel_id, from).await?;
        let block = pin!(blocks).next().await.unwrap_or(Err(refused))?;
        let next = block.number().saturating_add(1);
        let info = From::Block(next).on();
        let (user, channel_id) = (&self.user, &self.channel_id);
        self.answers = self.peer.answers(user, channel_id, &info, true).await?;
        self.next = Some(next);
        Ok(whole(&block))
    }
}

fn is_bad_request(error: &ClientError) -> bool {
    let bad = Status::BadRequest;
    matches!(error, ClientError::Deliver { status, .. } if *status == bad)
}

fn filtered(block: FilteredBlock) -> Ended {
    let status = |code| CommitStatus {
        code: validation_code(code),
        block: block.number,
    };
    let transactions = block.filtered_transactions.into_iter();
    transactions
        .map(|tx| (tx.txid, status(tx.tx_validation_code)))
        .collect()
}

fn whole(block: &Block) -> Ended {
    let codes = block.metadata_slot(BlockMetadataIndex::TransactionsFilter);
    let id = |envelope: &bytes::Bytes| {
        let open = OpenEnvelope::open(Envelope::decode(envelope.clone()).ok()?).ok()?;
        Some(open.header.channel.tx_id)
    };
    let ended = |(index, envelope)| {
        let code = codes
            .get(index)
            .map_or(TxValidationCode::NotValidated as i32, |c| i32::from(*c));
        let status = CommitStatus {
            code: validation_code(code),
            block: block.number(),
        };
        Some((id(envelope)?, status))
    };
    block
        .envelopes()
        .iter()
        .enumerate()
        .filter_map(ended)
        .collect()
}

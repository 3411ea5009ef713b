//! Blocks and filtered blocks as streams.

use futures::{Stream, stream};
use selvage_net::MAX_MESSAGE_BYTES;
use selvage_net::deliver::{between, newest, only, seek_envelope, specified};
use selvage_net::services::atomic_broadcast_client::AtomicBroadcastClient;
use selvage_net::services::deliver_client::DeliverClient;
use selvage_net::tonic;
use selvage_proto::common::{Block, Envelope, Status};
use selvage_proto::orderer::deliver_response::Type as FromOrderer;
use selvage_proto::orderer::{SeekInfo, SeekPosition};
use selvage_proto::peer::DeliverResponse;
use selvage_proto::peer::FilteredBlock;
use selvage_proto::peer::deliver_response::Type as FromPeer;

use crate::error::ClientError;
use crate::node::{Orderer, Peer};
use crate::user::User;

/// Where a stream starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With this block.
    Block(u64),
    /// With the newest block there is.
    Newest,
}

impl From {
    fn position(self) -> SeekPosition {
        match self {
            Self::Block(number) => specified(number),
            Self::Newest => newest(),
        }
    }

    /// From here on, for ever.
    pub(crate) fn on(self) -> SeekInfo {
        between(self.position(), specified(u64::MAX))
    }
}

/// One request, and a request side that stays open: a server may take its end for a hang-up.
fn request(envelope: Envelope) -> impl Stream<Item = Envelope> + Send + 'static {
    futures::StreamExt::chain(stream::iter([envelope]), stream::pending())
}

fn seek(user: &User, channel_id: &str, seek: &SeekInfo, tls: Option<[u8; 32]>) -> Envelope {
    let (clock, rng) = (user.clock().as_ref(), user.rng().as_ref());
    seek_envelope(channel_id, seek, user, tls, clock, rng)
}

impl Peer {
    /// The answers of the peer's deliver service to a seek.
    pub(crate) async fn answers(
        &self,
        user: &User,
        channel_id: &str,
        info: &SeekInfo,
        filtered: bool,
    ) -> Result<tonic::Streaming<DeliverResponse>, ClientError> {
        let request = request(seek(user, channel_id, info, self.tls_cert_hash));
        let mut stub =
            DeliverClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let answer = if filtered {
            stub.deliver_filtered(request).await
        } else {
            stub.deliver(request).await
        };
        let answer = answer.map_err(|status| ClientError::grpc(&self.address, &status))?;
        Ok(answer.into_inner())
    }

    /// Every block from one on, as they come.
    pub async fn blocks(
        &self,
        user: &User,
        channel_id: &str,
        from: From,
    ) -> Result<impl Stream<Item = Result<Block, ClientError>> + Send + use<>, ClientError> {
        let answers = self.answers(user, channel_id, &from.on(), false).await?;
        Ok(each(answers, self.address.clone(), |answer| match answer {
            FromPeer::Block(block) => Some(block),
            _ => None,
        }))
    }

    /// Every block from one on without its contents: transaction ids, validation codes, event
    /// names.
    pub async fn filtered_blocks(
        &self,
        user: &User,
        channel_id: &str,
        from: From,
    ) -> Result<impl Stream<Item = Result<FilteredBlock, ClientError>> + Send + use<>, ClientError>
    {
        let answers = self.answers(user, channel_id, &from.on(), true).await?;
        Ok(each(answers, self.address.clone(), |answer| match answer {
            FromPeer::FilteredBlock(block) => Some(block),
            _ => None,
        }))
    }
}

/// Reads an answer of a peer's deliver service: a block of the wanted kind, the end, or an error.
pub(crate) fn read<T>(
    answer: Result<Option<DeliverResponse>, tonic::Status>,
    address: &str,
    pick: fn(FromPeer) -> Option<T>,
) -> Option<Result<T, ClientError>> {
    match answer {
        Err(status) => Some(Err(ClientError::grpc(address, &status))),
        Ok(None) => None,
        Ok(Some(answer)) => match answer.r#type {
            Some(FromPeer::Status(status)) => ended(status, address).map(Err),
            Some(other) => Some(pick(other).ok_or_else(|| unexpected(address))),
            None => Some(Err(unexpected(address))),
        },
    }
}

fn ended(status: i32, address: &str) -> Option<ClientError> {
    let status = Status::try_from(status).unwrap_or(Status::Unknown);
    (status != Status::Success).then(|| ClientError::Deliver {
        address: address.to_owned(),
        status,
    })
}

fn unexpected(address: &str) -> ClientError {
    ClientError::answer(address, "deliver response", "it is of another kind")
}

fn each<T: Send + 'static>(
    answers: tonic::Streaming<DeliverResponse>,
    address: String,
    pick: fn(FromPeer) -> Option<T>,
) -> impl Stream<Item = Result<T, ClientError>> + Send {
    stream::unfold(Some((answers, address)), move |state| async move {
        let (mut answers, address) = state?;
        let item = read(answers.message().await, &address, pick)?;
        let next = item.is_ok().then_some((answers, address));
        Some((item, next))
    })
}

impl Orderer {
    /// One block, waiting for it if it does not exist yet.
    pub async fn block(
        &self,
        user: &User,
        channel_id: &str,
        which: From,
    ) -> Result<Block, ClientError> {
        let envelope = seek(
            user,
            channel_id,
            &only(which.position()),
            self.tls_cert_hash,
        );
        let mut answers = AtomicBroadcastClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .deliver(request(envelope))
            .await
            .map_err(|status| ClientError::grpc(&self.address, &status))?
            .into_inner();
        let answer = answers.message().await;
        let answer = answer.map_err(|status| ClientError::grpc(&self.address, &status))?;
        match answer.and_then(|a| a.r#type) {
            Some(FromOrderer::Block(block)) => Ok(block),
            Some(FromOrderer::Status(status)) => {
                let error = ended(status, &self.address);
                Err(error.unwrap_or_else(|| unexpected(&self.address)))
            }
            None => Err(unexpected(&self.address)),
        }
    }
}

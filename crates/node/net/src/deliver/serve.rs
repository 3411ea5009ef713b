//! The serving side: authentication, access, positions, and the stream of blocks.

use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use prost::Message;
use selvage_env::Clock;
use selvage_proto::common::{
    Block, ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader, Status,
};
use selvage_proto::msp::SerializedIdentity;
use selvage_proto::orderer::seek_info::{SeekBehavior, SeekContentType, SeekErrorResponse};
use selvage_proto::orderer::seek_position::Type as Position;
use selvage_proto::orderer::{SeekInfo, SeekPosition};
use thiserror::Error;
use tokio::sync::watch;
use tonic::{Request, Streaming};

use crate::Connection;
use crate::metrics::{DeliverLabels, DeliverMetrics};

/// A block that could not be read.
#[derive(Debug, Error)]
#[error("cannot read block {number}: {reason}")]
pub struct SourceError {
    /// The block's number.
    pub number: u64,
    /// Why.
    pub reason: String,
}

/// The blocks of one channel, and who may read them.
pub trait Source: Send + Sync + 'static {
    /// The number of blocks, now and whenever it grows. The sender must exist as long as blocks can
    /// be added; dropping it ends waiting streams with SERVICE_UNAVAILABLE.
    fn height(&self) -> watch::Receiver<u64>;

    /// The block, when it can be had without touching the disk.
    fn recent(&self, _number: u64) -> Option<Arc<Block>> {
        None
    }

    /// Reads a block below the height. Runs on a thread that may block.
    fn read(&self, number: u64) -> Result<Arc<Block>, SourceError>;

    /// The sequence of the channel configuration. When it grows, access is judged again.
    fn config_sequence(&self) -> u64;

    /// Whether whoever signed the request may read, by the channel's configuration as it is now.
    /// The error says why not, for the log.
    fn authorize(&self, request: &SeekRequest) -> Result<(), String>;

    /// Whether consensus is out of order, so that strict readers are turned away.
    fn errored(&self) -> bool {
        false
    }

    /// Whether the channel has been removed: no stream goes on. The height must be sent once more
    /// when this changes, so that waiting streams notice.
    fn closed(&self) -> bool {
        false
    }
}

/// The channels of a node.
pub trait Sources: Send + Sync + 'static {
    /// The blocks of a channel; none when the node does not have the channel.
    fn source(&self, channel_id: &str) -> Option<Arc<dyn Source>>;
}

/// Turns blocks and statuses into the messages of one RPC.
pub trait Respond: Send + Sync + 'static {
    /// The RPC's response message.
    type Response: Send + 'static;

    /// How metrics call what is sent: `block`, `filtered_block`, `block_and_pvtdata`.
    fn data_type(&self) -> &'static str;

    /// The closing message of a seek.
    fn status(&self, status: Status) -> Self::Response;

    /// The message for one block. An error ends the stream.
    fn block(
        &self,
        request: &SeekRequest,
        block: Arc<Block>,
    ) -> Result<Self::Response, tonic::Status>;
}

/// A seek request after parsing: who asks for which channel.
#[derive(Debug, Clone)]
pub struct SeekRequest {
    /// The channel.
    pub channel_id: String,
    /// The signed bytes.
    pub payload: Bytes,
    /// The signature over `payload`.
    pub signature: Bytes,
    /// The serialized identity that signed.
    pub creator: Bytes,
    /// What is sought, still encoded.
    data: Bytes,
}

/// Serves `Deliver` and its relatives.
#[derive(Clone)]
pub struct Deliverer {
    /// The node's channels.
    pub sources: Arc<dyn Sources>,
    /// Judges timestamps and expiry.
    pub clock: Arc<dyn Clock>,
    /// How far a request's timestamp may be from now, either way.
    pub time_window: Duration,
    /// Whether requests must name the hash of the TLS certificate they come over.
    pub mutual_tls: bool,
    /// Whether streams end when the requester's certificate expires.
    pub expiration_checks: bool,
    /// Counters.
    pub metrics: DeliverMetrics,
}

/// Why a seek ends without another block.
#[derive(Debug)]
pub(super) enum End {
    /// The client is told.
    Status(Status),
    /// The stream breaks.
    Broken(tonic::Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl Deliverer {
    /// Answers the requests of one stream, one after the other, until a request fails or the client
    /// hangs up.
    pub fn serve<R: Respond>(
        &self,
        request: Request<Streaming<Envelope>>,
        respond: Arc<R>,
    ) -> impl Stream<Item = Result<R::Response, tonic::Status>> + Send + 'static {
        let (_, extensions, mut requests) = request.into_parts();
        let connection = Connection::of(&extensions).cloned();
        let deliverer = self.clone();
        try_stream! {
            let _open = deliverer.metrics.stream();
            while let Some(envelope) = requests.next().await {
                let envelope = envelope.map_err(crate::advised)?;
                let mut session = match deliverer.open(envelope, connection.as_ref()) {
                    Ok(session) => session,
                    Err(status) => {
                        yield respond.status(status);
                        return;
                    }
                };
                let labels = DeliverLabels::new(&session.request.channel_id, respond.data_type());
                deliverer.metrics.requested(&labels);
                let sent = deliverer.metrics.sent(&labels);
                let end = loop {
                    match session.next().await {
                        Ok(Some(block)) => {
                            yield respond.block(&session.request, block)?;
                            sent.inc();
                        }
                        Ok(None) => break End::Status(Status::Success),
                        Err(end) => break end,
                    }
                };
                let status = match end {
                    End::Status(status) => status,
                    End::Broken(error) => {
                        session.count_end(&deliverer.metrics, &labels, false);
                        Err(error)?;
                        return;
                    }
                };
                session.count_end(&deliverer.metrics, &labels, status == Status::Success);
                yield respond.status(status);
                if status != Status::Success {
                    return;
                }
            }
        }
    }

    /// Fabric's order of checks: envelope, timestamp, TLS binding, channel, seek information,
    /// consensus health, access, positions.
    pub(super) fn open(
        &self,
        envelope: Envelope,
        connection: Option<&Connection>,
    ) -> Result<Session, Status> {
        let remote = connection
            .map(|c| c.remote().to_string())
            .unwrap_or_default();
        let request = self.parse(envelope, connection).map_err(|reason| {
            tracing::warn!(remote, "error parsing deliver envelope: {reason}");
            Status::BadRequest
        })?;
        let channel = request.channel_id.clone();
        let Some(source) = self.sources.source(&channel) else {
            // Clients poll for channels that are about to exist: not worth a warning.
            tracing::debug!(
                remote,
                channel,
                "rejecting deliver: channel not found; correct its name in the client, or join this \
                 node to it"
            );
            return Err(Status::NotFound);
        };
        let seek = SeekInfo::decode(request.data.clone()).map_err(|error| {
            tracing::warn!(remote, channel, %error, "malformed seek information");
            Status::BadRequest
        })?;
        let strict = seek.error_response() == SeekErrorResponse::Strict;
        if strict && source.errored() {
            tracing::warn!(
                remote,
                channel,
                "rejecting deliver because of a consenter error"
            );
            return Err(Status::ServiceUnavailable);
        }
        let expires = self
            .expiration_checks
            .then(|| expires_at(&request.creator))
            .flatten();
        let mut session = Session {
            height: source.height(),
            source,
            clock: self.clock.clone(),
            expires,
            judged_at: None,
            remote,
            fail_if_not_ready: seek.behavior() == SeekBehavior::FailIfNotReady,
            headers_only: seek.content_type() == SeekContentType::HeaderWithSig,
            strict,
            next: 0,
            stop: 0,
            done: false,
            request,
        };
        session.judge()?;
        session.position(seek)?;
        Ok(session)
    }

    fn parse(
        &self,
        envelope: Envelope,
        connection: Option<&Connection>,
    ) -> Result<SeekRequest, String> {
        let payload = Payload::decode(envelope.payload.clone()).map_err(|e| e.to_string())?;
        let Some(Header {
            channel_header,
            signature_header,
        }) = payload.header
        else {
            return Err("envelope has no header".to_owned());
        };
        let channel = ChannelHeader::decode(channel_header).map_err(|e| e.to_string())?;
        let signer = SignatureHeader::decode(signature_header).map_err(|e| e.to_string())?;
        self.check_timestamp(&channel)?;
        if self.mutual_tls {
            check_binding(&channel.tls_cert_hash, connection)?;
        }
        Ok(SeekRequest {
            channel_id: channel.channel_id,
            payload: envelope.payload,
            signature: envelope.signature,
            creator: signer.creator,
            data: payload.data,
        })
    }

    fn check_timestamp(&self, channel: &ChannelHeader) -> Result<(), String> {
        let Some(sent) = &channel.timestamp else {
            return Err("channel header in envelope must contain timestamp".to_owned());
        };
        let sent = i128::from(sent.seconds) * 1_000_000_000 + i128::from(sent.nanos);
        let now = i128::from(self.clock.unix_nanos());
        if (now - sent).unsigned_abs() > self.time_window.as_nanos() {
            return Err(format!(
                "envelope timestamp is {} s apart from the server's time, more than the {} s \
                 allowed: set the client's clock",
                (now - sent).unsigned_abs() / 1_000_000_000,
                self.time_window.as_secs()
            ));
        }
        Ok(())
    }
}

fn check_binding(claimed: &[u8], connection: Option<&Connection>) -> Result<(), String> {
    if claimed.is_empty() {
        return Err("client didn't include its TLS cert hash".to_owned());
    }
    let Some(actual) = connection.and_then(Connection::certificate_hash) else {
        return Err("client didn't send a TLS certificate".to_owned());
    };
    if actual != claimed {
        return Err("claimed TLS cert hash is not that of the TLS certificate".to_owned());
    }
    Ok(())
}

/// When the creator's certificate ends, in Unix seconds; none when it holds no readable
/// certificate, which then never expires (Fabric: `crypto.ExpiresAt`).
pub(crate) fn expires_at(creator: &[u8]) -> Option<i64> {
    let identity = SerializedIdentity::decode(creator).ok()?;
    let certificate = selvage_crypto::Certificate::from_pem(&identity.id_bytes).ok()?;
    Some(certificate.not_after())
}

/// One request being answered.
pub(super) struct Session {
    source: Arc<dyn Source>,
    pub(super) height: watch::Receiver<u64>,
    clock: Arc<dyn Clock>,
    request: SeekRequest,
    remote: String,
    expires: Option<i64>,
    /// The configuration sequence under which access was last judged.
    judged_at: Option<u64>,
    fail_if_not_ready: bool,
    headers_only: bool,
    strict: bool,
    next: u64,
    stop: u64,
    done: bool,
}

impl Session {
    fn channel(&self) -> &str {
        &self.request.channel_id
    }

    /// Counts the end of the request, unless the channel is gone, and its metrics with it.
    fn count_end(&self, metrics: &DeliverMetrics, labels: &DeliverLabels, success: bool) {
        if !self.source.closed() {
            metrics.completed(labels, success);
        }
    }

    fn judge(&mut self) -> Result<(), Status> {
        let refuse = |reason: &str| {
            tracing::warn!(
                channel = self.request.channel_id,
                remote = self.remote,
                "client is not authorized: {reason}"
            );
            Err(Status::Forbidden)
        };
        let now = self.clock.unix_seconds();
        if let Some(end) = self.expires.filter(|end| now > *end) {
            return refuse(&format!(
                "deliver client identity expired {} s ago by this node's clock: have the \
                 certificate issued again, or set the clock if it is wrong",
                now.saturating_sub(end)
            ));
        }
        let sequence = self.source.config_sequence();
        if self.judged_at.is_some_and(|judged| sequence <= judged) {
            return Ok(());
        }
        if let Err(reason) = self.source.authorize(&self.request) {
            return refuse(&reason);
        }
        self.judged_at = Some(sequence);
        Ok(())
    }

    /// Resolves start and stop as Fabric's file ledger and deliver handler do.
    fn position(&mut self, seek: SeekInfo) -> Result<(), Status> {
        let (Some(start), Some(stop)) = (seek.start, seek.stop) else {
            tracing::warn!(
                channel = self.channel(),
                remote = self.remote,
                "seek information lacks start or stop"
            );
            return Err(Status::BadRequest);
        };
        let height = *self.height.borrow();
        let newest = height.saturating_sub(1);
        // A start beyond the height finds nothing, whatever the behaviour asked for.
        let first = match &start.r#type {
            Some(Position::Oldest(_)) => Some(0),
            Some(Position::Newest(_)) => Some(newest),
            Some(Position::Specified(at)) if at.number <= height => Some(at.number),
            Some(Position::NextCommit(_)) => Some(height),
            _ => None,
        };
        let number = first.unwrap_or(0);
        self.stop = match &stop.r#type {
            Some(Position::Oldest(_)) => number,
            Some(Position::Newest(_)) if is_newest(&start) => number,
            Some(Position::Newest(_)) => newest,
            Some(Position::Specified(at)) => at.number,
            Some(Position::NextCommit(_)) | None => 0,
        };
        if matches!(stop.r#type, Some(Position::Specified(_))) && self.stop < number {
            tracing::warn!(
                channel = self.channel(),
                remote = self.remote,
                "start number {number} greater than stop number {}",
                self.stop
            );
            return Err(Status::BadRequest);
        }
        self.next = first.ok_or(Status::NotFound)?;
        Ok(())
    }

    /// The next block; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Arc<Block>>, End> {
        if self.done {
            return Ok(None);
        }
        self.wait().await?;
        let block = match self.source.recent(self.next) {
            Some(block) => block,
            None => self.read().await?,
        };
        self.judge()?;
        self.done = self.next == self.stop;
        self.next += 1;
        if self.headers_only && !is_config_block(&block) {
            return Ok(Some(Arc::new(Block {
                header: block.header.clone(),
                data: None,
                metadata: block.metadata.clone(),
            })));
        }
        Ok(Some(block))
    }

    async fn wait(&mut self) -> Result<(), End> {
        let next = self.next;
        if *self.height.borrow_and_update() > next {
            return Ok(());
        }
        if self.fail_if_not_ready {
            tracing::warn!(
                channel = self.channel(),
                remote = self.remote,
                "block {next} not found, block number greater than chain length bounds"
            );
            return Err(Status::NotFound.into());
        }
        loop {
            // Looked at after the height was marked as seen: whoever closes the channel sends the
            // height afterwards, so one of the two is noticed.
            let gone = self.source.closed() || (self.strict && self.source.errored());
            if gone || self.height.changed().await.is_err() {
                tracing::warn!(
                    channel = self.channel(),
                    remote = self.remote,
                    "aborting deliver because the channel stopped"
                );
                return Err(Status::ServiceUnavailable.into());
            }
            if *self.height.borrow_and_update() > next {
                return Ok(());
            }
        }
    }

    async fn read(&self) -> Result<Arc<Block>, End> {
        let (source, number) = (self.source.clone(), self.next);
        let read = tokio::task::spawn_blocking(move || source.read(number)).await;
        match read {
            Ok(Ok(block)) => Ok(block),
            Ok(Err(error)) => {
                tracing::error!(channel = self.channel(), %error, "deliver cannot read");
                Err(Status::ServiceUnavailable.into())
            }
            Err(_) => Err(End::Broken(tonic::Status::internal(
                "reading a block failed",
            ))),
        }
    }
}

fn is_newest(position: &SeekPosition) -> bool {
    matches!(position.r#type, Some(Position::Newest(_)))
}

/// Whether a block holds exactly one transaction, and that a configuration.
pub(crate) fn is_config_block(block: &Block) -> bool {
    let [only] = block.envelopes() else {
        return false;
    };
    let header = Envelope::decode(only.clone())
        .and_then(|envelope| Payload::decode(envelope.payload))
        .and_then(|payload| {
            ChannelHeader::decode(payload.header.unwrap_or_default().channel_header)
        });
    header.is_ok_and(|header| header.r#type == HeaderType::Config as i32)
}

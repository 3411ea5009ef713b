//! The incoming side: streams of other orderers.
//!
//! A stream is not answered until it ends, as in Fabric: whoever opened it can then give it up at
//! any time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request as HttpRequest, Response as HttpResponse};
use parking_lot::Mutex;
use selvage_crypto::Certificate;
use selvage_env::Env;
use selvage_net::services::cluster_node_service_server::{
    ClusterNodeService, ClusterNodeServiceServer,
};
use selvage_net::services::cluster_server::{Cluster, ClusterServer};
use selvage_net::tls::public_key;
use selvage_net::tonic::body::Body;
use selvage_net::tonic::codegen::{BoxFuture, Service};
use selvage_net::tonic::server::NamedService;
use selvage_net::tonic::{self, Code, Request, Response, Status, Streaming};
use selvage_net::{CancellationToken, Connection, describe_status};
use selvage_proto::common::Envelope;
use selvage_proto::orderer::cluster_node_service_step_request::Payload as BftPayload;
use selvage_proto::orderer::step_request::Payload;
use selvage_proto::orderer::{
    ClusterNodeServiceStepRequest, ClusterNodeServiceStepResponse, NodeAuthRequest, StepRequest,
    StepResponse,
};

use super::auth::{self, AuthError};
use super::links::{Links, Shared};
use super::members::{Channel, Kind};
use super::ports::Gone;
use crate::config::Settings;
use crate::refusals::{Reason, Refusals, Stream, UNKNOWN};

/// The largest message of somebody whose certificate no channel knows, in bytes: enough to be told
/// what is wrong.
const MAX_FROM_STRANGERS: usize = 64 << 10;
/// Streams of strangers at once.
const MAX_STRANGERS: usize = 64;
/// Streams of one node beside those its channels need.
const SPARE_STREAMS: usize = 16;
/// Streams of one node and channel: one for each kind of message, and as many while it connects
/// anew.
const STREAMS_PER_CHANNEL: usize = 4;
/// How often a certificate that expires soon is warned about.
const WARN_AGAIN: Duration = Duration::from_secs(300);

/// Limits of [`StepService`].
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest message of a node of a channel, in bytes (`General.MaxRecvMsgSize`).
    pub max_message: usize,
    /// From when on an expiring certificate is warned about (`CertExpirationWarningThreshold`).
    pub expiry_warning: Duration,
}

impl Limits {
    /// As `General.Cluster` and `General` say.
    pub fn new(settings: &Settings) -> Self {
        let general = &settings.general;
        Self {
            max_message: usize::try_from(general.max_recv_msg_size.0).unwrap_or(usize::MAX),
            expiry_warning: general.cluster.cert_expiration_warning_threshold.0,
        }
    }
}

/// Serves `orderer.Cluster` and `orderer.ClusterNodeService`. Clones share everything.
#[derive(Clone)]
pub struct StepService(Arc<Inner>);

struct Inner {
    links: Arc<Shared>,
    env: Env,
    limits: Limits,
    shutdown: CancellationToken,
    streams: Mutex<HashMap<Vec<u8>, usize>>,
    refusals: Refusals,
}

impl std::fmt::Debug for StepService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StepService")
    }
}

impl StepService {
    /// Hands what comes in to the channels of `links`. Streams end when `shutdown` is cancelled.
    pub fn new(
        links: &Links,
        limits: Limits,
        refusals: Refusals,
        env: Env,
        shutdown: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            links: links.shared().clone(),
            env,
            limits,
            shutdown,
            streams: Mutex::new(HashMap::new()),
            refusals,
        }))
    }

    /// The service of Raft channels.
    pub fn cluster(&self) -> Gate<ClusterServer<Self>> {
        let limited = |limit| ClusterServer::new(self.clone()).max_decoding_message_size(limit);
        Gate {
            service: self.clone(),
            known: limited(self.0.limits.max_message),
            strangers: limited(MAX_FROM_STRANGERS.min(self.0.limits.max_message)),
        }
    }

    /// The service of BFT channels.
    pub fn node_service(&self) -> Gate<ClusterNodeServiceServer<Self>> {
        let limited =
            |limit| ClusterNodeServiceServer::new(self.clone()).max_decoding_message_size(limit);
        Gate {
            service: self.clone(),
            known: limited(self.0.limits.max_message),
            strangers: limited(MAX_FROM_STRANGERS.min(self.0.limits.max_message)),
        }
    }
}

/// A service of which strangers get only a glimpse: large messages would cost memory before the
/// message can say which channel it is for.
#[derive(Clone)]
pub struct Gate<S> {
    service: StepService,
    known: S,
    strangers: S,
}

impl<S> std::fmt::Debug for Gate<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<HttpRequest<B>> for Gate<S>
where
    S: Service<HttpRequest<B>, Response = HttpResponse<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = BoxFuture<HttpResponse<Body>, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match self.known.poll_ready(cx) {
            Poll::Ready(Ok(())) => self.strangers.poll_ready(cx),
            other => other,
        }
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        let connection = Connection::of(request.extensions());
        let key = connection.and_then(|c| public_key(c.certificate()?));
        let directory = &self.service.0.links.directory;
        let known = key.is_some_and(|key| directory.memberships(&key) > 0);
        let served = if known {
            self.known.call(request)
        } else {
            self.strangers.call(request)
        };
        Box::pin(served)
    }
}

/// Who opened a stream.
struct Caller {
    connection: Connection,
    /// The public key of its TLS certificate, where it showed one.
    key: Option<Vec<u8>>,
    name: String,
    expires_at: Option<i64>,
    warned: Option<Instant>,
    /// The channel that its last message was for.
    channel: String,
}

impl Caller {
    fn new<T>(request: &Request<T>) -> Result<Self, Status> {
        let connection = request.extensions().get::<Connection>().cloned();
        let connection = connection.ok_or_else(|| Status::internal("no connection"))?;
        let certificate = connection.certificate();
        let readable = certificate.and_then(|c| Certificate::from_der(c).ok());
        Ok(Self {
            key: certificate.and_then(|c| public_key(c)),
            name: readable
                .as_ref()
                .map_or("unidentified node", |c| c.common_name())
                .to_owned(),
            expires_at: readable.map(|c| c.not_after()),
            warned: None,
            channel: UNKNOWN.to_owned(),
            connection,
        })
    }

    fn from(&self) -> String {
        format!("{}({})", self.name, self.connection.remote())
    }
}

/// How a stream ends that does not end well.
enum Ended {
    /// What came is refused.
    Refused(Box<Refusal>),
    /// The connection broke, or this node ends.
    Broke(Status),
}

struct Refusal {
    why: Stream,
    /// What the log is told, where that is more than the sender is.
    detail: Option<String>,
    status: Status,
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<Status> for Ended {
    /// What reading a stream says: broken connections, and messages that cannot be read.
    fn from(status: Status) -> Self {
        let why = match status.code() {
            Code::OutOfRange => Stream::TooLarge,
            Code::Internal if status.message().contains("decode Protobuf") => Stream::Malformed,
            _ => return Self::Broke(status),
        };
        refused(why, status).into()
    }
}

fn refused(why: Stream, status: Status) -> Refusal {
    Refusal {
        why,
        detail: None,
        status,
    }
}

fn malformed(text: &str) -> Refusal {
    refused(Stream::Malformed, Status::unknown(text))
}

/// A stream that counts among those of its caller until it is dropped.
struct Counted<'a> {
    inner: &'a Inner,
    key: Vec<u8>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut streams = self.inner.streams.lock();
        if let Some(count) = streams.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.key);
            }
        }
    }
}

impl Inner {
    /// Counts a stream. All strangers share one count.
    fn count(&self, caller: &Caller) -> Result<Counted<'_>, Ended> {
        let key = caller.key.clone().unwrap_or_default();
        let channels = self.links.directory.memberships(&key);
        let (key, limit) = match channels {
            0 => (Vec::new(), MAX_STRANGERS),
            n => (key, n * STREAMS_PER_CHANNEL + SPARE_STREAMS),
        };
        let mut streams = self.streams.lock();
        let count = streams.entry(key.clone()).or_default();
        if *count >= limit {
            let status = Status::resource_exhausted(format!(
                "too many cluster streams, this orderer takes {limit} at once from you"
            ));
            return Err(refused(Stream::TooMany, status).into());
        }
        *count += 1;
        drop(streams);
        Ok(Counted { inner: self, key })
    }

    /// Counts a stream that was refused, and gives what its opener is told.
    fn end(&self, caller: &Caller, ended: Ended) -> Status {
        let refusal = match ended {
            Ended::Broke(status) => {
                let text = describe_status(&status);
                tracing::debug!("cluster stream from {} broke: {text}", caller.from());
                return status;
            }
            Ended::Refused(refusal) => *refusal,
        };
        let known = self.links.directory.get(&caller.channel);
        let channel = known.as_ref().map_or(UNKNOWN, |known| &known.name);
        let text = match refusal.detail {
            Some(detail) => detail,
            None => describe_status(&refusal.status),
        };
        let what = format_args!("a cluster stream from {}: {text}", caller.from());
        self.refusals
            .note(channel, Reason::Cluster(refusal.why), what);
        refusal.status
    }

    fn warn_of_expiry(&self, caller: &mut Caller, channel: &str) {
        let Some(expires_at) = caller.expires_at else {
            return;
        };
        let left = expires_at - self.env.clock.unix_seconds();
        let threshold = i64::try_from(self.limits.expiry_warning.as_secs()).unwrap_or(i64::MAX);
        if left > threshold || caller.warned.is_some_and(|at| at.elapsed() < WARN_AGAIN) {
            return;
        }
        caller.warned = Some(Instant::now());
        tracing::warn!(
            "Certificate of {} from {} for channel {channel} expires in less than {} hours",
            caller.name,
            caller.connection.remote(),
            left.max(0) / 3600 + 1
        );
    }

    /// Serves one stream with `serve`, counted and told about.
    async fn serve<T, F>(&self, request: Request<Streaming<T>>, serve: F) -> Result<(), Status>
    where
        F: AsyncFnOnce(&mut Caller, Streaming<T>) -> Result<(), Ended>,
    {
        let mut caller = Caller::new(&request)?;
        let counted = self.count(&caller);
        let _counted = counted.map_err(|ended| self.end(&caller, ended))?;
        let _shown = self.links.metrics.ingress_streams.enter();
        tracing::debug!("Connection from {}", caller.from());
        let ended = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {
                return Err(Status::unavailable("this orderer is shutting down"));
            }
            ended = serve(&mut caller, request.into_inner()) => ended,
        };
        ended.map_err(|ended| self.end(&caller, ended))?;
        tracing::debug!("{} disconnected", caller.from());
        Ok(())
    }

    async fn raft(
        &self,
        caller: &mut Caller,
        mut messages: Streaming<StepRequest>,
    ) -> Result<(), Ended> {
        while let Some(message) = messages.message().await? {
            let payload = message
                .payload
                .ok_or_else(|| malformed("message is neither a Submit nor a Consensus request"))?;
            match payload {
                Payload::ConsensusRequest(request) => {
                    let (channel, from) = self.authorise(caller, &request.channel)?;
                    self.warn_of_expiry(caller, &request.channel);
                    let inlets = &channel.inlets;
                    let handed = inlets.receive(from, request.payload, request.metadata);
                    gone(handed.await, &request.channel)?;
                }
                Payload::SubmitRequest(request) => {
                    let (channel, from) = self.authorise(caller, &request.channel)?;
                    self.warn_of_expiry(caller, &request.channel);
                    let envelope = envelope(request.payload)?;
                    let sequence = request.last_validation_seq;
                    let handed = channel.inlets.forward(from, envelope, sequence);
                    gone(handed.await, &request.channel)?;
                }
            }
        }
        Ok(())
    }

    /// The Raft channel of a message, and its sender's number there. The texts are Fabric's.
    fn authorise(
        &self,
        caller: &mut Caller,
        channel: &str,
    ) -> Result<(Arc<Channel>, u64), Refusal> {
        channel.clone_into(&mut caller.channel);
        if channel.is_empty() {
            return Err(malformed("badly formatted message, cannot extract channel"));
        }
        let known = self.links.directory.get(channel);
        let known = known.filter(|channel| channel.members.load().kind == Some(Kind::Raft));
        let known = known.ok_or_else(|| unknown_channel(channel))?;
        let key = caller.key.as_ref().ok_or_else(|| {
            let status = Status::unknown("no TLS certificate sent");
            refused(Stream::NoCertificate, status)
        })?;
        let from = known.members.load().id_of(key);
        let from = from.ok_or_else(|| {
            let status =
                Status::unknown("certificate extracted from TLS connection isn't authorized");
            refused(Stream::UnknownCertificate, status)
        })?;
        Ok((known, from))
    }

    async fn bft(
        &self,
        caller: &mut Caller,
        mut messages: Streaming<ClusterNodeServiceStepRequest>,
    ) -> Result<(), Ended> {
        let Some(first) = messages.message().await? else {
            return Ok(());
        };
        let Some(BftPayload::NodeAuthrequest(request)) = first.payload else {
            let error = AuthError::Denied("invalid request object".to_owned());
            return Err(self.deny(caller, Stream::Malformed, &error).into());
        };
        let name = request.channel.clone();
        caller.channel.clone_from(&name);
        let from = request.from_id;
        let channel = self
            .authenticate(caller, &request)
            .map_err(|(why, error)| self.deny(caller, why, &error))?;
        drop(request);
        while let Some(message) = messages.message().await? {
            if channel.members.load().node(from).is_none() {
                let status = Status::unknown(format!(
                    "stream is stale: node {from} is no member of channel {name} any more"
                ));
                return Err(refused(Stream::Former, status).into());
            }
            self.warn_of_expiry(caller, &name);
            let handed = match message.payload {
                Some(BftPayload::NodeConrequest(request)) => {
                    let inlets = &channel.inlets;
                    inlets
                        .receive(from, request.payload, request.metadata)
                        .await
                }
                Some(BftPayload::NodeTranrequest(request)) => {
                    let envelope = envelope(request.payload)?;
                    let sequence = request.last_validation_seq;
                    channel.inlets.forward(from, envelope, sequence).await
                }
                _ => {
                    let text = "Message is neither a Submit nor Consensus request";
                    return Err(malformed(text).into());
                }
            };
            gone(handed, &name)?;
        }
        Ok(())
    }

    fn authenticate(
        &self,
        caller: &Caller,
        request: &NodeAuthRequest,
    ) -> Result<Arc<Channel>, (Stream, AuthError)> {
        auth::check_version(request).map_err(|error| (Stream::Version, error))?;
        let denied = |why: Stream, reason: String| (why, AuthError::Denied(reason));
        let unknown = || {
            let reason = format!("channel {} not found in config", request.channel);
            denied(Stream::UnknownChannel, reason)
        };
        let known = self.links.directory.get(&request.channel);
        let known = known.ok_or_else(unknown)?;
        let members = known.members.load_full();
        let own = members.own().ok_or_else(unknown)?;
        let tls = caller.connection.tls().ok_or_else(|| {
            let reason = "session binding read failed: no TLS".to_owned();
            denied(Stream::NoCertificate, reason)
        })?;
        auth::verify(request, own, &members, tls).map_err(|error| (Stream::Forged, error))?;
        // Mutual TLS as well: the certificates stand in the channel's configuration.
        let shown = caller.key.as_ref().and_then(|key| members.id_of(key));
        if shown != Some(request.from_id) {
            let reason = "certificate extracted from TLS connection isn't authorized".to_owned();
            return Err(denied(Stream::UnknownCertificate, reason));
        }
        Ok(known)
    }

    /// Strangers learn nothing, as in Fabric; orderers of another make learn that they are.
    fn deny(&self, caller: &Caller, why: Stream, error: &AuthError) -> Refusal {
        tracing::debug!(
            "service authentication of {} failed with error: {error}",
            caller.from()
        );
        let status = match error {
            AuthError::Version { .. } => Status::unauthenticated(error.to_string()),
            AuthError::Denied(_) => Status::unauthenticated("access denied"),
        };
        Refusal {
            detail: Some(error.to_string()),
            ..refused(why, status)
        }
    }
}

fn unknown_channel(channel: &str) -> Refusal {
    let status = Status::unknown(format!("channel {channel} doesn't exist"));
    refused(Stream::UnknownChannel, status)
}

fn gone(handed: Result<(), Gone>, channel: &str) -> Result<(), Refusal> {
    handed.map_err(|Gone| unknown_channel(channel))
}

fn envelope(envelope: Option<Envelope>) -> Result<Envelope, Refusal> {
    envelope.ok_or_else(|| malformed("a Submit request without envelope"))
}

type Nothing<T> = futures::stream::Empty<Result<T, Status>>;

#[tonic::async_trait]
impl Cluster for StepService {
    type StepStream = Nothing<StepResponse>;

    async fn step(
        &self,
        request: Request<Streaming<StepRequest>>,
    ) -> Result<Response<Self::StepStream>, Status> {
        let inner = &self.0;
        inner
            .serve(request, async |caller, messages| {
                inner.raft(caller, messages).await
            })
            .await?;
        Ok(Response::new(futures::stream::empty()))
    }
}

#[tonic::async_trait]
impl ClusterNodeService for StepService {
    type StepStream = Nothing<ClusterNodeServiceStepResponse>;

    async fn step(
        &self,
        request: Request<Streaming<ClusterNodeServiceStepRequest>>,
    ) -> Result<Response<Self::StepStream>, Status> {
        let inner = &self.0;
        inner
            .serve(request, async |caller, messages| {
                inner.bft(caller, messages).await
            })
            .await?;
        Ok(Response::new(futures::stream::empty()))
    }
}

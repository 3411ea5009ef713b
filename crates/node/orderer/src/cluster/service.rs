//! The incoming side: streams of other orderers.
//!
//! A stream is not answered until it ends, as in Fabric: whoever opened it can then give it up at
//! any time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
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
use selvage_net::tonic::{self, Request, Response, Status, Streaming};
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
/// One line per address and this long about refused streams.
const QUIET: Duration = Duration::from_secs(60);
/// Addresses remembered for that.
const REMEMBERED: usize = 1_024;

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
    refusals: Mutex<HashMap<IpAddr, Instant>>,
}

impl std::fmt::Debug for StepService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StepService")
    }
}

impl StepService {
    /// Hands what comes in to the channels of `links`. Streams end when `shutdown` is cancelled.
    pub fn new(links: &Links, limits: Limits, env: Env, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            links: links.shared().clone(),
            env,
            limits,
            shutdown,
            streams: Mutex::new(HashMap::new()),
            refusals: Mutex::new(HashMap::new()),
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
            connection,
        })
    }

    fn from(&self) -> String {
        format!("{}({})", self.name, self.connection.remote())
    }
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
    fn count(&self, caller: &Caller) -> Result<Counted<'_>, Status> {
        let key = caller.key.clone().unwrap_or_default();
        let channels = self.links.directory.memberships(&key);
        let (key, limit) = match channels {
            0 => (Vec::new(), MAX_STRANGERS),
            n => (key, n * STREAMS_PER_CHANNEL + SPARE_STREAMS),
        };
        let mut streams = self.streams.lock();
        let count = streams.entry(key.clone()).or_default();
        if *count >= limit {
            return Err(Status::resource_exhausted(format!(
                "too many cluster streams, this orderer takes {limit} at once from you"
            )));
        }
        *count += 1;
        drop(streams);
        Ok(Counted { inner: self, key })
    }

    /// Tells the log about a stream that was refused or broke, now and then.
    fn note(&self, caller: &Caller, status: &Status) {
        let now = Instant::now();
        let mut seen = self.refusals.lock();
        if seen.len() >= REMEMBERED {
            seen.retain(|_, at| now.duration_since(*at) < QUIET);
            if seen.len() >= REMEMBERED {
                seen.clear();
            }
        }
        let address = caller.connection.remote().ip();
        let quiet = seen
            .get(&address)
            .is_some_and(|at| now.duration_since(*at) < QUIET);
        let text = describe_status(status);
        if quiet {
            tracing::debug!("cluster stream from {} ended: {text}", caller.from());
        } else {
            seen.insert(address, now);
            tracing::warn!("cluster stream from {} ended: {text}", caller.from());
        }
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
        F: AsyncFnOnce(&mut Caller, Streaming<T>) -> Result<(), Status>,
    {
        let mut caller = Caller::new(&request)?;
        let _counted = self.count(&caller)?;
        let _shown = self.links.metrics.ingress_streams.enter();
        tracing::debug!("Connection from {}", caller.from());
        let ended = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {
                return Err(Status::unavailable("this orderer is shutting down"));
            }
            ended = serve(&mut caller, request.into_inner()) => ended,
        };
        match &ended {
            Ok(()) => tracing::debug!("{} disconnected", caller.from()),
            Err(status) => self.note(&caller, status),
        }
        ended
    }

    async fn raft(
        &self,
        caller: &mut Caller,
        mut messages: Streaming<StepRequest>,
    ) -> Result<(), Status> {
        while let Some(message) = messages.message().await? {
            let payload = message.payload.ok_or_else(|| {
                Status::unknown("message is neither a Submit nor a Consensus request")
            })?;
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
    fn authorise(&self, caller: &Caller, channel: &str) -> Result<(Arc<Channel>, u64), Status> {
        if channel.is_empty() {
            return Err(Status::unknown(
                "badly formatted message, cannot extract channel",
            ));
        }
        let known = self.links.directory.get(channel);
        let known = known.filter(|channel| channel.members.load().kind == Some(Kind::Raft));
        let known = known.ok_or_else(|| unknown_channel(channel))?;
        let key = caller
            .key
            .as_ref()
            .ok_or_else(|| Status::unknown("no TLS certificate sent"))?;
        let from = known.members.load().id_of(key);
        let from = from.ok_or_else(unauthorised)?;
        Ok((known, from))
    }

    async fn bft(
        &self,
        caller: &mut Caller,
        mut messages: Streaming<ClusterNodeServiceStepRequest>,
    ) -> Result<(), Status> {
        let Some(first) = messages.message().await? else {
            return Ok(());
        };
        let Some(BftPayload::NodeAuthrequest(request)) = first.payload else {
            return Err(self.deny(
                caller,
                &AuthError::Denied("invalid request object".to_owned()),
            ));
        };
        let name = request.channel.clone();
        let from = request.from_id;
        let channel = self
            .authenticate(caller, &request)
            .map_err(|error| self.deny(caller, &error))?;
        drop(request);
        while let Some(message) = messages.message().await? {
            if channel.members.load().node(from).is_none() {
                return Err(Status::unknown(format!(
                    "stream is stale: node {from} is no member of channel {name} any more"
                )));
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
                    return Err(Status::unknown(
                        "Message is neither a Submit nor Consensus request",
                    ));
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
    ) -> Result<Arc<Channel>, AuthError> {
        auth::check_version(request)?;
        let denied = |reason: String| AuthError::Denied(reason);
        let known = self.links.directory.get(&request.channel);
        let known = known
            .ok_or_else(|| denied(format!("channel {} not found in config", request.channel)))?;
        let members = known.members.load_full();
        let Some(own) = members.own() else {
            let reason = format!("channel {} not found in config", request.channel);
            return Err(denied(reason));
        };
        let tls = caller.connection.tls();
        let tls = tls.ok_or_else(|| denied("session binding read failed: no TLS".to_owned()))?;
        auth::verify(request, own, &members, tls)?;
        // Mutual TLS as well: the certificates stand in the channel's configuration.
        let shown = caller.key.as_ref().and_then(|key| members.id_of(key));
        if shown != Some(request.from_id) {
            return Err(denied(
                "certificate extracted from TLS connection isn't authorized".to_owned(),
            ));
        }
        Ok(known)
    }

    /// Strangers learn nothing, as in Fabric; orderers of another make learn that they are.
    fn deny(&self, caller: &Caller, error: &AuthError) -> Status {
        tracing::debug!(
            "service authentication of {} failed with error: {error}",
            caller.from()
        );
        match error {
            AuthError::Version { .. } => Status::unauthenticated(error.to_string()),
            AuthError::Denied(reason) => {
                self.note(caller, &Status::unauthenticated(reason.clone()));
                Status::unauthenticated("access denied")
            }
        }
    }
}

fn unknown_channel(channel: &str) -> Status {
    Status::unknown(format!("channel {channel} doesn't exist"))
}

fn unauthorised() -> Status {
    Status::unknown("certificate extracted from TLS connection isn't authorized")
}

fn gone(handed: Result<(), Gone>, channel: &str) -> Result<(), Status> {
    handed.map_err(|Gone| unknown_channel(channel))
}

fn envelope(envelope: Option<Envelope>) -> Result<Envelope, Status> {
    envelope.ok_or_else(|| Status::unknown("a Submit request without envelope"))
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

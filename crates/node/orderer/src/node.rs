//! Putting an orderer together, running it and stopping it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures::Stream;
use selvage_channel::CONSENSUS_BFT;
use selvage_env::{Clock, Env};
use selvage_identity::SigningIdentity;
use selvage_net::axum::Router;
use selvage_net::config::{ByteSize, Loaded, process_variables};
use selvage_net::deliver::{Deliverer, Respond, SeekRequest};
use selvage_net::health::Serving;
use selvage_net::logging::{self, Levels};
use selvage_net::metrics::{DeliverMetrics, Metrics};
use selvage_net::ops::{Operations, Version};
use selvage_net::server::{CallMetrics, Server, ServerOptions};
use selvage_net::services::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use selvage_net::throttle::Throttled;
use selvage_net::tls::{ServerTls, TlsIdentity};
use selvage_net::tonic::service::Routes;
use selvage_net::tonic::{self, Request, Response, Streaming};
use selvage_net::{CancellationToken, NetError};
use selvage_ordering::Cutting;
use selvage_ordering::filters::Filters;
use selvage_ordering::solo::SoloOptions;
use selvage_proto::common::{Block, Envelope, Status};
use selvage_proto::orderer::deliver_response::Type as Delivered;
use selvage_proto::orderer::{BroadcastResponse, DeliverResponse};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::broadcast::Broadcaster;
use crate::chain::{ChainMetrics, ClusterNode, Shared};
use crate::cluster::{ClusterTls, Limits, LinkOptions, Links, StepService};
use crate::config::{Endpoint, Settings};
use crate::error::OrdererError;
use crate::limiter::Limiter;
use crate::local_msp::{LocalMsp, Signer};
use crate::participation::Participation;
use crate::refusals::Refusals;
use crate::registrar::Registrar;
use crate::reload::Reload;
use crate::standings;
use crate::tls::EndpointTls;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit this program was built from, where the build said so.
pub const COMMIT: &str = match option_env!("SELVAGE_COMMIT") {
    Some(commit) => commit,
    None => "",
};

/// How long calls may go on after shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a message may wait for a leader before its client is told to try again.
const PATIENCE: Duration = Duration::from_secs(10);
/// From when on an expiring certificate is warned about.
const EXPIRY_WARNING: i64 = 7 * 24 * 3600;

/// An orderer that serves.
pub struct Orderer {
    /// Where clients and peers connect.
    pub address: SocketAddr,
    /// The operations endpoint.
    pub operations: SocketAddr,
    /// The participation API.
    pub admin: SocketAddr,
    shutdown: CancellationToken,
    registrar: Arc<Registrar>,
    servers: JoinSet<Result<(), NetError>>,
    reload: Reload,
    calls: CallMetrics,
    fatal: mpsc::Receiver<(String, String)>,
}

/// Runs an orderer as its binary does: settings and logging from the environment, until a signal
/// asks it to stop.
pub async fn run() -> Result<(), OrdererError> {
    let variables = process_variables();
    let text = |name: &str| variables.get(name).map_or("", String::as_str);
    let levels = logging::init(text("FABRIC_LOGGING_SPEC"), text("FABRIC_LOGGING_FORMAT"))?;
    let Loaded {
        settings,
        file,
        unknown,
    } = Settings::load(&variables)?;
    tracing::info!(file = %file.display(), "read the configuration");
    for key in unknown {
        tracing::warn!("configuration key {key} is not known and has no effect");
    }
    let orderer = Orderer::start(&settings, Env::real(), levels).await?;
    orderer.serve_until(interrupted()).await
}

/// Waits for SIGTERM or SIGINT.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::warn!("signals cannot be received; end this process with kill -9");
        return std::future::pending().await;
    };
    let name = tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    };
    tracing::info!("Received signal: {name}");
}

impl Orderer {
    /// Opens the channels, takes the ports and begins to serve.
    pub async fn start(
        settings: &Settings,
        env: Env,
        levels: Levels,
    ) -> Result<Self, OrdererError> {
        let general = &settings.general;
        let msp = LocalMsp::new(&general.local_msp_dir, &general.local_msp_id);
        let files = msp.read()?;
        let identity = msp.identity(files.clone())?;
        warn_of_expiry(&identity, env.clock.as_ref());
        let signer = Signer::new(identity);
        let metrics = Metrics::default();
        let tls = EndpointTls::load("General.TLS", &general.tls, false)?;
        let server_tls = tls.as_ref().map(|tls| tls.server.clone());
        let shutdown = CancellationToken::new();
        let cluster = cluster(settings, signer.clone(), &metrics, &env)?;
        let between = ClusterTls::listener(settings)?;
        let between_tls = between.as_ref().map(|tls| tls.server.clone());
        let mut reload = watch_certificates(settings, tls.as_ref(), between.as_ref(), &cluster);
        reload.watch_identity(msp, files, signer.clone());
        let roots_follow = Arc::new(FollowRoots {
            listeners: tls.into_iter().chain(between).collect(),
            cluster: cluster.tls.clone(),
            registrar: OnceLock::new(),
        });

        let refusals = Refusals::new(&metrics, env.clock.clone());
        let (fatal_sender, fatal) = mpsc::channel(1);
        let follow = roots_follow.clone();
        let shared = Shared {
            env: env.clone(),
            signer,
            filters: filters(settings),
            solo: solo_options(settings),
            cluster: cluster.clone(),
            metrics: ChainMetrics::new(&metrics),
            refusals: refusals.clone(),
            config_changed: Arc::new(move || follow.update()),
            fatal: fatal_sender,
        };
        let location = settings.file_ledger.location.clone();
        let registrar = Registrar::open(location.as_ref(), shared, &metrics)?;
        let _ = roots_follow.registrar.set(Arc::downgrade(&registrar));
        roots_follow.update();

        let operations = operations(settings, &registrar, &metrics, &env, levels);
        let participation = Participation::new(registrar.clone());
        let limit = body_limit(settings.channel_participation.max_request_body_size);
        let admin = selvage_net::http::endpoint(limit, move |request| {
            let participation = participation.clone();
            async move { participation.answer(request).await }
        });
        let clock = &env.clock;
        let broadcaster = broadcaster(settings, &registrar, &metrics, refusals.clone(), clock);
        let deliverer = deliverer(settings, &registrar, &metrics, env.clock.clone());
        let mut grpc = grpc_routes(settings, broadcaster, deliverer);
        let mut between = None;
        if let Some(links) = &cluster.links {
            let limits = Limits::new(settings);
            let steps = StepService::new(links, limits, refusals, env.clone(), shutdown.clone());
            let (raft, bft) = (steps.cluster(), steps.node_service());
            match between_tls {
                Some(tls) => {
                    let routes = Routes::new(raft).add_service(bft);
                    between = Some((tls, routes.prepare().into_axum_router()));
                }
                None => grpc = grpc.add_service(raft).add_service(bft),
            }
        }
        let grpc = grpc.prepare().into_axum_router();

        let mut orderer = Self {
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            operations: SocketAddr::from(([0, 0, 0, 0], 0)),
            admin: SocketAddr::from(([0, 0, 0, 0], 0)),
            shutdown,
            registrar,
            servers: JoinSet::new(),
            reload,
            calls: CallMetrics::new(&metrics),
            fatal,
        };
        orderer
            .take_ports(settings, operations.router(), admin, grpc, server_tls)
            .await?;
        if let Some((tls, routes)) = between {
            orderer.listen_cluster(settings, tls, routes).await?;
        }
        let reload = std::mem::take(&mut orderer.reload);
        orderer.servers.spawn(reload.run(orderer.shutdown.clone()));
        tracing::info!(
            target: "orderer.common.server",
            address = %orderer.address,
            operations = %orderer.operations,
            admin = %orderer.admin,
            channels = orderer.registrar.chains().len(),
            "Beginning to serve requests"
        );
        Ok(orderer)
    }

    async fn take_ports(
        &mut self,
        settings: &Settings,
        operations: Router,
        admin: Router,
        grpc: Router,
        grpc_tls: Option<ServerTls>,
    ) -> Result<(), OrdererError> {
        let section = "the operations endpoint (Operations.ListenAddress)";
        self.operations = self
            .listen_http(section, "Operations.TLS", &settings.operations, operations)
            .await?;
        let section = "the participation API (Admin.ListenAddress)";
        self.admin = self
            .listen_http(section, "Admin.TLS", &settings.admin, admin)
            .await?;
        let general = &settings.general;
        let mut options = self.grpc_options(grpc_tls);
        options.keepalive_interval = general.keepalive.server_interval.0;
        options.keepalive_timeout = general.keepalive.server_timeout.0;
        if !general.connection_timeout.0.is_zero() {
            options.handshake_timeout = general.connection_timeout.0;
        }
        let address = host_port(&general.listen_address, general.listen_port);
        let section = "the orderer (General.ListenAddress, General.ListenPort)";
        self.address = self.listen(section, &address, options, grpc).await?;
        Ok(())
    }

    fn grpc_options(&self, tls: Option<ServerTls>) -> ServerOptions {
        ServerOptions {
            metrics: Some(self.calls.clone()),
            ..ServerOptions::grpc(tls)
        }
    }

    /// The listener that other orderers have to themselves.
    async fn listen_cluster(
        &mut self,
        settings: &Settings,
        tls: ServerTls,
        routes: Router,
    ) -> Result<(), OrdererError> {
        let cluster = &settings.general.cluster;
        let address = host_port(&cluster.listen_address, cluster.listen_port);
        let section = "the cluster (General.Cluster.ListenAddress, General.Cluster.ListenPort)";
        let options = self.grpc_options(Some(tls));
        self.listen(section, &address, options, routes).await?;
        Ok(())
    }

    async fn listen_http(
        &mut self,
        section: &'static str,
        tls_section: &'static str,
        endpoint: &Endpoint,
        router: Router,
    ) -> Result<SocketAddr, OrdererError> {
        let tls = EndpointTls::load(tls_section, &endpoint.tls, true)?;
        if let Some(tls) = &tls {
            let (server, files) = (tls.server.clone(), &endpoint.tls);
            let take = move |identity| server.set_identity(identity);
            self.reload.watch(
                tls_section,
                (&files.certificate, &files.private_key),
                Box::new(take),
            );
        }
        let options = ServerOptions::http(tls.map(|tls| tls.server));
        self.listen(section, &endpoint.listen_address, options, router)
            .await
    }

    async fn listen(
        &mut self,
        section: &'static str,
        address: &str,
        mut options: ServerOptions,
        router: Router,
    ) -> Result<SocketAddr, OrdererError> {
        options.drain = DRAIN;
        let server = Server::bind(address, options)
            .await
            .map_err(|source| OrdererError::Listen { section, source })?;
        let address = server.local_addr();
        self.servers
            .spawn(server.serve(router, self.shutdown.clone()));
        Ok(address)
    }

    /// Serves until `stop` completes or a channel can no longer write, which is an error.
    pub async fn serve_until(mut self, stop: impl Future<Output = ()>) -> Result<(), OrdererError> {
        let failed = tokio::select! {
            () = stop => None,
            failed = self.fatal.recv() => failed,
        };
        self.stop().await;
        match failed {
            Some((channel, reason)) => Err(OrdererError::Stopped { channel, reason }),
            None => Ok(()),
        }
    }

    /// Stops serving. Messages that are not in a block yet are refused.
    pub async fn stop(mut self) {
        let chains = self.registrar.stop();
        self.shutdown.cancel();
        while self.servers.join_next().await.is_some() {}
        // Whoever opens the ledger next finds it unlocked.
        for _ in 0..200 {
            if chains.iter().all(|chain| chain.strong_count() == 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tracing::warn!("some calls did not end in time");
    }
}

/// Gives the listeners the client roots of the channels whenever one of them changes.
struct FollowRoots {
    listeners: Vec<EndpointTls>,
    cluster: Option<Arc<ClusterTls>>,
    registrar: OnceLock<Weak<Registrar>>,
}

impl FollowRoots {
    fn update(&self) {
        let registrar = self.registrar.get().and_then(Weak::upgrade);
        let Some(registrar) = registrar else { return };
        for listener in &self.listeners {
            listener.follow(&registrar);
        }
        if let Some(cluster) = &self.cluster {
            cluster.follow(&registrar.configs());
        }
    }
}

fn warn_of_expiry(signer: &SigningIdentity, clock: &dyn Clock) {
    let left = signer.expires_at() - clock.unix_seconds();
    if left <= 0 {
        tracing::warn!("The orderer's enrolment certificate has expired; renew it");
    } else if left < EXPIRY_WARNING {
        let days = left / (24 * 3600);
        tracing::warn!(
            "The orderer's enrolment certificate expires within {} days",
            days + 1
        );
    }
}

fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        return format!("[{host}]:{port}");
    }
    format!("{host}:{port}")
}

fn body_limit(size: ByteSize) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

fn filters(settings: &Settings) -> Filters {
    Filters {
        check_expiry: !settings.general.authentication.no_expiration_checks,
        migration_targets: vec![CONSENSUS_BFT.to_owned()],
    }
}

fn solo_options(settings: &Settings) -> SoloOptions {
    let ours = &settings.selvage;
    SoloOptions {
        cutting: match ours.eager_cutting {
            true => Cutting::Eager {
                linger: ours.eager_linger.0,
            },
            false => Cutting::Timeout,
        },
        max_waiting: ours.max_waiting_messages,
        max_waiting_bytes: body_limit(ours.max_waiting_bytes),
    }
}

/// What this node needs to order together with others.
fn cluster(
    settings: &Settings,
    signer: Signer,
    metrics: &Metrics,
    env: &Env,
) -> Result<ClusterNode, OrdererError> {
    let tls = ClusterTls::load(settings)?;
    let links = tls.as_ref().map(|tls| {
        let options = LinkOptions::new(settings);
        Links::new(options, tls.clone(), signer, metrics, env.clone())
    });
    Ok(ClusterNode {
        links,
        tls,
        journals: settings.wal_dir(),
        tick: settings.consensus.tick_interval_override()?,
        suspicion: settings.consensus.eviction_suspicion()?,
        patience: PATIENCE,
    })
}

/// The certificates of the gRPC listeners, and the one shown to other orderers, follow their files.
fn watch_certificates(
    settings: &Settings,
    general: Option<&EndpointTls>,
    between: Option<&EndpointTls>,
    cluster: &ClusterNode,
) -> Reload {
    let mut reload = Reload::default();
    let (tls, own) = (&settings.general.tls, &settings.general.cluster);
    // Other orderers come to the general listener where they have none to themselves.
    let shared = !own.own_listener();
    let (certificate, key) = (&own.server_certificate, &own.server_private_key);
    let listeners = [
        (
            general,
            "General.TLS",
            &tls.certificate,
            &tls.private_key,
            shared,
        ),
        (between, "General.Cluster", certificate, key, true),
    ];
    for (listener, section, certificate, key, is_theirs) in listeners {
        let Some(listener) = listener else { continue };
        let cluster = cluster.tls.clone().filter(|_| is_theirs);
        let server = listener.server.clone();
        let take = move |identity: TlsIdentity| {
            if let Some(cluster) = &cluster {
                cluster.shows(&identity);
            }
            server.set_identity(identity);
        };
        reload.watch(section, (certificate, key), Box::new(take));
    }
    if let Some(cluster) = cluster.tls.clone() {
        let (certificate, key) = cluster.client_files();
        let files = (certificate.to_owned(), key.to_owned());
        let take = move |identity| cluster.set_identity(identity);
        let section = "General.Cluster, as a client";
        reload.watch(section, (&files.0, &files.1), Box::new(take));
    }
    reload
}

fn operations(
    settings: &Settings,
    registrar: &Arc<Registrar>,
    metrics: &Metrics,
    env: &Env,
    levels: Levels,
) -> Operations {
    standings::show(Arc::downgrade(registrar), metrics);
    let shown = settings.metrics.provider == "prometheus";
    let version = Version {
        commit_sha: COMMIT.to_owned(),
        version: VERSION.to_owned(),
    };
    let operations = Operations::new(
        levels,
        shown.then(|| metrics.clone()),
        env.clock.clone(),
        version,
        settings.operations.tls.enabled,
    );
    let registrar = Arc::downgrade(registrar);
    operations.register_check("ledger", move || {
        let trouble = registrar.upgrade().and_then(|r| r.trouble());
        async move { trouble.map_or(Ok(()), Err) }
    });
    operations
}

fn broadcaster(
    settings: &Settings,
    registrar: &Arc<Registrar>,
    metrics: &Metrics,
    refusals: Refusals,
    clock: &Arc<dyn Clock>,
) -> Broadcaster {
    let throttling = &settings.general.throttling;
    let limiter = (throttling.rate > 0).then(|| {
        Arc::new(Limiter::new(
            throttling.rate,
            throttling.inactivity_timeout.0,
            clock.clone(),
            metrics,
        ))
    });
    Broadcaster::new(registrar.clone(), limiter, metrics, refusals)
}

fn deliverer(
    settings: &Settings,
    registrar: &Arc<Registrar>,
    metrics: &Metrics,
    clock: Arc<dyn Clock>,
) -> Deliverer {
    let general = &settings.general;
    Deliverer {
        sources: registrar.clone(),
        clock,
        time_window: general.authentication.time_window.0,
        mutual_tls: general.tls.enabled && general.tls.client_auth_required,
        expiration_checks: !general.authentication.no_expiration_checks,
        metrics: DeliverMetrics::new(metrics),
    }
}

fn grpc_routes(settings: &Settings, broadcaster: Broadcaster, deliverer: Deliverer) -> Routes {
    let general = &settings.general;
    let service = Service {
        broadcaster,
        deliverer,
    };
    let service = AtomicBroadcastServer::new(service)
        .max_decoding_message_size(body_limit(general.max_recv_msg_size))
        .max_encoding_message_size(body_limit(general.max_send_msg_size));
    Routes::new(Throttled::new(service, settings.selvage.max_streams))
        .add_service(Serving::of(["orderer.AtomicBroadcast"]))
}

struct Service {
    broadcaster: Broadcaster,
    deliverer: Deliverer,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

#[tonic::async_trait]
impl AtomicBroadcast for Service {
    type BroadcastStream = Answers<BroadcastResponse>;
    type DeliverStream = Answers<DeliverResponse>;

    async fn broadcast(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, tonic::Status> {
        Ok(Response::new(Box::pin(self.broadcaster.serve(request))))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, tonic::Status> {
        let answers = self.deliverer.serve(request, Arc::new(WholeBlocks));
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Answers of the orderer's deliver: blocks as they are.
struct WholeBlocks;

impl Respond for WholeBlocks {
    type Response = DeliverResponse;

    fn data_type(&self) -> &'static str {
        "block"
    }

    fn status(&self, status: Status) -> DeliverResponse {
        DeliverResponse {
            r#type: Some(Delivered::Status(status as i32)),
        }
    }

    fn block(&self, _: &SeekRequest, block: Arc<Block>) -> Result<DeliverResponse, tonic::Status> {
        Ok(DeliverResponse {
            r#type: Some(Delivered::Block(Block::clone(&block))),
        })
    }
}

//! The peer's three listeners and what is served on each.

use std::net::SocketAddr;
use std::sync::Arc;

use selvage_env::Env;
use selvage_net::axum::Router;
use selvage_net::health::Serving;
use selvage_net::logging::Levels;
use selvage_net::metrics::{DeliverMetrics, Metrics};
use selvage_net::ops::{Operations, Version};
use selvage_net::server::{CallMetrics, Server, ServerOptions};
use selvage_net::services::deliver_server::DeliverServer;
use selvage_net::throttle::Throttled;
use selvage_net::tls::{ClientAuth, ClientRoots, ServerTls, TlsIdentity, certificates_from_pem};
use selvage_net::tonic::service::Routes;
use selvage_net::{CancellationToken, NetError};
use tokio::task::JoinSet;

use super::channels::Stopped;
use super::files::read;
use super::local::Identities;
use super::tls::{ConfiguredOrderers, PeerTls};
use super::{NodeError, commit_sha};
use crate::chaincode_glue::{ChaincodeAuthority, ChaincodeListener, Chaincodes};
use crate::channels::Channels;
use crate::config::Settings;
use crate::deliver::DeliverService;
use crate::discovery::{DiscoveryService, DiscoverySettings, Membership, OwnPeer, Planner};
use crate::endorser::{Endorser, EndorserParts, EndorserService};
use crate::gateway::{Gateway, GatewayParts, GatewayService, GatewayTimeouts};

/// The ports, taken before anything else can fail because of them.
pub(crate) struct Bound {
    main: Server,
    chaincode: Server,
    operations: Option<Server>,
    /// Certifies chaincode; none without TLS.
    pub(crate) authority: Option<Arc<ChaincodeAuthority>>,
}

/// Where the listeners are.
pub(crate) struct Addresses {
    pub(crate) main: SocketAddr,
    pub(crate) chaincode: SocketAddr,
    pub(crate) operations: Option<SocketAddr>,
}

impl Bound {
    /// Takes the configured ports.
    pub(crate) async fn take(
        settings: &Settings,
        tls: &PeerTls,
        metrics: &Metrics,
        env: &Env,
    ) -> Result<Self, NodeError> {
        let peer = &settings.core.peer;
        let mut options = ServerOptions::grpc(tls.server());
        options.metrics = Some(CallMetrics::new(metrics));
        options.keepalive_interval = peer.keepalive.interval.0;
        options.keepalive_timeout = peer.keepalive.timeout.0;
        let main = bind("peer.listenAddress", &peer.listen_address, options).await?;
        let address = settings.chaincode_listen_address();
        let mut authority = None;
        let mut chaincode_tls = None;
        if peer.tls.enabled {
            let made = ChaincodeAuthority::new(env.clock.clone()).map_err(NodeError::Chaincode)?;
            let told = told_host(settings, &address);
            let hosts = [told.as_str(), "localhost", "127.0.0.1"];
            chaincode_tls = Some(made.server_tls(&hosts).map_err(NodeError::Chaincode)?);
            authority = Some(Arc::new(made));
        }
        let options = ServerOptions::grpc(chaincode_tls);
        let chaincode = bind("peer.chaincodeListenAddress", &address, options).await?;
        let operations = match settings.core.operations.listen_address.as_str() {
            "" => None,
            address => {
                let options = ServerOptions::http(operations_tls(settings)?);
                Some(bind("operations.listenAddress", address, options).await?)
            }
        };
        Ok(Self {
            main,
            chaincode,
            operations,
            authority,
        })
    }

    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            main: self.main.local_addr(),
            chaincode: self.chaincode.local_addr(),
            operations: self.operations.as_ref().map(Server::local_addr),
        }
    }

    /// The address chaincode is told to connect to: the configured one, or that of the listener.
    pub(crate) fn chaincode_address(&self, settings: &Settings) -> String {
        let told = &settings.core.peer.chaincode_address;
        if !told.is_empty() {
            return told.clone();
        }
        let host = told_host(settings, &settings.chaincode_listen_address());
        format!("{host}:{}", self.chaincode.local_addr().port())
    }
}

async fn bind(
    setting: &'static str,
    address: &str,
    options: ServerOptions,
) -> Result<Server, NodeError> {
    let bound = Server::bind(address, options).await;
    bound.map_err(|source| NodeError::Listen { setting, source })
}

/// The host chaincode is told to connect to. An address that stands for the whole machine cannot be
/// connected to, but chaincode runs on this machine.
fn told_host(settings: &Settings, listen: &str) -> String {
    let configured = &settings.core.peer.chaincode_address;
    let address = if configured.is_empty() {
        listen
    } else {
        configured
    };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    match host {
        "" | "0.0.0.0" | "[::]" => "127.0.0.1".to_owned(),
        host => host.to_owned(),
    }
}

fn operations_tls(settings: &Settings) -> Result<Option<ServerTls>, NodeError> {
    let tls = &settings.core.operations.tls;
    if !tls.enabled {
        return Ok(None);
    }
    let path = settings.path(&tls.cert.file);
    let (chain, key) = (read(&path)?, read(&settings.path(&tls.key.file))?);
    let identity =
        TlsIdentity::from_pem(&path.display().to_string(), &chain, &key).map_err(NodeError::Tls)?;
    let mut roots = Vec::new();
    for file in &tls.client_root_cas.files {
        let path = settings.path(file);
        let pem = read(&path)?;
        let origin = path.display().to_string();
        roots.extend(certificates_from_pem(&origin, &pem).map_err(NodeError::Tls)?);
    }
    let client_auth = if tls.client_auth_required {
        ClientAuth::Require(ClientRoots::new(roots))
    } else {
        ClientAuth::Request
    };
    Ok(Some(ServerTls::new(identity, client_auth)))
}

/// What the services are made of.
pub(crate) struct Parts<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) env: &'a Env,
    pub(crate) identities: &'a Identities,
    pub(crate) channels: &'a Arc<Channels>,
    pub(crate) chaincodes: &'a Arc<Chaincodes>,
    pub(crate) orderers: Arc<ConfiguredOrderers>,
    pub(crate) tls: Arc<PeerTls>,
    pub(crate) metrics: Metrics,
    pub(crate) levels: Levels,
    pub(crate) stopped: Stopped,
}

/// Serves everything until `shutdown` is cancelled.
pub(crate) fn serve(
    bound: Bound,
    parts: Parts<'_>,
    shutdown: CancellationToken,
) -> JoinSet<Result<(), NetError>> {
    let mut servers = JoinSet::new();
    let chaincode = ChaincodeListener::new(parts.chaincodes.clone()).into_service();
    let health = Serving::of(["protos.ChaincodeSupport"]);
    let chaincode = Routes::new(chaincode)
        .add_service(health)
        .into_axum_router();
    servers.spawn(bound.chaincode.serve(chaincode, shutdown.clone()));
    if let Some(operations) = bound.operations {
        servers.spawn(operations.serve(operations_router(&parts), shutdown.clone()));
    }
    servers.spawn(bound.main.serve(main_router(parts), shutdown));
    servers
}

fn main_router(parts: Parts<'_>) -> Router {
    let core = &parts.settings.core;
    let limits = &core.peer.limits.concurrency;
    let time_window = core.peer.authentication.timewindow.0;
    let endorser = Endorser::new(EndorserParts {
        chaincodes: parts.chaincodes.clone(),
        signer: parts.identities.signer.clone(),
        clock: parts.env.clock.clone(),
        time_window,
    });
    let deliver = DeliverServer::new(DeliverService::new(
        parts.channels.clone(),
        parts.env.clock.clone(),
        time_window,
        parts.tls.mutual(),
        DeliverMetrics::new(&parts.metrics),
    ))
    .max_decoding_message_size(core.peer.max_recv_msg_size)
    .max_encoding_message_size(core.peer.max_send_msg_size);
    let address = parts.settings.external_endpoint();
    let endorsing = EndorserService::new(endorser.clone(), address).into_service();
    let mut routes = Routes::new(Throttled::new(endorsing, limits.endorser_service))
        .add_service(Throttled::new(deliver, limits.deliver_service));
    let own = OwnPeer {
        endpoint: parts.settings.external_endpoint(),
        signer: parts.identities.signer.clone(),
        started: u64::try_from(parts.env.clock.unix_nanos()).unwrap_or_default(),
    };
    let membership = Arc::new(Membership::new(own, parts.chaincodes.clone()));
    let planner = Arc::new(Planner::new(membership));
    if core.peer.discovery.enabled {
        let settings = DiscoverySettings {
            tls: core.peer.tls.enabled,
            org_members_allowed: core.peer.discovery.org_members_allowed_access,
        };
        let service = DiscoveryService::new(planner.clone(), settings);
        routes = routes.add_service(service.into_service());
    }
    if core.peer.gateway.enabled && core.peer.discovery.enabled {
        let timeouts = GatewayTimeouts {
            endorsement: core.peer.gateway.endorsement_timeout.0,
            broadcast: core.peer.gateway.broadcast_timeout.0,
            dial: core.peer.gateway.dial_timeout.0,
        };
        let gateway = Gateway::new(GatewayParts {
            endorser,
            planner,
            orderers: parts.orderers,
            peers: parts.tls,
            timeouts,
        });
        let service = GatewayService::new(gateway).into_service();
        routes = routes.add_service(Throttled::new(service, limits.gateway_service));
    }
    routes.into_axum_router()
}

fn operations_router(parts: &Parts<'_>) -> Router {
    let core = &parts.settings.core;
    let shown = core.metrics.provider == "prometheus";
    let operations = Operations::new(
        parts.levels.clone(),
        shown.then(|| parts.metrics.clone()),
        parts.env.clock.clone(),
        Version {
            commit_sha: commit_sha().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        core.operations.tls.enabled,
    );
    let stopped = parts.stopped.clone();
    operations.register_check("channels", move || {
        let stopped = stopped.clone();
        async move {
            let stopped = stopped.lock();
            let reasons: Vec<String> = stopped
                .iter()
                .map(|(id, reason)| format!("{id}: {reason}"))
                .collect();
            if reasons.is_empty() {
                Ok(())
            } else {
                Err(reasons.join("; "))
            }
        }
    });
    operations.router()
}

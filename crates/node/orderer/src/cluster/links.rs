//! The outgoing side: messages to the other nodes of a channel. Nothing here ever waits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use selvage_env::Env;
use selvage_net::metrics::Metrics;
use selvage_ordering::Member;
use selvage_proto::common::Envelope;
use thiserror::Error;

use super::connections::Connections;
use super::lane::{Common, Lane, Outgoing, Traffic};
use super::members::{Channel, Directory, Kind, Members};
use super::metrics::CommMetrics;
use super::ports::Ports;
use super::queue::Refused;
use super::tls::ClusterTls;
use crate::config::Settings;
use crate::local_msp::Signer;

/// Timers and limits of [`Links`].
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// Messages of one kind that may wait for one node (`SendBufferSize`).
    pub send_buffer: usize,
    /// How long opening a connection may take (`DialTimeout`).
    pub dial_timeout: Duration,
    /// How long a node may leave a message unread (`RPCTimeout`).
    pub rpc_timeout: Duration,
    /// The largest message, in bytes (`General.MaxSendMsgSize`).
    pub max_message: usize,
}

impl LinkOptions {
    /// As `General.Cluster` and `General` say.
    pub fn new(settings: &Settings) -> Self {
        let cluster = &settings.general.cluster;
        Self {
            send_buffer: cluster.send_buffer_size,
            dial_timeout: cluster.dial_timeout.0,
            rpc_timeout: cluster.rpc_timeout.0,
            max_message: usize::try_from(settings.general.max_send_msg_size.0)
                .unwrap_or(usize::MAX),
        }
    }
}

/// Why a message was not taken for sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotSent {
    /// Nobody of that number is known on that channel.
    #[error("node {0} is not known on the channel")]
    Unknown(u64),
    /// Too much waits for that node already.
    #[error("too many messages wait for node {0}")]
    Full(u64),
    /// That node cannot be reached at the moment.
    #[error("node {0} cannot be reached")]
    Unreachable(u64),
    /// The message is larger than a message may be.
    #[error("the message is too large to be sent to another node")]
    TooLarge,
}

/// The links of this node to the other nodes of its channels. Clones share them.
#[derive(Clone)]
pub struct Links(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) directory: Directory,
    pub(crate) metrics: Arc<CommMetrics>,
    common: Arc<Common>,
    connections: Connections,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}

impl Links {
    /// Links of a node that shows the certificate of `tls` and, on BFT channels, signs as `signer`.
    pub fn new(
        options: LinkOptions,
        tls: Arc<ClusterTls>,
        signer: Signer,
        metrics: &Metrics,
        env: Env,
    ) -> Self {
        let metrics = Arc::new(CommMetrics::new(metrics));
        let connections = Connections::new(
            tls,
            env.rng.clone(),
            options.dial_timeout,
            metrics.connections.clone(),
        );
        let common = Common {
            env,
            signer,
            metrics: metrics.clone(),
            rpc_timeout: options.rpc_timeout,
            max_message: options.max_message,
            send_buffer: options.send_buffer,
        };
        Self(Arc::new(Shared {
            directory: Directory::default(),
            metrics,
            common: Arc::new(common),
            connections,
        }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Announces a channel. Its other nodes are heard once [`Self::configure`] names them.
    pub fn open(&self, channel: &str) -> Ports {
        let (ports, old) = self.0.directory.add(channel);
        if let Some(old) = old {
            end(&old);
        }
        ports
    }

    /// Forgets a channel: nothing is sent any more, and its nodes are told that it does not exist.
    pub fn close(&self, channel: &str) {
        if let Some(old) = self.0.directory.remove(channel) {
            end(&old);
            self.0.metrics.workers.forget(channel);
            self.0.metrics.egress_streams.forget(channel);
        }
    }

    /// Names the other nodes of a channel, this one not among them. Streams to nodes that are not
    /// among them any more, or moved, or have another certificate, end.
    pub fn configure(&self, channel: &str, kind: Kind, members: &[Member]) {
        let Some(known) = self.0.directory.get(channel) else {
            tracing::error!(channel, "members of a channel that is not open");
            return;
        };
        let (members, unusable) = Members::new(kind, members);
        for reason in unusable {
            tracing::error!(channel, "this node cannot speak with {reason}");
        }
        let own = members.own();
        let mut lanes = known.lanes.lock();
        lanes.retain(|(id, _), lane| {
            let stays = members.node(*id) == Some(&lane.node) && lane.own == own;
            if !stays {
                lane.stop();
            }
            stays
        });
        // Under the lock, so that no lane is made from the old members after this.
        known.members.store(Arc::new(members));
    }

    /// Sends a consensus message. What does not get through is reported at the channel's
    /// [`Ports::unreachable`]: too many wait (the oldest are dropped), or the node cannot be reached.
    pub fn send(&self, channel: &str, to: u64, payload: Bytes, metadata: Bytes) {
        let lane = self.lane(channel, to, Traffic::Consensus);
        match lane {
            Some(lane) => lane.push(Outgoing::Consensus { payload, metadata }),
            None => tracing::debug!(channel, to, "a message to a node that is not known"),
        }
    }

    /// Sends a message to a node that orders it. Nobody says whether it arrived.
    pub fn forward(
        &self,
        channel: &str,
        to: u64,
        envelope: Envelope,
        sequence: u64,
    ) -> Result<(), NotSent> {
        let size = envelope.payload.len() + envelope.signature.len();
        if size > self.0.common.max_message {
            return Err(NotSent::TooLarge);
        }
        let lane = self.lane(channel, to, Traffic::Transaction);
        let lane = lane.ok_or(NotSent::Unknown(to))?;
        let sent = lane.offer(Outgoing::Transaction { envelope, sequence });
        sent.map_err(|refused| match refused {
            Refused::Full => NotSent::Full(to),
            Refused::Suspended => NotSent::Unreachable(to),
        })
    }

    /// Ends everything, for the end of the node.
    pub fn stop(&self) {
        for channel in self.0.directory.all() {
            self.close(&channel.name);
        }
    }

    fn lane(&self, channel: &str, to: u64, traffic: Traffic) -> Option<Arc<Lane>> {
        let known = self.0.directory.get(channel)?;
        let mut lanes = known.lanes.lock();
        if let Some(lane) = lanes.get(&(to, traffic)) {
            return Some(lane.clone());
        }
        let members = known.members.load();
        let node = members.node(to)?;
        let lane = Lane::start(
            self.0.common.clone(),
            channel,
            node.clone(),
            members.own(),
            traffic,
            known.inlets.reports.clone(),
            self.0.connections.to(node),
        );
        lanes.insert((to, traffic), lane.clone());
        Some(lane)
    }
}

fn end(channel: &Channel) {
    let lanes = std::mem::take(&mut *channel.lanes.lock());
    for lane in lanes.into_values() {
        lane.stop();
    }
    channel.members.store(Arc::new(Members::none()));
}

//! The gateway: clients hand it a proposal or a transaction and it does the rest
//! (Fabric: `internal/pkg/gateway`).
//!
//! It plans with [`crate::discovery`], endorses in this process where it can and over connections
//! it keeps where it must, sends to the orderers, and waits for commits.

mod advice;
mod deadline;
mod endorse;
mod errors;
mod evaluate;
mod events;
mod peers;
mod plan;
mod service;
mod submit;

use std::sync::Arc;
use std::time::Duration;

use selvage_channel::ChannelConfig;
use selvage_net::tonic::{Code, Status};
use selvage_net::{Endpoint, TlsError};
use selvage_proto::gateway::ErrorDetail;
use selvage_proto::peer::{ChaincodeCall, ChaincodeInterest};

pub use service::GatewayService;

use self::peers::PeerConnections;
use self::submit::OrdererConnections;
use crate::channels::{Channels, PeerChannel};
use crate::deliver::Orderers;
use crate::details::with_details;
use crate::discovery::Planner;
use crate::endorser::{Endorser, not_joined};

/// How other peers are reached: their TLS roots are those of their organisation in the channel.
pub trait PeerEndpoints: Send + Sync {
    /// The endpoint of a peer of the organisation at an address.
    fn endpoint(
        &self,
        config: &ChannelConfig,
        msp_id: &str,
        address: &str,
    ) -> Result<Endpoint, TlsError>;
}

/// Longest waits of the gateway (`peer.gateway`).
#[derive(Debug, Clone, Copy)]
pub struct GatewayTimeouts {
    /// For another peer's endorsement.
    pub endorsement: Duration,
    /// For an orderer's answer.
    pub broadcast: Duration,
    /// For a connection.
    pub dial: Duration,
}

/// What a [`Gateway`] is made of.
pub struct GatewayParts {
    /// Endorses in this process.
    pub endorser: Endorser,
    /// Plans endorsements.
    pub planner: Arc<Planner>,
    /// Finds orderers.
    pub orderers: Arc<dyn Orderers>,
    /// Finds peers.
    pub peers: Arc<dyn PeerEndpoints>,
    /// Longest waits.
    pub timeouts: GatewayTimeouts,
}

/// The gateway of one peer. Clones share everything.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    endorser: Endorser,
    planner: Arc<Planner>,
    peers: PeerConnections,
    orderers: OrdererConnections,
    timeouts: GatewayTimeouts,
}

impl Gateway {
    /// A gateway without connections; they are made when they are needed.
    pub fn new(parts: GatewayParts) -> Self {
        let inner = Inner {
            peers: PeerConnections::new(parts.peers, parts.timeouts),
            orderers: OrdererConnections::new(parts.orderers, parts.timeouts),
            endorser: parts.endorser,
            planner: parts.planner,
            timeouts: parts.timeouts,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    fn channels(&self) -> &Channels {
        self.inner.planner.membership().chaincodes().channels()
    }

    fn channel(&self, id: &str) -> Option<Arc<PeerChannel>> {
        self.channels().get(id)
    }

    fn local_msp_id(&self) -> &str {
        self.inner.planner.membership().own().signer.msp_id()
    }

    /// A detail by this very peer.
    fn own_detail(&self, message: impl Into<String>) -> ErrorDetail {
        let own = self.inner.planner.membership().own();
        ErrorDetail {
            address: own.endpoint.clone(),
            msp_id: own.signer.msp_id().to_owned(),
            message: message.into(),
        }
    }

    /// A failure in Fabric's words, with a detail that says what would help.
    fn advised(&self, code: Code, text: &str, advice: Option<impl Into<String>>) -> Status {
        let detail = advice.map(|advice| self.own_detail(advice));
        with_details(code, text, detail.as_slice())
    }

    /// As [`Gateway::advised`] for a channel that this peer has not joined.
    fn not_joined(&self, code: Code, text: &str, channel: &str) -> Status {
        self.advised(code, text, not_joined(channel))
    }
}

/// Fabric's words for a channel the peer has not joined.
fn no_config(channel: &str) -> String {
    format!(
        "failed to get config for channel [{channel}]: could not get last config for channel \
         {channel}"
    )
}

/// The interest in one chaincode, for want of anything more precise.
fn interest_in(chaincode: &str) -> ChaincodeInterest {
    let call = ChaincodeCall {
        name: chaincode.to_owned(),
        ..Default::default()
    };
    ChaincodeInterest {
        chaincodes: vec![call],
    }
}

//! Opening connections to nodes.

use selvage_client::{ClientError, Peer};
use selvage_crypto::issue::{Authority, LeafProfile, Subject, Validity};
use selvage_env::Clock;
use selvage_net::services::atomic_broadcast_client::AtomicBroadcastClient;
use selvage_net::services::discovery_client::DiscoveryClient;
use selvage_net::services::endorser_client::EndorserClient;
use selvage_net::services::gateway_client::GatewayClient;
use selvage_net::tls::{ClientTls, TlsIdentity};
use selvage_net::tonic::transport::Channel;
use selvage_net::{Endpoint, MAX_MESSAGE_BYTES, connect};

use crate::BenchError;
use crate::target::Node;

/// A TLS certificate of the run's own. Nodes ask for one, and Fabric's discovery service insists,
/// but nobody checks who issued it unless the network demands mutual TLS.
pub(crate) fn throwaway_identity(clock: &dyn Clock) -> Result<TlsIdentity, BenchError> {
    let made = || {
        let validity = Validity::starting(clock.unix_seconds(), 86_400);
        let authority = Authority::new_root(&Subject::named("bench"), validity)?;
        authority.issue_new(&LeafProfile::tls("bench", &["localhost"], validity))
    };
    let unusable = |e: &dyn std::fmt::Display| BenchError::Identity(e.to_string());
    let (certificate, key) = made().map_err(|e| unusable(&e))?;
    let key = key.to_pkcs8_pem().map_err(|e| unusable(&e))?;
    TlsIdentity::from_pem("bench", certificate.to_pem().as_bytes(), key.as_bytes())
        .map_err(|e| unusable(&e))
}

/// A connection whose stubs take large messages.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) address: String,
    endpoint: Endpoint,
    channel: Channel,
}

impl Connection {
    pub(crate) fn open(node: &Node, own: &TlsIdentity) -> Result<Self, BenchError> {
        let failed = |source| BenchError::Connect {
            address: node.address.clone(),
            source,
        };
        let tls = match &node.tls_roots {
            Some(roots) => {
                let tls = ClientTls::from_pem(&node.address, roots, Some(own.clone()))
                    .map_err(|e| failed(e.into()))?;
                Some(match &node.server_name {
                    Some(name) => tls.with_server_name(name.clone()),
                    None => tls,
                })
            }
            None => None,
        };
        let endpoint = Endpoint::new(&node.address, tls);
        let channel = connect(&endpoint).map_err(failed)?;
        Ok(Self {
            address: node.address.clone(),
            endpoint,
            channel,
        })
    }

    /// The same node as a peer whose block events can be watched, over a connection of its own:
    /// blocks do not wait behind answers.
    pub(crate) fn events(&self) -> Result<Peer, ClientError> {
        Peer::new(&self.endpoint)
    }

    pub(crate) fn endorser(&self) -> EndorserClient<Channel> {
        EndorserClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn gateway(&self) -> GatewayClient<Channel> {
        GatewayClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn discovery(&self) -> DiscoveryClient<Channel> {
        DiscoveryClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn orderer(&self) -> AtomicBroadcastClient<Channel> {
        AtomicBroadcastClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

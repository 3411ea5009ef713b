//! The nodes of each channel, under the numbers and keys by which they are known.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use selvage_crypto::{Certificate, PublicKey};
use selvage_net::tls::{certificates_from_pem, public_key};
use selvage_ordering::Member;
use selvage_proto::common::Consenter;

use super::lane::{Lane, Traffic};
use super::ports::{Inlets, Ports, ports};

/// How the nodes of a channel speak with each other.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// By `orderer.Cluster`: TLS certificates alone say who is who. For Raft.
    Raft,
    /// By `orderer.ClusterNodeService`: a stream begins with a request that its sender signed. For
    /// BFT.
    Bft {
        /// This node's number.
        own: u64,
        /// The channel's consenters, for the identities they sign with.
        consenters: Arc<[Consenter]>,
    },
}

/// A node that this one speaks with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) id: u64,
    /// `host:port`
    pub(crate) address: String,
    /// The key it must show as a server.
    pub(crate) server_key: Vec<u8>,
    /// The key it shows as a client.
    client_key: Vec<u8>,
    /// What its signatures are verified by, on BFT channels.
    pub(crate) identity: Option<PublicKey>,
}

impl Node {
    fn new(member: &Member, kind: &Kind) -> Result<Self, String> {
        let identity = match kind {
            Kind::Raft => None,
            Kind::Bft { consenters, .. } => {
                let consenter = consenters.iter().find(|c| u64::from(c.id) == member.id);
                let consenter = consenter.ok_or("the channel names no identity for it")?;
                let certificate = Certificate::from_pem(&consenter.identity)
                    .map_err(|error| format!("its identity is unreadable: {error}"))?;
                Some(certificate.public_key().clone())
            }
        };
        Ok(Self {
            id: member.id,
            address: consenter_address(&member.host, member.port),
            server_key: key_of(&member.server_tls_cert, "server")?,
            client_key: key_of(&member.client_tls_cert, "client")?,
            identity,
        })
    }
}

/// `host:port`, with IPv6 addresses in brackets.
pub(crate) fn consenter_address(host: &str, port: u32) -> String {
    if host.contains(':') && !host.starts_with('[') {
        return format!("[{host}]:{port}");
    }
    format!("{host}:{port}")
}

/// The public key of the first certificate in a PEM text.
pub(crate) fn key_of(pem: &[u8], what: &str) -> Result<Vec<u8>, String> {
    let certificates = certificates_from_pem(what, pem)
        .map_err(|error| format!("its {what} TLS certificate is unreadable: {error}"))?;
    let first = certificates.first().and_then(|first| public_key(first));
    first.ok_or_else(|| format!("its {what} TLS certificate is no X.509 certificate"))
}

/// The nodes of a channel at one time.
#[derive(Debug)]
pub(crate) struct Members {
    /// `None` until the channel names its nodes.
    pub(crate) kind: Option<Kind>,
    nodes: BTreeMap<u64, Arc<Node>>,
    ids_by_key: HashMap<Vec<u8>, u64>,
}

impl Members {
    pub(crate) fn none() -> Self {
        Self {
            kind: None,
            nodes: BTreeMap::new(),
            ids_by_key: HashMap::new(),
        }
    }

    /// Reads what the configuration says about other nodes. A node about which it says nothing
    /// usable is left out; the second half of the answer says why.
    pub(crate) fn new(kind: Kind, members: &[Member]) -> (Self, Vec<String>) {
        let (mut nodes, mut unusable) = (BTreeMap::new(), Vec::new());
        let mut ids_by_key = HashMap::new();
        for member in members {
            match Node::new(member, &kind) {
                Ok(node) => {
                    ids_by_key.insert(node.client_key.clone(), node.id);
                    ids_by_key.entry(node.server_key.clone()).or_insert(node.id);
                    nodes.insert(node.id, Arc::new(node));
                }
                Err(reason) => unusable.push(format!(
                    "consenter {} at {}:{}: {reason}",
                    member.id, member.host, member.port
                )),
            }
        }
        let members = Self {
            kind: Some(kind),
            nodes,
            ids_by_key,
        };
        (members, unusable)
    }

    /// This node's number, on BFT channels.
    pub(crate) fn own(&self) -> Option<u64> {
        match self.kind {
            Some(Kind::Bft { own, .. }) => Some(own),
            _ => None,
        }
    }

    pub(crate) fn node(&self, id: u64) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// Whose TLS client certificate has this key.
    pub(crate) fn id_of(&self, key: &[u8]) -> Option<u64> {
        self.ids_by_key.get(key).copied()
    }
}

/// A channel of this node.
pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) members: ArcSwap<Members>,
    pub(crate) inlets: Inlets,
    /// What goes out, by consenter and kind of message.
    pub(crate) lanes: Mutex<HashMap<(u64, Traffic), Arc<Lane>>>,
}

/// The channels of this node.
#[derive(Default)]
pub(crate) struct Directory {
    channels: RwLock<HashMap<String, Arc<Channel>>>,
}

impl Directory {
    /// Adds a channel; an older one of that name ends.
    pub(crate) fn add(&self, name: &str) -> (Ports, Option<Arc<Channel>>) {
        let (ports, inlets) = ports();
        let channel = Channel {
            name: name.to_owned(),
            members: ArcSwap::from_pointee(Members::none()),
            inlets,
            lanes: Mutex::new(HashMap::new()),
        };
        let old = self
            .channels
            .write()
            .insert(name.to_owned(), Arc::new(channel));
        (ports, old)
    }

    pub(crate) fn remove(&self, name: &str) -> Option<Arc<Channel>> {
        self.channels.write().remove(name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Channel>> {
        self.channels.read().get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Channel>> {
        self.channels.read().values().cloned().collect()
    }

    /// In how many channels somebody with this key is a member.
    pub(crate) fn memberships(&self, key: &[u8]) -> usize {
        let channels = self.channels.read();
        let of = channels.values();
        of.filter(|channel| channel.members.load().id_of(key).is_some())
            .count()
    }
}

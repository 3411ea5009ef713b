//! Names. Organisations are known by a 40-digit hexadecimal hash, their MSPs by `<hash>MSP`, their
//! nodes by `peer-<hash>-<n>` under the domain `peer-<hash>.default.svc.cluster.local`.

use std::path::{Path, PathBuf};

use selvage_manager_api::validate::{CreateSpec, ORDERER_ORG};
use serde::{Deserialize, Serialize};

/// What an organisation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OrgKind {
    /// Peers.
    Peer,
    /// Ordering nodes.
    Orderer,
}

impl OrgKind {
    /// The word in node names and folders.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Orderer => "orderer",
        }
    }
}

/// A node with its ports on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// `peer-<hash>-<n>`.
    pub(crate) name: String,
    /// The name in its TLS certificate.
    pub(crate) domain: String,
    /// gRPC.
    pub(crate) port: u16,
    /// Health and metrics.
    pub(crate) operations_port: u16,
    /// Chaincode (peer) or administration (orderer).
    pub(crate) third_port: u16,
}

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Org {
    /// Display name.
    pub(crate) name: String,
    /// 40 hexadecimal digits.
    pub(crate) hash: String,
    /// What it runs.
    pub(crate) kind: OrgKind,
    /// Its nodes.
    pub(crate) nodes: Vec<Node>,
}

impl Org {
    fn new(instance: &str, name: &str, kind: OrgKind, nodes: u32) -> Self {
        let digest = selvage_crypto::sha256_parts([instance.as_bytes(), &[0], name.as_bytes()]);
        let hash = hex::encode(&digest[..20]);
        let mut org = Self {
            name: name.to_owned(),
            hash,
            kind,
            nodes: Vec::new(),
        };
        org.nodes = (0..nodes)
            .map(|n| {
                let name = format!("{}-{}-{n}", kind.word(), org.hash);
                Node {
                    domain: format!("{name}.{}", org.domain()),
                    name,
                    port: 0,
                    operations_port: 0,
                    third_port: 0,
                }
            })
            .collect();
        org
    }

    /// `<hash>MSP`.
    pub(crate) fn msp_id(&self) -> String {
        format!("{}MSP", self.hash)
    }

    /// `peer-<hash>.default.svc.cluster.local`.
    pub(crate) fn domain(&self) -> String {
        format!(
            "{}-{}.default.svc.cluster.local",
            self.kind.word(),
            self.hash
        )
    }

    /// `<hash>.peer`: name of its folder here and in archives.
    pub(crate) fn folder(&self) -> String {
        format!("{}.{}", self.hash, self.kind.word())
    }

    /// `Admin@<hash>.peer-<hash>.default.svc.cluster.local`: name of a user in file names.
    pub(crate) fn user(&self, user: &str) -> String {
        format!("{user}@{}.{}", self.hash, self.domain())
    }
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChannelPlan {
    /// Name.
    pub(crate) name: String,
    /// Display names of the members.
    pub(crate) orgs: Vec<String>,
    /// Free text.
    pub(crate) description: String,
}

/// Everything that is decided before the first key is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// Address at which clients and nodes dial the nodes.
    pub(crate) host: String,
    /// The ordering organisation.
    pub(crate) orderer: Org,
    /// Peer organisations.
    pub(crate) peers: Vec<Org>,
    /// Channels.
    pub(crate) channels: Vec<ChannelPlan>,
    /// Whether organisational units in certificates give roles (NodeOUs). Networks were made with
    /// them before there was a choice.
    #[serde(default = "yes")]
    pub(crate) node_ous: bool,
}

fn yes() -> bool {
    true
}

impl Network {
    /// Names everything; ports are still 0.
    pub(crate) fn name(instance: &str, spec: &CreateSpec, host: &str) -> Self {
        Self {
            host: host.to_owned(),
            orderer: Org::new(instance, ORDERER_ORG, OrgKind::Orderer, spec.orderers),
            peers: spec
                .orgs
                .iter()
                .map(|o| Org::new(instance, &o.name, OrgKind::Peer, o.peers))
                .collect(),
            channels: spec
                .channels
                .iter()
                .map(|c| ChannelPlan {
                    name: c.name.clone(),
                    orgs: c.orgs.clone(),
                    description: c.description.clone(),
                })
                .collect(),
            node_ous: spec.node_ous,
        }
    }

    /// Every organisation, the orderers' first.
    pub(crate) fn orgs(&self) -> impl Iterator<Item = &Org> {
        std::iter::once(&self.orderer).chain(&self.peers)
    }

    /// Every node with its organisation, the orderers first.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&Org, &Node)> {
        self.orgs()
            .flat_map(|o| o.nodes.iter().map(move |n| (o, n)))
    }

    /// Every port, for bookkeeping.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.nodes()
            .flat_map(|(_, n)| [n.port, n.operations_port, n.third_port])
            .collect()
    }

    /// How many ports [`Self::give_ports`] takes.
    pub(crate) fn ports_needed(&self) -> usize {
        self.nodes().count() * 3
    }

    /// Gives ports to the nodes, in order.
    pub(crate) fn give_ports(&mut self, ports: &[u16]) {
        let nodes = std::iter::once(&mut self.orderer)
            .chain(&mut self.peers)
            .flat_map(|o| o.nodes.iter_mut());
        for (node, ports) in nodes.zip(ports.chunks_exact(3)) {
            (node.port, node.operations_port, node.third_port) = (ports[0], ports[1], ports[2]);
        }
    }

    /// The organisation with this display name, the orderers' included.
    pub(crate) fn org(&self, name: &str) -> Option<&Org> {
        self.orgs().find(|o| o.name == name)
    }

    /// The channel of this name.
    pub(crate) fn channel(&self, name: &str) -> Option<&ChannelPlan> {
        self.channels.iter().find(|c| c.name == name)
    }

    /// Peer organisations in a channel.
    pub(crate) fn members<'a>(&'a self, channel: &'a ChannelPlan) -> impl Iterator<Item = &'a Org> {
        self.peers.iter().filter(|o| channel.orgs.contains(&o.name))
    }

    /// `host:port` of a node.
    pub(crate) fn address(&self, node: &Node) -> String {
        format!("{}:{}", self.host, node.port)
    }
}

/// Where things lie below an instance's folder.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    root: PathBuf,
}

impl Folders {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The instance's folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Key material of an organisation.
    pub(crate) fn org(&self, org: &Org) -> PathBuf {
        self.root.join("orgs").join(org.folder())
    }

    /// Key material of a user.
    pub(crate) fn user(&self, org: &Org, user: &str) -> PathBuf {
        self.org(org).join("users").join(user)
    }

    /// A node: configuration, identity, data, log.
    pub(crate) fn node(&self, node: &Node) -> PathBuf {
        self.root.join("nodes").join(&node.name)
    }

    /// Chaincode built on this host, for the peers of every instance in every data folder, so that
    /// a package is built once: `SELVAGE_BUILD_CACHE`, else the user's cache folder, else, for a
    /// user without a home, the data folder.
    pub(crate) fn build_cache(&self) -> PathBuf {
        let folder = |name: &str| {
            let path = PathBuf::from(std::env::var_os(name)?);
            path.is_absolute().then_some(path)
        };
        let users = || Some(folder("HOME")?.join(".cache"));
        let shared = || {
            Some(
                folder("XDG_CACHE_HOME")
                    .or_else(users)?
                    .join("selvage/chaincode"),
            )
        };
        folder("SELVAGE_BUILD_CACHE")
            .or_else(shared)
            .unwrap_or_else(|| {
                let data = self.root.ancestors().nth(2).unwrap_or(&self.root);
                data.join("chaincode-builds")
            })
    }

    /// A channel's genesis block.
    pub(crate) fn genesis(&self, channel: &str) -> PathBuf {
        self.root.join("channels").join(format!("{channel}.block"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::testing;

    /// The channel has one of the two organisations only; three nodes order it.
    fn spec() -> CreateSpec {
        let mut spec = testing::spec();
        spec.name = "test".into();
        spec.channels[0].orgs.truncate(1);
        spec.orderers = 3;
        spec
    }

    #[test]
    fn names_have_the_forms_of_bcs() {
        let mut network = Network::name("id", &spec(), "127.0.0.1");
        let org = &network.peers[0];
        assert_eq!(org.hash.len(), 40);
        assert_eq!(org.msp_id(), format!("{}MSP", org.hash));
        assert_eq!(
            org.nodes[1].domain,
            format!("peer-{0}-1.peer-{0}.default.svc.cluster.local", org.hash)
        );
        assert_eq!(
            org.user("Admin"),
            format!("Admin@{0}.peer-{0}.default.svc.cluster.local", org.hash)
        );
        assert_ne!(network.peers[0].hash, network.peers[1].hash);
        let channel = network.channel("channel").expect("there").clone();
        assert_eq!(network.members(&channel).count(), 1);
        assert_eq!(network.orderer.nodes.len(), 3);
        assert_eq!(network.ports_needed(), 18);
        let ports: Vec<u16> = (1..=18).collect();
        network.give_ports(&ports);
        assert_eq!(network.ports(), ports);
        // Networks kept before there was a choice have NodeOUs.
        let mut kept = serde_json::to_value(&network).expect("JSON");
        assert_eq!(kept["node_ous"], true);
        kept.as_object_mut().expect("an object").remove("node_ous");
        let kept: Network = serde_json::from_value(kept).expect("a network");
        assert!(kept.node_ous);
        assert_ne!(
            Network::name("other", &spec(), "127.0.0.1").peers[0].hash,
            network.peers[0].hash,
            "two instances share no organisation"
        );
    }
}

//! Configuration of nodes: a `core.yaml` or `orderer.yaml` in each node's folder, with Fabric's
//! keys, and what the driver must know to run the node.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};

use super::{Folders, Network, Node, Org, OrgKind};
use crate::driver::NodeSpec;
use crate::error::ManagerError;
use crate::files::write_private;

/// A tick of consensus, in place of the 500 milliseconds in a channel's configuration: the orderers
/// of an instance are close to each other, so a new leader is there in two seconds, before the
/// patience of Fabric's clients (five) is at an end.
const TICK: &str = "100ms";

/// Where nodes listen for health checks, chaincode and administration.
const LOOPBACK: &str = "127.0.0.1";

/// Writes a node's configuration and says how to run it.
pub(crate) fn prepare(
    instance: &str,
    network: &Network,
    folders: &Folders,
    org: &Org,
    node: &Node,
    listen: IpAddr,
) -> Result<NodeSpec, ManagerError> {
    let dir = folders.node(node);
    let (file, settings) = match org.kind {
        OrgKind::Peer => ("core.yaml", core(network, folders, org, node, listen)),
        OrgKind::Orderer => ("orderer.yaml", orderer(folders, org, node, listen)),
    };
    let text = serde_norway::to_string(&settings)
        .map_err(|e| ManagerError::Driver(format!("cannot write {file}: {e}")))?;
    // An unchanged file is left alone: preparing runs at every start of the manager.
    let path = dir.join(file);
    if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
        write_private(&path, text.as_bytes())?;
    }
    Ok(spec(instance, folders, org, node, listen))
}

/// How a node runs.
pub(crate) fn spec(
    instance: &str,
    folders: &Folders,
    org: &Org,
    node: &Node,
    listen: IpAddr,
) -> NodeSpec {
    let (program, args) = match org.kind {
        OrgKind::Peer => ("peer", vec!["node".to_owned(), "start".to_owned()]),
        OrgKind::Orderer => ("orderer", vec!["start".to_owned()]),
    };
    NodeSpec {
        id: node_id(instance, node),
        name: node.name.clone(),
        program,
        args,
        dir: folders.node(node),
        listen,
        health: SocketAddr::from(([127, 0, 0, 1], node.operations_port)),
        ports: vec![node.port, node.operations_port, node.third_port],
    }
}

/// The driver's name for a node.
pub(crate) fn node_id(instance: &str, node: &Node) -> String {
    format!("{instance}/{}", node.name)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn core(network: &Network, folders: &Folders, org: &Org, node: &Node, listen: IpAddr) -> Value {
    let dir = folders.node(node);
    let tls = dir.join("tls");
    let address = network.address(node);
    let roots: Vec<String> = network.peers.iter().map(|o| tls_root(folders, o)).collect();
    json!({
        "peer": {
            "id": node.name,
            // The chaincode's log lines carry `<networkId>-<id>`, in BCS `dev-peer-<hash>-<n>`.
            "networkId": "dev",
            "listenAddress": SocketAddr::new(listen, node.port).to_string(),
            "address": address,
            "chaincodeListenAddress": format!("{LOOPBACK}:{}", node.third_port),
            "chaincodeAddress": format!("{LOOPBACK}:{}", node.third_port),
            "gossip": {
                "bootstrap": org.nodes.first().map_or(address.clone(), |n| network.address(n)),
                "endpoint": address,
                "externalEndpoint": address,
                "useLeaderElection": false,
                "orgLeader": true,
            },
            // An orderer that hangs is left for another one while clients still wait.
            "keepalive": { "deliveryClient": { "interval": "2s", "timeout": "2s" } },
            "tls": {
                "enabled": true,
                "clientAuthRequired": false,
                "cert": { "file": text(&tls.join("server.crt")) },
                "key": { "file": text(&tls.join("server.key")) },
                "rootcert": { "file": text(&tls.join("ca.crt")) },
                "clientRootCAs": { "files": roots },
            },
            "fileSystemPath": text(&dir.join("data")),
            "mspConfigPath": text(&dir.join("msp")),
            "localMspId": org.msp_id(),
            "gateway": { "enabled": true },
        },
        // Every peer of this host shares what was built, so a package is built once.
        "chaincode": { "buildCache": text(&folders.build_cache()) },
        "ledger": { "snapshots": { "rootDir": text(&dir.join("data/snapshots")) } },
        "operations": {
            "listenAddress": format!("{LOOPBACK}:{}", node.operations_port),
            "tls": { "enabled": false },
        },
        "metrics": { "provider": "prometheus" },
    })
}

fn tls_root(folders: &Folders, org: &Org) -> String {
    text(
        &folders
            .org(org)
            .join("tlsca")
            .join(super::keys::authority_cert(org, "tlsca")),
    )
}

fn orderer(folders: &Folders, org: &Org, node: &Node, listen: IpAddr) -> Value {
    let dir = folders.node(node);
    let tls = dir.join("tls");
    let section = |auth: bool| {
        json!({
            "Enabled": true,
            "Certificate": text(&tls.join("server.crt")),
            "PrivateKey": text(&tls.join("server.key")),
            "RootCAs": [text(&tls.join("ca.crt"))],
            "ClientAuthRequired": auth,
            "ClientRootCAs": [tls_root(folders, org)],
        })
    };
    json!({
        "General": {
            "ListenAddress": listen.to_string(),
            "ListenPort": node.port,
            "TLS": section(false),
            // What the others know this node by; they dial the same listener as clients.
            "Cluster": {
                "ClientCertificate": text(&tls.join("server.crt")),
                "ClientPrivateKey": text(&tls.join("server.key")),
            },
            "LocalMSPDir": text(&dir.join("msp")),
            "LocalMSPID": org.msp_id(),
            "BootstrapMethod": "none",
        },
        "FileLedger": { "Location": text(&dir.join("data")) },
        "Consensus": { "TickIntervalOverride": TICK },
        "Operations": {
            "ListenAddress": format!("{LOOPBACK}:{}", node.operations_port),
            "TLS": { "Enabled": false },
        },
        "Admin": {
            "ListenAddress": format!("{LOOPBACK}:{}", node.third_port),
            "TLS": section(true),
        },
        "ChannelParticipation": { "Enabled": true },
        "Metrics": { "Provider": "prometheus" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::testing;

    #[test]
    fn files_name_their_own_ports_and_folders() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folders = Folders::new(dir.path().to_owned());
        let network = testing::network();
        let listen = IpAddr::from([127, 0, 0, 1]);
        for (org, node) in network.nodes() {
            let spec = prepare("i", &network, &folders, org, node, listen).expect("written");
            assert_eq!(spec.id, format!("i/{}", node.name));
            let file = if org.kind == OrgKind::Peer {
                "core.yaml"
            } else {
                "orderer.yaml"
            };
            let yaml = std::fs::read_to_string(spec.dir.join(file)).expect("file");
            let value: Value = serde_norway::from_str(&yaml).expect("YAML");
            if org.kind == OrgKind::Peer {
                assert_eq!(value["peer"]["localMspId"], org.msp_id());
                assert_eq!(value["peer"]["address"], format!("127.0.0.1:{}", node.port));
            } else {
                assert_eq!(value["General"]["ListenPort"], node.port);
                assert_eq!(value["Admin"]["TLS"]["ClientAuthRequired"], true);
                let known_by = value["General"]["Cluster"]["ClientCertificate"].as_str();
                assert!(Path::new(known_by.expect("a path")).starts_with(&spec.dir));
            }
        }
    }
}

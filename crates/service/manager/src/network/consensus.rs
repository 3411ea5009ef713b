//! Who orders a channel: the part of `configtx.yaml` that names the consensus and, of a cluster, its
//! nodes with their certificates.

use std::path::Path;

use selvage_channel::genesis::{Consenter, EtcdRaft, EtcdRaftConsenter, EtcdRaftOptions, Orderer};
use selvage_channel::{CONSENSUS_BFT, CONSENSUS_RAFT, CONSENSUS_SOLO};
use selvage_manager_api::consensus::Consensus;

use super::{Folders, Network, Node, keys};
use crate::error::ManagerError;

/// An orderer section with its consensus, with Fabric's timing and limits.
pub(super) fn section(
    consensus: Consensus,
    network: &Network,
    folders: &Folders,
) -> Result<Orderer, ManagerError> {
    let nodes = &network.orderer.nodes;
    let mut section = Orderer::default();
    match consensus {
        Consensus::Solo => CONSENSUS_SOLO.clone_into(&mut section.orderer_type),
        Consensus::Raft => {
            CONSENSUS_RAFT.clone_into(&mut section.orderer_type);
            section.etcd_raft = Some(EtcdRaft {
                consenters: nodes.iter().map(|n| raft(network, folders, n)).collect(),
                options: EtcdRaftOptions::default(),
            });
        }
        Consensus::Bft => {
            CONSENSUS_BFT.clone_into(&mut section.orderer_type);
            let numbered = (1..).zip(nodes);
            section.consenter_mapping = numbered
                .map(|(id, node)| bft(network, folders, id, node))
                .collect::<Result<_, _>>()?;
        }
    }
    Ok(section)
}

/// The channel capability that a consensus takes: Fabric has BFT since version 3.
pub(super) fn capability(consensus: Consensus) -> &'static str {
    match consensus {
        Consensus::Solo | Consensus::Raft => "V2_0",
        Consensus::Bft => "V3_0",
    }
}

fn raft(network: &Network, folders: &Folders, node: &Node) -> EtcdRaftConsenter {
    let certificate = tls_certificate(folders, node);
    EtcdRaftConsenter {
        host: network.host.clone(),
        port: node.port.into(),
        client_tls_cert: certificate.clone(),
        server_tls_cert: certificate,
    }
}

fn bft(
    network: &Network,
    folders: &Folders,
    id: u32,
    node: &Node,
) -> Result<Consenter, ManagerError> {
    let certificate = tls_certificate(folders, node);
    let identity = keys::only_file(&folders.node(node).join("msp/signcerts"))?;
    Ok(Consenter {
        id,
        host: network.host.clone(),
        port: node.port.into(),
        msp_id: network.orderer.msp_id(),
        identity: text(&identity),
        client_tls_cert: certificate.clone(),
        server_tls_cert: certificate,
    })
}

/// The one certificate with which a node listens and by which the other orderers know it.
fn tls_certificate(folders: &Folders, node: &Node) -> String {
    text(&folders.node(node).join("tls/server.crt"))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{genesis, testing};
    use prost::Message as _;
    use selvage_channel::ChannelConfig;
    use selvage_manager_api::validate::CreateSpec;
    use selvage_proto::common::Block;
    use selvage_proto::etcdraft::ConfigMetadata;

    /// The configuration that a network with these orderers begins with.
    fn founded(
        consensus: Consensus,
        orderers: u32,
    ) -> (tempfile::TempDir, Folders, Network, ChannelConfig) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folders = Folders::new(dir.path().to_owned());
        let spec = CreateSpec {
            consensus,
            orderers,
            ..testing::spec()
        };
        let network = testing::named(&spec);
        keys::make(&network, &folders).expect("keys");
        genesis::make(&network, &spec, &folders).expect("blocks");
        let block = std::fs::read(folders.genesis("channel")).expect("block");
        let block = Block::decode(block.as_slice()).expect("a block");
        let config = ChannelConfig::from_block(&block).expect("a configuration");
        (dir, folders, network, config)
    }

    fn file(folders: &Folders, node: &Node) -> Vec<u8> {
        std::fs::read(tls_certificate(folders, node)).expect("a certificate")
    }

    fn addresses(network: &Network) -> Vec<String> {
        let nodes = network.orderer.nodes.iter();
        nodes.map(|n| network.address(n)).collect()
    }

    #[test]
    fn a_raft_channel_names_every_orderer_with_its_certificate() {
        let (_dir, folders, network, config) = founded(Consensus::Raft, 3);
        let orderer = config.orderer().expect("orderer section");
        assert_eq!(orderer.consensus_type(), CONSENSUS_RAFT);
        let metadata = orderer.consensus_metadata().clone();
        let metadata = ConfigMetadata::decode(metadata).expect("metadata");
        assert_eq!(metadata.consenters.len(), 3);
        for (consenter, node) in metadata.consenters.iter().zip(&network.orderer.nodes) {
            assert_eq!(consenter.host, "127.0.0.1");
            assert_eq!(consenter.port, u32::from(node.port));
            assert_eq!(consenter.client_tls_cert, file(&folders, node));
            assert_eq!(consenter.server_tls_cert, file(&folders, node));
        }
        let options = metadata.options.expect("options");
        assert_eq!(options.tick_interval, "500ms");
        assert_eq!((options.election_tick, options.heartbeat_tick), (10, 1));
        assert_eq!(config.orderer_endpoints(), addresses(&network));
    }

    #[test]
    fn a_bft_channel_names_identities_too() {
        let (_dir, folders, network, config) = founded(Consensus::Bft, 4);
        let orderer = config.orderer().expect("orderer section");
        assert_eq!(orderer.consensus_type(), CONSENSUS_BFT);
        assert_eq!(orderer.consenters().len(), 4);
        for (index, consenter) in orderer.consenters().iter().enumerate() {
            let node = &network.orderer.nodes[index];
            assert_eq!(consenter.id as usize, index + 1);
            assert_eq!(consenter.port, u32::from(node.port));
            assert_eq!(consenter.msp_id, network.orderer.msp_id());
            assert_eq!(consenter.server_tls_cert, file(&folders, node));
            let identity = folders.node(node).join("msp/signcerts");
            let identity = keys::only_file(&identity).expect("one file");
            let identity = std::fs::read(identity).expect("a certificate");
            assert_eq!(consenter.identity, identity);
        }
        assert_eq!(config.orderer_endpoints(), addresses(&network));
    }

    #[test]
    fn a_solo_channel_names_one_orderer() {
        let (_dir, _, network, config) = founded(Consensus::Solo, 1);
        let orderer = config.orderer().expect("orderer section");
        assert_eq!(orderer.consensus_type(), CONSENSUS_SOLO);
        assert!(orderer.consensus_metadata().is_empty());
        assert_eq!(config.orderer_endpoints(), addresses(&network));
    }
}

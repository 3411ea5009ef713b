//! A small network for unit tests.

use selvage_manager_api::consensus::Consensus;
use selvage_manager_api::validate::{ChannelSpec, CreateSpec, OrgSpec};

use super::Network;

pub(crate) fn spec() -> CreateSpec {
    CreateSpec {
        name: "test-net".into(),
        version_type: 4,
        blockchain_type: "private".into(),
        consensus: Consensus::Solo,
        orderers: 1,
        orgs: vec![
            OrgSpec {
                name: "org1".into(),
                peers: 2,
            },
            OrgSpec {
                name: "组织机构".into(),
                peers: 1,
            },
        ],
        channels: vec![ChannelSpec {
            name: "channel".into(),
            orgs: vec!["org1".into(), "组织机构".into()],
            description: String::new(),
        }],
        batch_timeout_s: 1,
        max_message_count: 500,
        preferred_max_mb: 2,
        org_disk_gb: 100,
        cluster_id: "local".into(),
        cluster_name: "local".into(),
        sample_chaincode: None,
        node_ous: true,
    }
}

pub(crate) fn network() -> Network {
    named(&spec())
}

/// The network of a request, with ports.
pub(crate) fn named(spec: &CreateSpec) -> Network {
    let mut network = Network::name("instance", spec, "127.0.0.1");
    let ports: Vec<u16> = (0..network.ports_needed())
        .map(|n| 40_000 + n as u16)
        .collect();
    network.give_ports(&ports);
    network
}

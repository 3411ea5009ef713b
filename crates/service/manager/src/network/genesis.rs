//! Genesis blocks: the channel of Fabric's sample profile with BCS's block cutting, every member's
//! first peer as its anchor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use selvage_channel::genesis::{
    AnchorPeer, Application, BatchSize, Material, Orderer, Organization, Policy, Profile,
    genesis_block,
};
use selvage_manager_api::validate::CreateSpec;

use super::{ChannelPlan, Folders, Network, Org, OrgKind};
use crate::error::ManagerError;
use crate::files::{read_limited, write_public};
use crate::{clock, random};

/// Largest transaction: just below the 100 MB that nodes accept in one message.
const ABSOLUTE_MAX_BYTES: u32 = 99 << 20;

/// Makes the genesis blocks that are missing.
pub(crate) fn make(
    network: &Network,
    spec: &CreateSpec,
    folders: &Folders,
) -> Result<(), ManagerError> {
    for channel in &network.channels {
        let path = folders.genesis(&channel.name);
        if path.exists() {
            continue;
        }
        let profile = profile(network, spec, channel, folders);
        let block = genesis_block(
            &profile,
            &channel.name,
            &FolderMaterial,
            clock::now_s(),
            random::bytes(),
        )
        .map_err(|source| ManagerError::Genesis {
            channel: channel.name.clone(),
            source: Box::new(source),
        })?;
        write_public(&path, &block.encode_to_vec())?;
    }
    Ok(())
}

fn capabilities(name: &str) -> BTreeMap<String, bool> {
    BTreeMap::from([(name.to_owned(), true)])
}

fn policies(pairs: &[(&str, Policy)]) -> BTreeMap<String, Policy> {
    pairs
        .iter()
        .map(|(name, policy)| ((*name).to_owned(), policy.clone()))
        .collect()
}

/// Readers, Writers and Admins out of those of the level below.
fn usual() -> Vec<(&'static str, Policy)> {
    vec![
        ("Readers", Policy::implicit("ANY Readers")),
        ("Writers", Policy::implicit("ANY Writers")),
        ("Admins", Policy::implicit("MAJORITY Admins")),
    ]
}

fn profile(
    network: &Network,
    spec: &CreateSpec,
    channel: &ChannelPlan,
    folders: &Folders,
) -> Profile {
    let mut for_orderer = usual();
    for_orderer.push(("BlockValidation", Policy::implicit("ANY Writers")));
    let mut for_application = usual();
    for_application.push((
        "LifecycleEndorsement",
        Policy::implicit("MAJORITY Endorsement"),
    ));
    for_application.push(("Endorsement", Policy::implicit("MAJORITY Endorsement")));
    Profile {
        orderer: Some(Orderer {
            addresses: Vec::new(),
            batch_timeout: Duration::from_secs(u64::from(spec.batch_timeout_s)),
            batch_size: BatchSize {
                max_message_count: spec.max_message_count,
                absolute_max_bytes: ABSOLUTE_MAX_BYTES,
                preferred_max_bytes: spec.preferred_max_mb << 20,
            },
            organizations: vec![organization(network, &network.orderer, folders)],
            capabilities: capabilities("V2_0"),
            policies: policies(&for_orderer),
            ..Orderer::default()
        }),
        application: Some(Application {
            organizations: network
                .members(channel)
                .map(|o| organization(network, o, folders))
                .collect(),
            capabilities: capabilities("V2_5"),
            policies: policies(&for_application),
            ..Application::default()
        }),
        capabilities: capabilities("V2_0"),
        policies: policies(&usual()),
        ..Profile::default()
    }
}

fn organization(network: &Network, org: &Org, folders: &Folders) -> Organization {
    let msp = org.msp_id();
    let peer = org.kind == OrgKind::Peer;
    let (readers, writers) = if peer {
        (
            format!("OR('{msp}.admin', '{msp}.peer', '{msp}.client')"),
            format!("OR('{msp}.admin', '{msp}.client')"),
        )
    } else {
        (format!("OR('{msp}.member')"), format!("OR('{msp}.member')"))
    };
    let mut rules = vec![
        ("Readers", Policy::signature(&readers)),
        ("Writers", Policy::signature(&writers)),
        ("Admins", Policy::signature(&format!("OR('{msp}.admin')"))),
    ];
    if peer {
        rules.push((
            "Endorsement",
            Policy::signature(&format!("OR('{msp}.peer')")),
        ));
    }
    let addresses = org.nodes.iter().map(|n| network.address(n));
    Organization {
        name: msp.clone(),
        id: msp,
        msp_dir: folders.org(org).join("msp").display().to_string(),
        policies: policies(&rules),
        anchor_peers: org
            .nodes
            .first()
            .filter(|_| peer)
            .map(|n| AnchorPeer {
                host: network.host.clone(),
                port: n.port,
            })
            .into_iter()
            .collect(),
        orderer_endpoints: if peer {
            Vec::new()
        } else {
            addresses.collect()
        },
        ..Organization::default()
    }
}

/// Reads the MSP folders that the profile names.
struct FolderMaterial;

impl Material for FolderMaterial {
    fn file(&self, path: &str) -> Result<Bytes, String> {
        read_limited(Path::new(path), 64 * 1024)
            .map(Bytes::from)
            .map_err(|e| e.to_string())
    }

    fn folder(&self, path: &str) -> Result<BTreeMap<String, Bytes>, String> {
        let root = PathBuf::from(path);
        let mut out = BTreeMap::new();
        let mut waiting = vec![root.clone()];
        while let Some(folder) = waiting.pop() {
            for entry in std::fs::read_dir(&folder).map_err(|e| e.to_string())? {
                let path = entry.map_err(|e| e.to_string())?.path();
                if path.is_dir() {
                    waiting.push(path);
                    continue;
                }
                let name = path
                    .strip_prefix(&root)
                    .map_err(|e| e.to_string())?
                    .to_string_lossy()
                    .into_owned();
                out.insert(name, self.file(&path.to_string_lossy())?);
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{keys, testing};
    use selvage_channel::ChannelConfig;
    use selvage_proto::common::Block;

    #[test]
    fn the_block_reads_back_with_what_was_asked_for() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folders = Folders::new(dir.path().to_owned());
        let network = testing::network();
        keys::make(&network, &folders).expect("keys");
        make(&network, &testing::spec(), &folders).expect("blocks");
        let first = std::fs::read(folders.genesis("channel")).expect("block");
        make(&network, &testing::spec(), &folders).expect("again");
        assert_eq!(
            std::fs::read(folders.genesis("channel")).expect("block"),
            first
        );
        let block = Block::decode(first.as_slice()).expect("a block");
        let config = ChannelConfig::from_block(&block).expect("a configuration");
        assert_eq!(config.channel_id(), "channel");
        let orderer = config.orderer().expect("orderer section");
        assert_eq!(orderer.batch_size().max_message_count, 500);
        assert_eq!(orderer.batch_timeout(), Duration::from_secs(1));
        let application = config.application().expect("application section");
        let msp = network.peers[1].msp_id();
        let org = application
            .orgs()
            .values()
            .find(|o| o.msp_id == msp)
            .expect("member");
        assert_eq!(org.anchor_peers.len(), 1);
        assert_eq!(
            org.anchor_peers[0].port,
            i32::from(network.peers[1].nodes[0].port)
        );
    }
}

//! Private write sets on their way from endorsement to commit
//! (Fabric: `assemble.go`, `gossip/privdata/distributor.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use selvage_proto::peer::collection_config::Payload;
use selvage_proto::peer::{CollectionConfig, CollectionConfigPackage, StaticCollectionConfig};
use selvage_proto::rwset::{NsPvtReadWriteSet, TxPvtReadWriteSet};
use selvage_proto::transientstore::TxPvtReadWriteSetWithConfigInfo;

use crate::channels::PeerChannel;
use crate::lifecycle::{LIFECYCLE_NAMESPACE, implicit_collection, implicit_collection_org};
use crate::report;

/// Keeps the private data of a simulation until its transaction commits. This peer does not send
/// it to others, so a collection that demands copies elsewhere is refused.
pub(super) async fn keep(
    channel: &Arc<PeerChannel>,
    tx_id: String,
    sets: TxPvtReadWriteSet,
) -> Result<(), String> {
    let mut configs = BTreeMap::new();
    for namespace in &sets.ns_pvt_rwset {
        let written = configs_of(channel, namespace)
            .map_err(|e| format!("failed to obtain collections config: {e}"))?;
        let demanding = written.iter().find(|c| c.required_peer_count > 0);
        if let Some(collection) = demanding {
            return Err(format!(
                "failed to distribute private collection, txID {tx_id}, channel {}: could not \
                 build private data dissemination plan for chaincode {} and collection {}: \
                 required to disseminate to at least {} peers, but know of only 0 eligible peers",
                channel.id(),
                namespace.namespace,
                collection.name,
                collection.required_peer_count
            ));
        }
        let config = written.into_iter().map(|c| CollectionConfig {
            payload: Some(Payload::StaticCollectionConfig(c)),
        });
        let package = CollectionConfigPackage {
            config: config.collect(),
        };
        configs.insert(namespace.namespace.clone(), package);
    }
    let channel = channel.clone();
    let kept = tokio::task::spawn_blocking(move || {
        let height = channel.ledger().height();
        let set = TxPvtReadWriteSetWithConfigInfo {
            endorsed_at: height,
            pvt_rwset: Some(sets),
            collection_configs: configs,
        };
        channel
            .ledger()
            .put_transient(&tx_id, height, &set)
            .map_err(|e| report(&e))
    });
    kept.await.map_err(|e| e.to_string())?
}

/// The configurations of the collections that were written.
fn configs_of(
    channel: &PeerChannel,
    namespace: &NsPvtReadWriteSet,
) -> Result<Vec<StaticCollectionConfig>, String> {
    let name = &namespace.namespace;
    let definition = match name.as_str() {
        LIFECYCLE_NAMESPACE => None,
        name => channel.definition(name).map_err(|e| report(&e))?,
    };
    let written = namespace
        .collection_pvt_rwset
        .iter()
        .map(|c| c.collection_name.as_str());
    written
        .map(|collection| match implicit_collection_org(collection) {
            Some(msp_id) => Ok(implicit_collection(msp_id)),
            None => definition
                .as_ref()
                .and_then(|d| d.collection(collection).cloned())
                .ok_or_else(|| format!("no collection config for chaincode {name:?}")),
        })
        .collect()
}

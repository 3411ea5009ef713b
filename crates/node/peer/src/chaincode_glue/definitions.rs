//! What this peer may run: committed definitions that its organisation approved and whose package
//! is installed (Fabric: `lifecycle.Cache`, `endorsement_info.go`).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use selvage_crypto::sha256;
use selvage_ledger::Simulator;

use super::store::PackageStore;
use crate::channels::PeerChannel;
use crate::lifecycle::{
    CHAINCODE_SOURCES, ChaincodeDefinition, LIFECYCLE_NAMESPACE, encode_string, field_key,
    read_sequence,
};
use crate::report;
use crate::scc::{CommittedState, Place, State, approves, implicit_collection_of};

/// The name by which every version of system chaincode goes.
pub(crate) const SYSTEM_VERSION: &str = "syscc";

/// Chaincode that is part of the peer.
pub(crate) fn is_system(name: &str) -> bool {
    matches!(name, "_lifecycle" | "cscc" | "lscc" | "qscc")
}

/// A chaincode of a channel as this peer stands to it.
#[derive(Debug, Clone)]
pub(crate) struct LocalChaincode {
    pub(crate) definition: Arc<ChaincodeDefinition>,
    /// Whether the own organisation approved this definition as it was committed.
    pub(crate) approved: bool,
    /// The package the own organisation bound to it, if it is installed here.
    pub(crate) package_id: Option<String>,
}

/// A chaincode that may be run now.
#[derive(Debug, Clone)]
pub(crate) struct Runnable {
    pub(crate) definition: Arc<ChaincodeDefinition>,
    pub(crate) package_id: String,
}

struct Cached {
    /// Of `_lifecycle` in the channel.
    generation: u64,
    /// Of the installed packages.
    installs: u64,
    chaincode: Option<Arc<LocalChaincode>>,
}

/// Remembers what was read. Channel and chaincode names bound its size: there are as many entries
/// as names that were asked for and are defined.
#[derive(Default)]
pub(crate) struct Definitions {
    cache: RwLock<HashMap<(String, String), Cached>>,
}

impl Definitions {
    /// How the peer stands to a chaincode; `None` when the channel has not defined it.
    pub(crate) fn local(
        &self,
        channel: &PeerChannel,
        name: &str,
        msp_id: &str,
        packages: &PackageStore,
    ) -> Result<Option<Arc<LocalChaincode>>, String> {
        let (generation, installs) = (channel.lifecycle_generation(), packages.generation());
        let key = (channel.id().to_owned(), name.to_owned());
        if let Some(known) = self.cache.read().get(&key)
            && known.generation == generation
            && known.installs == installs
        {
            return Ok(known.chaincode.clone());
        }
        let Some(definition) = channel.definition(name).map_err(|e| report(&e))? else {
            return Ok(None);
        };
        let query = channel.ledger().query().map_err(|e| report(&e))?;
        let mut state = CommittedState(query);
        let found = Arc::new(LocalChaincode {
            approved: approves(name, &definition, msp_id, &mut state)?,
            package_id: bound_package(name, definition.sequence, msp_id, packages, &mut state)?,
            definition,
        });
        let cached = Cached {
            generation,
            installs,
            chaincode: Some(found.clone()),
        };
        self.cache.write().insert(key, cached);
        Ok(Some(found))
    }

    /// The chaincode a proposal or another chaincode calls. Its sequence becomes a read of the
    /// simulation, so that a new definition invalidates what was endorsed under the old one.
    pub(crate) fn runnable(
        &self,
        channel: &PeerChannel,
        name: &str,
        msp_id: &str,
        packages: &PackageStore,
        simulator: &mut Simulator,
    ) -> Result<Arc<LocalChaincode>, String> {
        let id = channel.id();
        let config = channel.config();
        let application = config
            .application()
            .ok_or_else(|| format!("could not get application config for channel '{id}'"))?;
        let sequence = read_sequence(name, |key| {
            simulator
                .get_state(LIFECYCLE_NAMESPACE, key)
                .map_err(Into::into)
        })
        .map_err(|e| {
            let context = "could not get current sequence for chaincode";
            format!("{context} '{name}' on channel '{id}': {}", report(&e))
        })?;
        if sequence == 0 || !application.capabilities().v2_0() {
            return Err(not_defined(name, simulator));
        }
        let local = self
            .local(channel, name, msp_id, packages)
            .map_err(|e| format!("could not get approved chaincode info from cache: {e}"))?
            .ok_or_else(|| not_defined(name, simulator))?;
        let cached = local.definition.sequence;
        if cached != sequence {
            return Err(format!(
                "chaincode cache at sequence {cached} but current sequence is {sequence}, \
                 chaincode definition for '{name}' changed during invoke"
            ));
        }
        if !local.approved {
            return Err(format!(
                "chaincode definition for '{name}' at sequence {sequence} on channel '{id}' has \
                 not yet been approved by this org"
            ));
        }
        Ok(local)
    }
}

/// Definitions of Fabric 1 are not run, but they are told apart from no definition at all.
fn not_defined(name: &str, simulator: &mut Simulator) -> String {
    match simulator.get_state("lscc", name) {
        Ok(Some(_)) => format!(
            "chaincode {name} was instantiated by the lifecycle of Fabric 1, which this peer does \
             not run; define it again with _lifecycle"
        ),
        Ok(None) => format!("chaincode {name} not found"),
        Err(e) => format!("could not get state for chaincode {name}: {}", report(&e)),
    }
}

/// The installed package whose id the organisation recorded with its approval. Only the hash of
/// the record is looked at, so it works on peers that missed the private data.
fn bound_package(
    name: &str,
    sequence: i64,
    msp_id: &str,
    packages: &PackageStore,
    state: &mut dyn State,
) -> Result<Option<String>, String> {
    let key = field_key(
        CHAINCODE_SOURCES,
        &format!("{name}#{sequence}"),
        "PackageID",
    );
    let collection = implicit_collection_of(msp_id);
    let hash = state.private_hash(Place {
        namespace: LIFECYCLE_NAMESPACE,
        collection: &collection,
        key: &key,
    })?;
    let Some(hash) = hash else { return Ok(None) };
    let mut installed = packages.list().into_iter().map(|(id, _)| id);
    Ok(installed.find(|id| hash.as_ref() == sha256(&encode_string(id.as_str())).as_slice()))
}

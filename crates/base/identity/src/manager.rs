use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use prost::Message;
use selvage_crypto::{Certificate, pem};
use selvage_proto::msp::SerializedIdentity;

use crate::{Identity, IdentityError, Msp};

/// How many identities each of the two generations of the cache holds. An identity with its key
/// and chain takes some 6 KB.
const GENERATION: usize = 512;

/// The organisations of a channel, and the identities lately seen of them.
pub struct MspManager {
    msps: BTreeMap<String, Arc<Msp>>,
    cache: RwLock<Cache>,
}

/// A cache that forgets what was not asked for longest: two generations, and when the young one
/// is full the old one goes.
#[derive(Default)]
struct Cache {
    young: HashMap<Bytes, Arc<Identity>>,
    old: HashMap<Bytes, Arc<Identity>>,
}

impl Cache {
    fn insert(&mut self, serialized: Bytes, identity: Arc<Identity>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(serialized, identity);
    }
}

impl std::fmt::Debug for MspManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MspManager")
            .field(&self.msps.keys())
            .finish()
    }
}

impl MspManager {
    /// A manager of these organisations; of two with one identifier the later counts.
    pub fn new(msps: impl IntoIterator<Item = Arc<Msp>>) -> MspManager {
        let msps = msps
            .into_iter()
            .map(|msp| (msp.id().to_owned(), msp))
            .collect();
        MspManager {
            msps,
            cache: RwLock::default(),
        }
    }

    /// The organisations, by MSP identifier.
    pub fn msps(&self) -> &BTreeMap<String, Arc<Msp>> {
        &self.msps
    }

    /// One organisation.
    pub fn msp(&self, id: &str) -> Option<&Arc<Msp>> {
        self.msps.get(id)
    }

    /// Reads a serialised identity. It may still be invalid: see [`Identity::validate`].
    ///
    /// # Errors
    /// [`IdentityError::UnknownMsp`] for an organisation that is none of these, or as
    /// [`Msp::identity`].
    pub fn deserialize(&self, serialized: &[u8]) -> Result<Arc<Identity>, IdentityError> {
        let aged = {
            let cache = self.cache.read();
            if let Some(identity) = cache.young.get(serialized) {
                return Ok(identity.clone());
            }
            cache
                .old
                .get_key_value(serialized)
                .map(|(key, found)| (key.clone(), found.clone()))
        };
        let (key, identity) = match aged {
            Some(found) => found,
            None => {
                let decoded = SerializedIdentity::decode(serialized)?;
                let msp = self.msps.get(&decoded.mspid);
                let msp = msp.ok_or_else(|| IdentityError::UnknownMsp(decoded.mspid.clone()))?;
                let identity = Arc::new(msp.identity(&decoded.id_bytes)?);
                (Bytes::copy_from_slice(serialized), identity)
            }
        };
        self.cache.write().insert(key, identity.clone());
        Ok(identity)
    }

    /// Whether the form of an identity leaves no room for other bytes that mean the same: one PEM
    /// block labelled `CERTIFICATE`, nothing after it, a canonical certificate signature. Fabric
    /// asks this of the creators of new transactions.
    ///
    /// # Errors
    /// [`IdentityError::IllFormed`], [`IdentityError::Pem`] or [`IdentityError::Certificate`].
    pub fn check_well_formed(&self, identity: &SerializedIdentity) -> Result<(), IdentityError> {
        if self.msps.is_empty() {
            let reason = "no MSP provider recognizes the identity";
            return Err(IdentityError::IllFormed(reason.to_owned()));
        }
        let ill = |reason: String| Err(IdentityError::IllFormed(reason));
        let (block, rest) = pem::next(&identity.id_bytes).ok_or(IdentityError::Pem)?;
        let id = &identity.mspid;
        if !rest.is_empty() {
            return ill(format!("identity for MSP {id} has trailing bytes"));
        }
        if block.label != "CERTIFICATE" && !block.label.is_empty() {
            let label = &block.label;
            return ill(format!(
                "pem type is {label}, should be 'CERTIFICATE' or missing"
            ));
        }
        let read = Certificate::from_der(&block.der).map_err(IdentityError::Certificate)?;
        if read.is_ecdsa_signed() && !read.has_canonical_signature() {
            return ill(format!(
                "identity for MSP {id} has a non canonical signature"
            ));
        }
        Ok(())
    }
}

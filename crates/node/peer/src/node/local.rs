//! The peer's own organisation and identity, read from its MSP folder.

use std::sync::Arc;

use bytes::Bytes;
use selvage_env::Clock;
use selvage_identity::{Msp, MspError, MspFiles, MspManager, MspVersion, SigningIdentity};
use selvage_net::deliver::Signer;

use super::NodeError;
use super::files::read_tree;
use crate::config::Settings;
use crate::endorser::LocalMsp;

/// A warning is logged when the identity's certificate has less than this left, in seconds.
const SOON: i64 = 7 * 24 * 3600;

/// Why the peer's own MSP cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalMspError {
    /// The folder lacks something or holds something unreadable.
    #[error("MSP folder {folder}")]
    Files {
        /// The folder.
        folder: String,
        /// What is wrong.
        #[source]
        source: selvage_identity::FileError,
    },
    /// The folder's contents do not make an MSP.
    #[error("MSP folder {folder}")]
    Msp {
        /// The folder.
        folder: String,
        /// What is wrong.
        #[source]
        source: MspError,
    },
}

/// Who this peer is.
pub(crate) struct Identities {
    /// Signs endorsements and requests.
    pub(crate) signer: Arc<SigningIdentity>,
    /// The organisation that guards what belongs to no channel.
    pub(crate) local: LocalMsp,
}

impl Identities {
    pub(crate) fn load(settings: &Settings, clock: &dyn Clock) -> Result<Self, NodeError> {
        let path = settings.path(&settings.core.peer.msp_config_path);
        let folder = path.display().to_string();
        let msp_id = &settings.core.peer.local_msp_id;
        let files = MspFiles::new(read_tree(&path)?);
        let wrong = |source| {
            NodeError::Local(LocalMspError::Files {
                folder: folder.clone(),
                source,
            })
        };
        let signer = files.signing_identity(msp_id).map_err(wrong)?;
        let config = files.verifying_config(msp_id).map_err(wrong)?;
        let msp = Msp::new(&config, MspVersion::V3_0).map_err(|source| {
            NodeError::Local(LocalMspError::Msp {
                folder: folder.clone(),
                source,
            })
        })?;
        warn_of_expiry(&signer, clock);
        let manager = Arc::new(MspManager::new([Arc::new(msp)]));
        Ok(Self {
            signer: Arc::new(signer),
            local: LocalMsp::new(msp_id, manager),
        })
    }
}

fn warn_of_expiry(signer: &SigningIdentity, clock: &dyn Clock) {
    let left = signer.expires_at() - clock.unix_seconds();
    if left < 0 {
        tracing::error!("the peer's identity certificate has expired");
    } else if left < SOON {
        tracing::warn!(
            "the peer's identity certificate expires within {} hours",
            left / 3600
        );
    }
}

/// Signs requests for blocks as the peer.
pub(crate) struct RequestSigner(pub(crate) Arc<SigningIdentity>);

impl Signer for RequestSigner {
    fn creator(&self) -> Bytes {
        self.0.serialized()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message)
    }
}

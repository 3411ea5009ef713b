//! The node's own identity: the folder `General.LocalMSPDir`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use selvage_identity::{Msp, MspFiles, MspVersion, SigningIdentity};

use crate::error::OrdererError;
use crate::in_full;

/// The largest file an MSP folder may hold.
const MAX_FILE: u64 = 1 << 20;
/// The most files an MSP folder may hold.
const MAX_FILES: usize = 1_000;

/// Whom a node signs as. The identity can be exchanged while the node runs; a BFT engine keeps the
/// one it was started with, because the configuration names it.
#[derive(Debug, Clone)]
pub struct Signer(Arc<ArcSwap<SigningIdentity>>);

impl Signer {
    /// Signs as this identity until it is exchanged.
    pub fn new(identity: impl Into<Arc<SigningIdentity>>) -> Self {
        Self(Arc::new(ArcSwap::new(identity.into())))
    }

    /// The identity to sign with now.
    pub fn current(&self) -> Arc<SigningIdentity> {
        self.0.load_full()
    }

    pub(crate) fn exchange(&self, identity: SigningIdentity) {
        self.0.store(Arc::new(identity));
    }
}

/// The folder `General.LocalMSPDir`.
#[derive(Debug, Clone)]
pub(crate) struct LocalMsp {
    folder: PathBuf,
    msp_id: String,
}

/// The files of a folder, by their paths in it.
pub(crate) type Files = BTreeMap<String, Bytes>;

impl LocalMsp {
    pub(crate) fn new(folder: impl Into<PathBuf>, msp_id: &str) -> Self {
        Self {
            folder: folder.into(),
            msp_id: msp_id.to_owned(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn read(&self) -> Result<Files, OrdererError> {
        read_folder(&self.folder).map_err(|error| self.wrong(describe(&error)))
    }

    /// The identity this node signs with. The organisation that the folder describes must itself
    /// accept it, or nobody would accept this node's blocks.
    pub(crate) fn identity(&self, files: Files) -> Result<SigningIdentity, OrdererError> {
        signing_identity(&self.msp_id, files).map_err(|reason| self.wrong(reason))
    }

    fn wrong(&self, reason: String) -> OrdererError {
        OrdererError::LocalMsp {
            folder: self.folder.clone(),
            msp_id: self.msp_id.clone(),
            reason,
        }
    }
}

fn signing_identity(msp_id: &str, files: Files) -> Result<SigningIdentity, String> {
    let files = MspFiles::new(files);
    let definition = files.local_config(msp_id).map_err(|e| in_full(&e))?;
    let signer = files.signing_identity(msp_id).map_err(|e| in_full(&e))?;
    let msp = Msp::new(&definition, MspVersion::V1_4_3).map_err(|e| in_full(&e))?;
    msp.deserialize(&signer.serialized())
        .and_then(|identity| identity.validate())
        .map_err(|error| {
            format!(
                "its own organisation does not accept the certificate in signcerts: {}",
                in_full(&error)
            )
        })?;
    Ok(signer)
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "the folder does not exist; set General.LocalMSPDir to the node's msp folder".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("{error}; run the orderer as the owner of the folder, or let its user read it")
        }
        _ => error.to_string(),
    }
}

/// Every file below a folder, by its path relative to it.
fn read_folder(folder: &Path) -> io::Result<Files> {
    let mut files = BTreeMap::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            // Follows links: mounted secrets are links.
            let metadata = fs::metadata(entry.path())?;
            if metadata.is_dir() {
                if prefix.matches('/').count() < 4 {
                    folders.push((entry.path(), format!("{name}/")));
                }
                continue;
            }
            if metadata.len() > MAX_FILE || files.len() >= MAX_FILES {
                return Err(io::Error::other(format!(
                    "{name} is no file of an MSP folder"
                )));
            }
            let content = fs::read(entry.path()).map_err(|error| {
                io::Error::new(error.kind(), format!("{name} cannot be read: {error}"))
            })?;
            files.insert(name, content.into());
        }
    }
    Ok(files)
}

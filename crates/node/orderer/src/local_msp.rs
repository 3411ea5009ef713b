//! The node's own identity: the folder `General.LocalMSPDir`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use bytes::Bytes;
use selvage_identity::{Msp, MspFiles, MspVersion, SigningIdentity};

use crate::error::OrdererError;
use crate::in_full;

/// The largest file an MSP folder may hold.
const MAX_FILE: u64 = 1 << 20;
/// The most files an MSP folder may hold.
const MAX_FILES: usize = 1_000;

/// Reads the folder and makes the identity this node signs with. The organisation that the folder
/// describes must itself accept it, or nobody would accept this node's blocks.
pub(crate) fn signing_identity(
    folder: &Path,
    msp_id: &str,
) -> Result<SigningIdentity, OrdererError> {
    let wrong = |reason: String| OrdererError::LocalMsp {
        folder: folder.to_owned(),
        msp_id: msp_id.to_owned(),
        reason,
    };
    let files = read_folder(folder).map_err(|error| wrong(describe(&error)))?;
    let files = MspFiles::new(files);
    let definition = files.local_config(msp_id).map_err(|e| wrong(in_full(&e)))?;
    let signer = files
        .signing_identity(msp_id)
        .map_err(|e| wrong(in_full(&e)))?;
    let msp = Msp::new(&definition, MspVersion::V1_4_3).map_err(|e| wrong(in_full(&e)))?;
    msp.deserialize(&signer.serialized())
        .and_then(|identity| identity.validate())
        .map_err(|error| {
            wrong(format!(
                "its own organisation does not accept the certificate in signcerts: {}",
                in_full(&error)
            ))
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
fn read_folder(folder: &Path) -> io::Result<BTreeMap<String, Bytes>> {
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

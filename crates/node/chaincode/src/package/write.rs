//! Writing packages, so that equal contents give equal bytes and with them equal package ids.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::archive::relative_path;
use super::{CODE_FILE, ChaincodeKind, METADATA_FILE, Metadata, PackageError, validate_label};

/// A file for the code archive, or from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path with `/` between its parts, such as `src/package.json`.
    pub name: String,
    /// Its bytes.
    pub contents: Bytes,
    /// Whether it may be run.
    pub executable: bool,
}

/// Writes a package. Order, times and owners do not depend on when, where or by whom.
///
/// `path` is the import path of the main package for Go, and free for other kinds.
pub fn write_package(
    label: &str,
    kind: &ChaincodeKind,
    path: &str,
    mut files: Vec<SourceFile>,
) -> Result<Bytes, PackageError> {
    validate_label(label)?;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = files.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(PackageError::Duplicate(pair[0].name.clone()));
    }
    for file in &files {
        if relative_path(&file.name).as_deref() != Some(file.name.as_str()) {
            return Err(PackageError::Traversal(file.name.clone()));
        }
    }
    let metadata = Metadata {
        path: path.to_owned(),
        r#type: kind.as_str().to_owned(),
        label: label.to_owned(),
    };
    let metadata = serde_json::to_vec(&metadata).map_err(|e| PackageError::Write(e.to_string()))?;
    let code = tar_gz(&files).map_err(|error| PackageError::Write(error.to_string()))?;
    let outer = [
        SourceFile {
            name: METADATA_FILE.into(),
            contents: metadata.into(),
            executable: false,
        },
        SourceFile {
            name: CODE_FILE.into(),
            contents: code.into(),
            executable: false,
        },
    ];
    let file = tar_gz(&outer).map_err(|error| PackageError::Write(error.to_string()))?;
    Ok(Bytes::from(file))
}

fn tar_gz(files: &[SourceFile]) -> io::Result<Vec<u8>> {
    let gzip = GzBuilder::new().mtime(0).operating_system(255);
    let mut builder = Builder::new(gzip.write(Vec::new(), Compression::default()));
    for file in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(if file.executable { 0o755 } else { 0o644 });
        header.set_mtime(0);
        header.set_uid(500);
        header.set_gid(500);
        header.set_size(file.contents.len() as u64);
        builder.append_data(&mut header, &file.name, file.contents.as_ref())?;
    }
    let mut gzip = builder.into_inner()?;
    gzip.flush()?;
    gzip.finish()
}

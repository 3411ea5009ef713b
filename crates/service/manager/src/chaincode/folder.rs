//! Source folders, made into the zips that the service takes.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use selvage_chaincode::package::is_ignored;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::package::MOST_FILE;
use crate::error::ManagerError;
use crate::files::read_limited;

/// What `selvage deploy` takes.
const FOLDER_HINT: &str = "give the chaincode's source folder, a zip of it, or a package made \
                               by `peer lifecycle chaincode package`";
/// Files a source folder may have.
const MOST_ENTRIES: usize = 20_000;
/// Deepest folder.
const DEEPEST: usize = 64;
/// Bytes a source folder may have.
const MOST_BYTES: u64 = 256 << 20;

/// Reads a file, or makes a zip of a folder, leaving out what builds make themselves and the folder
/// `without`. The result is at most as long as the service takes.
pub fn read_source(path: &Path, without: &Path) -> Result<Vec<u8>, ManagerError> {
    let found = fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            ManagerError::Option(format!("there is no {}; {FOLDER_HINT}", path.display()))
        }
        _ => ManagerError::file("read", path, e),
    })?;
    if !found.is_dir() {
        return read_limited(path, MOST_FILE as u64);
    }
    let without = without.canonicalize().ok();
    let mut files = Vec::new();
    collect(path, "", without.as_deref(), 0, &mut files)?;
    if files.is_empty() {
        let folder = path.display();
        return Err(ManagerError::Option(format!(
            "the folder {folder} is empty; {FOLDER_HINT}"
        )));
    }
    files.sort();
    let zip = zip(&files)?;
    if zip.len() > MOST_FILE {
        return Err(too_much(path, "compressed size", MOST_FILE as u64));
    }
    Ok(zip)
}

fn too_much(path: &Path, what: &str, limit: u64) -> ManagerError {
    ManagerError::Option(format!(
        "the folder {} is too large for chaincode: its {what} is above the limit of {limit}; is it \
         the right folder?",
        path.display()
    ))
}

/// Files with their names in the zip.
fn collect(
    folder: &Path,
    prefix: &str,
    without: Option<&Path>,
    depth: usize,
    out: &mut Vec<(String, PathBuf)>,
) -> Result<(), ManagerError> {
    let fail = |e| ManagerError::file("read the folder", folder, e);
    if depth > DEEPEST {
        return Err(too_much(folder, "depth", DEEPEST as u64));
    }
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let path = entry.path();
        let file_name = entry.file_name();
        let name = file_name.to_str().ok_or_else(|| {
            ManagerError::Option(format!("the name of {} is not UTF-8", path.display()))
        })?;
        let name = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(fail)?;
        // A folder is left out when a file in it would be.
        let probe = if kind.is_dir() {
            format!("{name}/x")
        } else {
            name.clone()
        };
        if is_ignored(&probe) {
            continue;
        }
        if kind.is_dir() {
            if without.is_some() && path.canonicalize().ok().as_deref() == without {
                continue;
            }
            collect(&path, &format!("{name}/"), without, depth + 1, out)?;
        } else if kind.is_file() {
            out.push((name, path));
        } else {
            return Err(ManagerError::Option(format!(
                "{} is a link or another special file, which chaincode may not have; replace it \
                 by what it stands for or remove it",
                path.display()
            )));
        }
        if out.len() > MOST_ENTRIES {
            return Err(too_much(folder, "number of files", MOST_ENTRIES as u64));
        }
    }
    Ok(())
}

fn zip(files: &[(String, PathBuf)]) -> Result<Vec<u8>, ManagerError> {
    let broken = |e: &dyn std::fmt::Display| {
        ManagerError::Driver(format!("cannot make a zip of the source: {e}"))
    };
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let mut left = MOST_BYTES;
    for (name, path) in files {
        let contents = read_limited(path, left)?;
        left -= contents.len() as u64;
        let found = fs::metadata(path).map_err(|e| ManagerError::file("read", path, e))?;
        let mode = found.permissions().mode() & 0o777;
        let options = SimpleFileOptions::default().unix_permissions(mode);
        writer.start_file(name, options).map_err(|e| broken(&e))?;
        writer.write_all(&contents).map_err(|e| broken(&e))?;
    }
    Ok(writer.finish().map_err(|e| broken(&e))?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvage_chaincode::package::{ChaincodeKind, Limits, SourceZip};

    fn write(folder: &Path, name: &str, contents: &[u8]) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
        fs::write(path, contents).expect("file");
    }

    #[test]
    fn a_folder_becomes_the_same_zip_each_time_without_what_builds_make() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let nowhere = dir.path().join("nowhere");
        write(dir.path(), "package.json", b"{}");
        write(dir.path(), "lib/index.js", b"");
        let plain = read_source(dir.path(), &nowhere).expect("a zip");
        write(dir.path(), "node_modules/a/package.json", b"{}");
        write(dir.path(), ".git/config", b"x");
        write(dir.path(), "data/secret.pem", b"key");
        let data = dir.path().join("data");
        assert_eq!(read_source(dir.path(), &data).expect("a zip"), plain);
        let source = SourceZip::open(&plain, None, &Limits::default()).expect("chaincode");
        assert_eq!(source.kind(), &ChaincodeKind::Node);
        let file = dir.path().join("a.zip");
        fs::write(&file, &plain).expect("file");
        assert_eq!(read_source(&file, &nowhere).expect("a file"), plain);
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let missing = dir.path().join("missing");
        let refused = |path: &Path, part: &str| {
            let error = read_source(path, &missing).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(&missing, "there is no");
        refused(dir.path(), "is empty");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).expect("link");
        refused(dir.path(), "link is a link");
        let large = dir.path().join("large");
        fs::File::create(&large)
            .and_then(|f| f.set_len(MOST_FILE as u64 + 1))
            .expect("file");
        refused(&large, "more than");
    }
}

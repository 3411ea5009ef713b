//! Source folders, made into the zips that the service takes.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use selvage_chaincode::package::{Candidate, SourceZip, is_ignored};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::package::{GZIP, MOST_FILE, language, limits};
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
/// Projects that are listed when there are several.
const LISTED: usize = 20;

/// A chaincode to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A zip or a package.
    pub file: Vec<u8>,
    /// What was taken, when that is not the whole folder or zip.
    pub taken: Option<String>,
}

/// Reads what `selvage deploy` is given: a package, or a zip or folder with exactly one chaincode in
/// it. `wanted` is the language asked for; the folder `without` is left out.
pub fn read_source(
    path: &Path,
    without: &Path,
    wanted: Option<&str>,
) -> Result<Source, ManagerError> {
    let file = read(path, without)?;
    if file.starts_with(&GZIP) {
        return Ok(Source { file, taken: None });
    }
    let kind = wanted.map(language).transpose();
    let kind = kind.map_err(|e| ManagerError::Option(e.message))?;
    let found = SourceZip::candidates(&file, kind.as_ref(), &limits());
    let found = found.map_err(|e| {
        ManagerError::Option(format!("{}: {}; {FOLDER_HINT}", path.display(), e.source))
    })?;
    let taken = match found.as_slice() {
        [one] if one.folder.is_empty() => None,
        [one] => Some(format!("taking the chaincode {}", named(path, one))),
        several => return Err(ambiguous(path, several)),
    };
    Ok(Source { file, taken })
}

fn named(path: &Path, candidate: &Candidate) -> String {
    let Candidate { folder, kind } = candidate;
    // Inside a zip there are no paths of this machine.
    let place = match path.is_dir() {
        true if folder.is_empty() => path.display().to_string(),
        true => path.join(folder).display().to_string(),
        false if folder.is_empty() => "the top".to_owned(),
        false => folder.clone(),
    };
    format!("{place} ({})", kind.as_str())
}

fn ambiguous(path: &Path, several: &[Candidate]) -> ManagerError {
    let listed = several.iter().take(LISTED).map(|c| named(path, c));
    let mut list = listed.collect::<Vec<_>>().join(", ");
    if several.len() > LISTED {
        list.push_str(", …");
    }
    let alone = |c: &Candidate| several.iter().filter(|o| o.kind == c.kind).count() == 1;
    let by_language = match several.iter().any(alone) {
        true => ", or choose its language with --lang",
        false => "",
    };
    let remedy = match path.is_dir() {
        true => "say which: give the folder of one",
        false => "zip one of them",
    };
    ManagerError::Option(format!(
        "several chaincode projects under {}: {list}; {remedy}{by_language}",
        path.display()
    ))
}

/// Reads a file, or makes a zip of a folder, leaving out what builds make themselves and the folder
/// `without`. The result is at most as long as the service takes.
fn read(path: &Path, without: &Path) -> Result<Vec<u8>, ManagerError> {
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
    use selvage_chaincode::package::{ChaincodeKind, Limits};

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
        let take = |path: &Path, without: &Path| {
            let source = read_source(path, without, None).expect("a source");
            assert_eq!(source.taken, None);
            source.file
        };
        let plain = take(dir.path(), &nowhere);
        write(dir.path(), "node_modules/a/package.json", b"{}");
        write(dir.path(), ".git/config", b"x");
        write(dir.path(), "data/secret.pem", b"key");
        let data = dir.path().join("data");
        assert_eq!(take(dir.path(), &data), plain);
        let source = SourceZip::open(&plain, None, &Limits::default()).expect("chaincode");
        assert_eq!(source.kind(), &ChaincodeKind::Node);
        let file = dir.path().join("a.zip");
        fs::write(&file, &plain).expect("file");
        assert_eq!(take(&file, &nowhere), plain);
    }

    #[test]
    fn one_project_is_taken_and_several_are_listed() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path();
        let take = |wanted| read_source(path, Path::new("/nowhere"), wanted);
        let refused = |wanted, parts: &[&str]| {
            let error = take(wanted).expect_err("refused").to_string();
            for part in parts {
                assert!(error.contains(part), "{part:?} is missing in: {error}");
            }
        };
        write(path, "notes/README.md", b"x");
        let shown = path.display().to_string();
        refused(
            None,
            &[&shown, "no chaincode found", "package.json", "go.mod"],
        );
        write(path, "one/package.json", b"{}");
        write(path, "one/lib/package.json", b"{}");
        let taken = take(None).expect("one").taken.expect("a line");
        let one = path.join("one").display().to_string();
        assert_eq!(taken, format!("taking the chaincode {one} (node)"));
        refused(Some("go"), &["no golang chaincode"]);
        write(path, "two/go.mod", b"module two\n");
        let list = format!("{one} (node), {} (golang)", path.join("two").display());
        refused(
            None,
            &["several chaincode projects under", &list, "say which"],
        );
        refused(None, &["--lang"]);
        let taken = take(Some("go")).expect("one").taken.expect("a line");
        assert!(taken.ends_with("two (golang)"), "{taken}");
        fs::remove_file(path.join("two/go.mod")).expect("gone");
        write(path, "two/package.json", b"{}");
        let error = take(None).expect_err("two alike").to_string();
        assert!(!error.contains("--lang"), "{error}");
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let missing = dir.path().join("missing");
        let refused = |path: &Path, part: &str| {
            let error = read_source(path, &missing, None);
            let error = error.expect_err(part).to_string();
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

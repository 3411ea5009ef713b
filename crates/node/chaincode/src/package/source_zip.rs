//! Zips of source code, as the BCS console and API take them, turned into packages.

use std::collections::{BTreeMap, HashSet};
use std::io::{Cursor, Read};

use bytes::Bytes;
use zip::ZipArchive;

use super::archive::{Limits, relative_path};
use super::{ChaincodeKind, PackageError, SourceFile, write_package};

/// Folders that a build makes itself or that no build needs.
const IGNORED_FOLDERS: [&str; 4] = ["__MACOSX", ".git", ".svn", "node_modules"];
const IGNORED_FILES: [&str; 2] = [".DS_Store", "Thumbs.db"];
/// Most projects that an error names.
const MOST_NAMED: usize = 12;

/// A zip that cannot be used. Its text is the one BCS shows; the source says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("链代码文件解压失败，可能原因是压缩包格式或内容错误，或未包含有效的链代码文件。")]
pub struct ZipError {
    /// What is wrong with it.
    #[from]
    pub source: ZipProblem,
}

/// What is wrong with a source zip.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZipProblem {
    /// Not a zip, or damaged.
    #[error("the file is not a readable zip archive: {0}")]
    NotAZip(String),
    /// Nothing in it.
    #[error("the archive is empty")]
    Empty,
    /// No project that could be built.
    #[error(
        "no chaincode found: expected a package.json (Node), a go.mod or Go files of package main \
         (Go), or a pom.xml or build.gradle (Java)"
    )]
    NoChaincode,
    /// Several projects, none of which is part of another: taking one would be a guess.
    #[error("it has several chaincode projects: {}; zip one of them alone, or choose the language", listed(.0))]
    Several(Vec<Candidate>),
    /// There is chaincode, but not in the language asked for.
    #[error("no {0} chaincode found")]
    OtherLanguage(String),
    /// Protected by a password.
    #[error("entry '{0}' is encrypted")]
    Encrypted(String),
    /// An entry could not be read.
    #[error("entry '{0}' cannot be read: {1}")]
    Entry(String, String),
    /// The same trouble that packages can have: climbing paths, links, bombs, duplicates.
    #[error(transparent)]
    Contents(#[from] PackageError),
}

/// A project in a zip that is not part of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its folder, without a slash at its end; empty for the top.
    pub folder: String,
    /// Its language.
    pub kind: ChaincodeKind,
}

/// The source code found in a zip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceZip {
    kind: ChaincodeKind,
    path: String,
    files: Vec<SourceFile>,
}

impl SourceZip {
    /// Opens a zip and finds the one project in it. `wanted` is the language the user chose, if any.
    pub fn open(
        file: &[u8],
        wanted: Option<&ChaincodeKind>,
        limits: &Limits,
    ) -> Result<Self, ZipError> {
        let (files, projects) = look_through(file, wanted, limits)?;
        let found = outermost(&projects);
        if found.len() > 1 {
            return Err(ZipProblem::Several(found).into());
        }
        let nearest = projects.into_iter().next().ok_or(ZipProblem::NoChaincode)?;
        Ok(nearest.into_source(&files))
    }

    /// Every project of a zip that is not part of another one: [`Self::open`] takes a zip with
    /// exactly one.
    pub fn candidates(
        file: &[u8],
        wanted: Option<&ChaincodeKind>,
        limits: &Limits,
    ) -> Result<Vec<Candidate>, ZipError> {
        let (_, projects) = look_through(file, wanted, limits)?;
        Ok(outermost(&projects))
    }

    /// The language of the project.
    pub fn kind(&self) -> &ChaincodeKind {
        &self.kind
    }

    /// Writes it as a package.
    pub fn into_package(self, label: &str) -> Result<Bytes, PackageError> {
        write_package(label, &self.kind, &self.path, self.files)
    }
}

/// The files, and at least one project among them, nearest to the top first.
fn look_through(
    file: &[u8],
    wanted: Option<&ChaincodeKind>,
    limits: &Limits,
) -> Result<(BTreeMap<String, Found>, Vec<Project>), ZipProblem> {
    let files = read_files(file, limits)?;
    if files.is_empty() {
        return Err(ZipProblem::Empty);
    }
    let mut projects = find_projects(&files);
    if projects.is_empty() {
        return Err(ZipProblem::NoChaincode);
    }
    projects.retain(|p| wanted.is_none_or(|kind| p.kind == *kind));
    if projects.is_empty() {
        let wanted = wanted.map_or("", ChaincodeKind::as_str);
        return Err(ZipProblem::OtherLanguage(wanted.to_owned()));
    }
    Ok((files, projects))
}

/// The projects that are not part of another one.
fn outermost(projects: &[Project]) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for Project { folder, kind, .. } in projects {
        let is_part = found
            .iter()
            .any(|of| match folder.strip_prefix(&of.folder) {
                Some("") => of.kind == *kind,
                Some(rest) => of.folder.is_empty() || rest.starts_with('/'),
                None => false,
            });
        if !is_part {
            found.push(Candidate {
                folder: folder.clone(),
                kind: kind.clone(),
            });
        }
    }
    found
}

fn listed(projects: &[Candidate]) -> String {
    let named = |c: &Candidate| match c.folder.as_str() {
        "" => format!("the top ({})", c.kind.as_str()),
        folder => format!("{folder} ({})", c.kind.as_str()),
    };
    let mut names: Vec<String> = projects.iter().take(MOST_NAMED).map(named).collect();
    if projects.len() > MOST_NAMED {
        names.push(format!("and {} more", projects.len() - MOST_NAMED));
    }
    names.join(", ")
}

struct Found {
    contents: Bytes,
    executable: bool,
}

fn read_files(file: &[u8], limits: &Limits) -> Result<BTreeMap<String, Found>, ZipProblem> {
    if file.len() as u64 > limits.file {
        let what = "the size of the file";
        return Err(PackageError::Limit {
            what,
            limit: limits.file,
        }
        .into());
    }
    let mut archive = ZipArchive::new(Cursor::new(file))
        .map_err(|error| ZipProblem::NotAZip(error.to_string()))?;
    if archive.len() as u64 > limits.entries {
        let what = "the number of entries";
        return Err(PackageError::Limit {
            what,
            limit: limits.entries,
        }
        .into());
    }
    let (mut budget, too_much) = limits.budget(file.len() as u64);
    let mut files = BTreeMap::new();
    let mut seen = HashSet::new();
    for index in 0..archive.len() {
        let entry = archive
            .by_index_raw(index)
            .map_err(|error| ZipProblem::NotAZip(error.to_string()))?;
        // Archivers on Windows write backslashes.
        let raw = entry.name().replace('\\', "/");
        let is_folder = entry.is_dir() || raw.ends_with('/');
        let encrypted = entry.encrypted();
        let mode = entry.unix_mode();
        drop(entry);
        let name = relative_path(&raw).ok_or_else(|| PackageError::Traversal(raw.clone()))?;
        if mode.is_some_and(|mode| !matches!(mode & 0o170_000, 0 | 0o100_000 | 0o040_000)) {
            if is_ignored(&name) {
                continue;
            }
            return Err(PackageError::Special(raw).into());
        }
        if is_folder || name.is_empty() {
            continue;
        }
        if !seen.insert(name.clone()) {
            return Err(PackageError::Duplicate(name).into());
        }
        if encrypted {
            return Err(ZipProblem::Encrypted(name));
        }
        let contents = read_entry(&mut archive, index, &name, &mut budget, &too_much)?;
        if !is_ignored(&name) {
            let executable = mode.is_some_and(|mode| mode & 0o111 != 0);
            files.insert(
                name,
                Found {
                    contents,
                    executable,
                },
            );
        }
    }
    Ok(files)
}

fn read_entry(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    index: usize,
    name: &str,
    budget: &mut u64,
    too_much: &PackageError,
) -> Result<Bytes, ZipProblem> {
    let failed = |error: String| ZipProblem::Entry(name.to_owned(), error);
    let entry = archive
        .by_index(index)
        .map_err(|error| failed(error.to_string()))?;
    let mut contents = Vec::new();
    // Sizes in the archive's own tables are claims; what counts is what comes out.
    let read = entry
        .take(*budget + 1)
        .read_to_end(&mut contents)
        .map_err(|error| failed(error.to_string()))? as u64;
    *budget = budget.checked_sub(read).ok_or_else(|| too_much.clone())?;
    Ok(Bytes::from(contents))
}

/// Whether a file of a source folder, given by its path with `/` between the parts, is left out of
/// packages: what a build makes itself, and what no build needs.
pub fn is_ignored(name: &str) -> bool {
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        let folder = parts.peek().is_some();
        if folder && IGNORED_FOLDERS.contains(&part) || !folder && IGNORED_FILES.contains(&part) {
            return true;
        }
    }
    false
}

/// A folder of the archive that can be built.
#[derive(Debug)]
struct Project {
    /// Without a slash at its end; empty for the top.
    folder: String,
    kind: ChaincodeKind,
    /// The Go module, if there is one.
    module: Option<String>,
}

/// All projects, nearest to the top first.
fn find_projects(files: &BTreeMap<String, Found>) -> Vec<Project> {
    let mut projects = Vec::new();
    for (name, found) in files {
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        if in_vendor(folder) {
            continue;
        }
        let (kind, module) = match file {
            "package.json" if is_json_object(&found.contents) => (ChaincodeKind::Node, None),
            "go.mod" => (ChaincodeKind::Golang, go_module(&found.contents)),
            "pom.xml" | "build.gradle" | "build.gradle.kts" => (ChaincodeKind::Java, None),
            _ if is_main_go(file, &found.contents) => (ChaincodeKind::Golang, None),
            _ => continue,
        };
        projects.push(Project {
            folder: folder.to_owned(),
            kind,
            module,
        });
    }
    // A module counts before a loose main package of the same depth.
    let depth = |p: &Project| {
        if p.folder.is_empty() {
            0
        } else {
            p.folder.split('/').count()
        }
    };
    projects.sort_by_key(|p| {
        (
            depth(p),
            p.kind == ChaincodeKind::Golang && p.module.is_none(),
        )
    });
    projects
}

impl Project {
    fn into_source(self, files: &BTreeMap<String, Found>) -> SourceZip {
        let prefix = if self.folder.is_empty() {
            String::new()
        } else {
            format!("{}/", self.folder)
        };
        let inside: Vec<(&str, &Found)> = files
            .iter()
            .filter_map(|(name, found)| Some((name.strip_prefix(&prefix)?, found)))
            .collect();
        let (path, base) = match (&self.kind, &self.module) {
            (ChaincodeKind::Golang, Some(module)) => {
                (go_main_path(module, &inside), "src/".to_owned())
            }
            // Without a module the code is built in a GOPATH, where it needs a name of its own.
            (ChaincodeKind::Golang, None) => {
                let last = self
                    .folder
                    .rsplit('/')
                    .next()
                    .filter(|last| !last.is_empty());
                let path = last.unwrap_or("chaincode").to_owned();
                (path.clone(), format!("src/{path}/"))
            }
            _ => (".".to_owned(), "src/".to_owned()),
        };
        let files = inside
            .into_iter()
            .map(|(name, found)| SourceFile {
                // Fabric keeps index definitions beside the sources, not among them.
                name: if name.starts_with("META-INF/") {
                    name.to_owned()
                } else {
                    format!("{base}{name}")
                },
                contents: found.contents.clone(),
                executable: found.executable,
            })
            .collect();
        SourceZip {
            kind: self.kind,
            path,
            files,
        }
    }
}

/// The import path of the main package: the module itself, or the one folder that has it.
fn go_main_path(module: &str, files: &[(&str, &Found)]) -> String {
    let mut mains: Vec<&str> = files
        .iter()
        .filter(|(name, found)| {
            let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
            !in_vendor(folder) && is_main_go(file, &found.contents)
        })
        .map(|(name, _)| name.rsplit_once('/').map_or("", |(folder, _)| folder))
        .collect();
    mains.sort_by_key(|folder| (folder.split('/').count(), folder.len()));
    match mains.first() {
        None | Some(&"") => module.to_owned(),
        Some(folder) => format!("{module}/{folder}"),
    }
}

fn in_vendor(folder: &str) -> bool {
    folder.split('/').any(|part| part == "vendor")
}

fn is_json_object(contents: &[u8]) -> bool {
    matches!(
        serde_json::from_slice(contents),
        Ok(serde_json::Value::Object(_))
    )
}

fn go_module(contents: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(contents);
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("module "))?;
    let name = line.split("//").next()?.trim().trim_matches('"');
    (!name.is_empty()).then(|| name.to_owned())
}

fn is_main_go(file: &str, contents: &[u8]) -> bool {
    file.ends_with(".go")
        && !file.ends_with("_test.go")
        && String::from_utf8_lossy(contents)
            .lines()
            .any(|line| line.split("//").next().unwrap_or_default().trim() == "package main")
}

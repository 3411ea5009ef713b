//! Chaincode packages as Fabric's lifecycle installs them: read, written, and made from zips of
//! source code.
//!
//! A package is a gzipped tar of `metadata.json` and `code.tar.gz`; its id is the label and the
//! SHA-256 of the file. Whatever comes from outside is read with limits on size, number of entries
//! and compression ratio, and nothing in it may name a place outside its own folder.

mod archive;
mod source_zip;
mod write;

use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use archive::Limits;
pub use source_zip::{Candidate, SourceZip, ZipError, ZipProblem, is_ignored};
pub use write::{SourceFile, write_package};

const METADATA_FILE: &str = "metadata.json";
const CODE_FILE: &str = "code.tar.gz";
const STATEDB_FOLDER: &str = "META-INF/statedb/";
/// More than enough for a label, a type and a path.
const METADATA_LIMIT: usize = 64 * 1024;

/// Why a package is refused. Where Fabric refuses it too, the text is Fabric's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// Not gzip.
    #[error("error reading as gzip stream: {0}")]
    Gzip(String),
    /// Damaged or cut short.
    #[error("error inspecting next tar header: {0}")]
    Tar(String),
    /// The contents of an entry are damaged or cut short.
    #[error("could not read {0} from tar: {1}")]
    Entry(String, String),
    /// A folder, link or device where a file belongs.
    #[error("tar entry {0} is not a regular file, type {1}")]
    NotRegular(String, u8),
    /// `metadata.json` is no such document.
    #[error("could not unmarshal metadata.json as json: {0}")]
    Metadata(String),
    /// There is no `code.tar.gz`.
    #[error("did not find a code package inside the package")]
    NoCode,
    /// There is no `metadata.json`.
    #[error("did not find any package metadata (missing metadata.json)")]
    NoMetadata,
    /// The label has forbidden characters.
    #[error(
        "invalid label '{0}'. Label must be non-empty, can only consist of alphanumerics, symbols \
         from '.+-_', and can only begin with alphanumerics"
    )]
    Label(String),
    /// An entry appears twice, so that readers could disagree.
    #[error("entry '{0}' appears more than once in the package")]
    Duplicate(String),
    /// An entry names a place outside its folder.
    #[error("entry '{0}' is refused: paths must be relative and stay inside the package")]
    Traversal(String),
    /// A link or device in the code.
    #[error("entry '{0}' is refused: only files and folders may be in chaincode code")]
    Special(String),
    /// Too large or too many.
    #[error("the package is refused: {what} exceeds the limit of {limit}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The most that is accepted.
        limit: u64,
    },
    /// Compressed far more than source code ever is.
    #[error("the package is refused: it expands to more than {0} times its size")]
    Bomb(u64),
    /// Unpacking hit a fault of this host.
    #[error("could not unpack '{0}': {1}")]
    Unpack(String, String),
    /// The label of a package to write, or its path, does not fit.
    #[error("could not write the package: {0}")]
    Write(String),
}

impl PackageError {
    /// What whoever sent the package can do; it goes behind the text.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Gzip(_) => {
                "send the .tar.gz that `peer lifecycle chaincode package` or `selvage deploy` makes \
                 of the source folder, not the source or a zip of it"
            }
            Self::Tar(_) | Self::Entry(..) => {
                "the file is cut short or damaged: copy it again as a whole, or package the source \
                 folder again"
            }
            Self::NotRegular(..)
            | Self::Metadata(_)
            | Self::NoCode
            | Self::NoMetadata
            | Self::Duplicate(_) => {
                "a package is a .tar.gz of metadata.json and code.tar.gz: make it with `peer \
                 lifecycle chaincode package`"
            }
            Self::Label(_) => "package it again under such a label",
            Self::Traversal(_) | Self::Special(_) => {
                "take this entry out of the source folder, or put a file in its place, and package \
                 it again"
            }
            Self::Limit { .. } | Self::Bomb(_) => {
                "leave out what the build does not need, such as node_modules and data files, and \
                 package it again"
            }
            Self::Unpack(..) | Self::Write(_) => "see to this host's disk, and try again",
        }
    }
}

/// What a package is written in or how it runs (`type` in `metadata.json`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChaincodeKind {
    /// `node`, `javascript`, `typescript`.
    Node,
    /// `golang`.
    Golang,
    /// `java`.
    Java,
    /// `ccaas`: a service that runs elsewhere. `external` is its name in older samples.
    Service,
    /// Anything else, which only an external builder would know.
    Other(String),
}

impl ChaincodeKind {
    /// Reads `type`; letters count in any case, as in Fabric.
    pub fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "node" | "javascript" | "typescript" => Self::Node,
            "golang" | "go" => Self::Golang,
            "java" => Self::Java,
            "ccaas" | "external" => Self::Service,
            _ => Self::Other(text.to_owned()),
        }
    }

    /// The `type` of a package of this kind.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Node => "node",
            Self::Golang => "golang",
            Self::Java => "java",
            Self::Service => "ccaas",
            Self::Other(text) => text,
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Metadata {
    pub(crate) path: String,
    pub(crate) r#type: String,
    pub(crate) label: String,
}

/// An opened package: its code was walked through and found safe to unpack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    id: String,
    label: String,
    kind: ChaincodeKind,
    path: String,
    code: Bytes,
    statedb: Vec<SourceFile>,
    connection: Option<Bytes>,
    limits: Limits,
}

impl Package {
    /// Opens a package file (Fabric: `ParseChaincodePackage`).
    pub fn open(file: &[u8]) -> Result<Self, PackageError> {
        Self::open_with(file, Limits::default())
    }

    /// Opens a package file under other limits.
    pub fn open_with(file: &[u8], limits: Limits) -> Result<Self, PackageError> {
        let (metadata, code) = read_outer(file, &limits)?;
        validate_label(&metadata.label)?;
        let mut statedb = Vec::new();
        let mut connection = None;
        archive::walk(&code, &limits, |entry| {
            if entry.name.starts_with(STATEDB_FOLDER) {
                let (name, executable) = (entry.name.clone(), entry.executable);
                statedb.push(SourceFile {
                    name,
                    contents: entry.contents()?,
                    executable,
                });
            } else if entry.name == "connection.json" {
                connection = Some(entry.contents()?);
            }
            Ok(())
        })?;
        Ok(Self {
            id: package_id(&metadata.label, file),
            label: metadata.label,
            kind: ChaincodeKind::parse(&metadata.r#type),
            path: metadata.path,
            code,
            statedb,
            connection,
            limits,
        })
    }

    /// `label:hash`, the hash being the SHA-256 of the package file in lower-case hexadecimal.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The label its author gave it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What it is written in.
    pub fn kind(&self) -> &ChaincodeKind {
        &self.kind
    }

    /// `path` of `metadata.json`: for Go the import path of the main package.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `code.tar.gz`.
    pub fn code(&self) -> &Bytes {
        &self.code
    }

    /// The files below `META-INF/statedb`: indexes for rich queries.
    pub fn statedb_files(&self) -> &[SourceFile] {
        &self.statedb
    }

    /// `connection.json` of a chaincode that runs as a service.
    pub fn connection_json(&self) -> Option<&Bytes> {
        self.connection.as_ref()
    }

    /// Unpacks the code into `folder`, which must exist and be empty. Blocks on the file system.
    pub fn unpack_code(&self, folder: &Path) -> Result<(), PackageError> {
        archive::unpack(&self.code, folder, &self.limits)
    }
}

/// The id of a package file.
pub fn package_id(label: &str, file: &[u8]) -> String {
    format!("{label}:{}", hex::encode(selvage_crypto::sha256(file)))
}

/// Fabric's rule for labels: letters, digits and `.+-_`, beginning with a letter or digit.
pub fn validate_label(label: &str) -> Result<(), PackageError> {
    let mut bytes = label.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte)) {
        return Ok(());
    }
    Err(PackageError::Label(label.to_owned()))
}

fn read_outer(file: &[u8], limits: &Limits) -> Result<(Metadata, Bytes), PackageError> {
    let mut metadata = None;
    let mut code = None;
    archive::walk_outer(file, limits, |name, contents| match name {
        METADATA_FILE if metadata.is_some() => Err(PackageError::Duplicate(name.to_owned())),
        METADATA_FILE if contents.len() > METADATA_LIMIT => Err(PackageError::Limit {
            what: "the size of metadata.json",
            limit: METADATA_LIMIT as u64,
        }),
        METADATA_FILE => {
            let parsed: Metadata = serde_json::from_slice(&contents)
                .map_err(|error| PackageError::Metadata(error.to_string()))?;
            metadata = Some(parsed);
            Ok(())
        }
        CODE_FILE if code.is_some() => Err(PackageError::Duplicate(name.to_owned())),
        CODE_FILE => {
            code = Some(contents);
            Ok(())
        }
        _ => {
            tracing::warn!(
                "Encountered unexpected file '{name}' in top level of chaincode package"
            );
            Ok(())
        }
    })?;
    let code = code.ok_or(PackageError::NoCode)?;
    Ok((metadata.ok_or(PackageError::NoMetadata)?, code))
}

#[cfg(test)]
mod tests;

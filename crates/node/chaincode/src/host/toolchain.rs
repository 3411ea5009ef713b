//! The programs that build and run chaincode, and what of the host they need to see.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::package::ChaincodeKind;

/// Finds a program in a `PATH`.
pub(super) fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|f| f.join(name))
        .find(|candidate| {
            fs::metadata(candidate)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}

/// The tools of one language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Toolchain {
    /// Folders of the tools, for the `PATH` of processes.
    folders: Vec<PathBuf>,
    /// Where the tools and their libraries are, unless the system's folders hold them.
    pub(super) roots: Vec<PathBuf>,
}

/// The programs each language needs, and where to get them.
fn required(kind: &ChaincodeKind) -> (&'static [&'static str], &'static str) {
    match kind {
        ChaincodeKind::Node => (&["node", "npm"], "Node.js with npm (https://nodejs.org)"),
        ChaincodeKind::Golang => (&["go"], "Go (https://go.dev/dl)"),
        ChaincodeKind::Java => (
            &["java", "mvn"],
            "a JDK and Maven (https://adoptium.net, https://maven.apache.org)",
        ),
        ChaincodeKind::Service | ChaincodeKind::Other(_) => (&[], ""),
    }
}

impl Toolchain {
    /// Finds the tools for `kind`. The error names what is missing and what to do.
    pub(super) fn find(kind: &ChaincodeKind, path: &OsStr) -> Result<Self, String> {
        let (programs, product) = required(kind);
        let mut toolchain = Self {
            folders: Vec::new(),
            roots: Vec::new(),
        };
        for program in programs {
            let Some(found) = find_program(program, path) else {
                return Err(format!(
                    "chaincode of type '{}' needs the program '{program}', which is not in the \
                     PATH of the peer ({}): install {product} on this host, or deploy the \
                     chaincode as a service (type 'ccaas')",
                    kind.as_str(),
                    path.to_string_lossy()
                ));
            };
            toolchain.add(&found);
        }
        Ok(toolchain)
    }

    fn add(&mut self, program: &Path) {
        let real = fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
        for place in [program, real.as_path()] {
            if let Some(folder) = place.parent() {
                push_new(&mut self.folders, folder.to_owned());
            }
        }
        for place in [program, real.as_path()] {
            let Some(root) = installation_root(place) else {
                continue;
            };
            push_new(&mut self.roots, root);
        }
    }

    /// A `PATH` with the tools first and the system after them.
    pub(super) fn search_path(&self) -> OsString {
        let system = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
        let folders = self.folders.iter().cloned().chain(system);
        std::env::join_paths(folders).unwrap_or_else(|_| OsString::from("/usr/bin:/bin"))
    }

    /// The place of one of the tools.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        find_program(name, &self.search_path()).unwrap_or_else(|| PathBuf::from(name))
    }
}

fn push_new(list: &mut Vec<PathBuf>, path: PathBuf) {
    if !list.contains(&path) {
        list.push(path);
    }
}

/// The folder that holds `bin` and the libraries beside it; only `bin` itself when the folder
/// around it is somebody's home or the top, which hold more than tools.
fn installation_root(program: &Path) -> Option<PathBuf> {
    let folder = program.parent()?;
    if ["/usr", "/bin", "/sbin"]
        .iter()
        .any(|system| folder.starts_with(system))
    {
        return None;
    }
    let around = folder.parent()?;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let is_shared = around.parent().is_none()
        || home.as_deref().is_some_and(|home| home.starts_with(around))
        || folder.file_name() != Some(OsStr::new("bin"));
    Some(if is_shared {
        folder.to_owned()
    } else {
        around.to_owned()
    })
}

//! Power cuts for real processes. `kill -9` leaves the page cache, so a sync that is missing never
//! shows by it. Here processes run with a small library (`shim.c`) before the C library, which
//! records of every file what was synced; [`Machine::cut`] then puts in place of the files what a
//! power cut would have left of them.
//!
//! Two kinds of outcome are played. [`Outcome::Least`] is the worst that a file system may do:
//! nothing survives but what was synced, each file by itself, each folder by itself. With
//! [`Outcome::Some`] parts of what was not synced have come to the disk as well, in pages of any
//! order: torn ends and holes, names without contents, old and new side by side.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

mod left;
mod pages;
mod records;

use left::Left;
use pages::Dice;

/// The compiled shim.
const SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim.so"));

/// What is left of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Least,
    /// Some of it, drawn from this seed.
    Some(u64),
}

/// What a power cut took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Files that are as they were.
    pub whole: usize,
    /// Files that are gone or hold something else.
    pub hurt: usize,
}

/// A folder whose files are under the shim, and the records about them.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
    shadow: PathBuf,
    shim: PathBuf,
    forget: Option<String>,
}

impl Machine {
    /// Watches what lies in `root`, which may not exist yet but whose parent does. The records go
    /// to `shadow`, a folder outside of it.
    ///
    /// # Errors
    /// When the shim cannot be put into `shadow`.
    pub fn new(root: &Path, shadow: &Path) -> io::Result<Self> {
        // Open files are known by the path that the kernel gives them, which has no links in it.
        let root = match (root.canonicalize(), root.parent(), root.file_name()) {
            (Ok(root), ..) => root,
            (Err(_), Some(parent), Some(name)) => parent.canonicalize()?.join(name),
            (Err(error), ..) => return Err(error),
        };
        let shadow = shadow.canonicalize()?;
        let shim = shadow.join("shim.so");
        fs::write(&shim, SHIM)?;
        Ok(Self {
            root,
            shadow,
            shim,
            forget: None,
        })
    }

    /// A machine whose processes behave as if they left out every sync of a path with `part` in it
    /// behind the root: for tests that must notice.
    #[must_use]
    pub fn forgetting(mut self, part: &str) -> Self {
        self.forget = Some(part.to_owned());
        self
    }

    /// The variables with which a process, and all that it starts, comes under the shim.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut variables: Vec<(OsString, OsString)> = vec![
            ("LD_PRELOAD".into(), self.shim.clone().into()),
            ("POWERCUT_ROOT".into(), self.root.clone().into()),
            ("POWERCUT_SHADOW".into(), self.shadow.clone().into()),
        ];
        if let Some(part) = &self.forget {
            variables.push(("POWERCUT_FORGET".into(), part.into()));
        }
        variables
    }

    /// Puts in place of all that `folder` holds, the root or a folder in it, what a power cut
    /// leaves of it. The folder itself counts as durable. Nobody may use its files meanwhile.
    /// What is left counts as synced from then on, as it does for a machine that starts again.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn cut(&self, folder: &Path, outcome: Outcome) -> io::Result<Losses> {
        let folder = folder.canonicalize()?;
        let dice = match outcome {
            Outcome::Least => None,
            Outcome::Some(seed) => Some(Dice::new(seed)),
        };
        let mut made = folder.clone().into_os_string();
        made.push(".left");
        let made = PathBuf::from(made);
        fs::create_dir(&made)?;
        let losses = Left::of(&self.shadow, &folder, dice)?.build(&made)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.symlink_metadata()?.is_dir() {
                fs::remove_dir_all(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        }
        for entry in fs::read_dir(&made)? {
            let entry = entry?;
            fs::rename(entry.path(), folder.join(entry.file_name()))?;
        }
        fs::remove_dir(&made)?;
        records::write_all(&self.shadow, &folder)?;
        Ok(losses)
    }
}

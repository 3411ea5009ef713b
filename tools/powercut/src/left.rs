//! Building what a power cut leaves.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::Losses;
use crate::pages::{self, Dice};
use crate::records::{self, Entry, Key, Kind};

/// No tree of ours is deeper; records that lead in a circle end here.
const MAX_DEPTH: usize = 64;

/// What is left of a folder.
pub(crate) struct Left<'a> {
    shadow: &'a Path,
    folder: Key,
    /// Where the files and folders are that were there when the power went.
    live: HashMap<Key, PathBuf>,
    files: usize,
    dice: Option<Dice>,
    whole: usize,
}

impl<'a> Left<'a> {
    pub(crate) fn of(shadow: &'a Path, folder: &Path, dice: Option<Dice>) -> io::Result<Self> {
        let mut left = Self {
            shadow,
            folder: records::key_of(&fs::metadata(folder)?)?,
            live: HashMap::new(),
            files: 0,
            dice,
            whole: 0,
        };
        left.live.insert(left.folder.clone(), folder.to_owned());
        left.look_at(folder)?;
        Ok(left)
    }

    fn look_at(&mut self, folder: &Path) -> io::Result<()> {
        for entry in records::entries_of(folder)? {
            let path = folder.join(&entry.name);
            match entry.kind {
                Kind::Folder => self.look_at(&path)?,
                Kind::File => self.files += 1,
                Kind::Link(_) => {}
            }
            self.live.insert(entry.key, path);
        }
        Ok(())
    }

    /// Makes the files in an empty folder.
    pub(crate) fn build(mut self, target: &Path) -> io::Result<Losses> {
        let folder = std::mem::take(&mut self.folder);
        self.fill(&folder, target, 0)?;
        Ok(Losses {
            whole: self.whole,
            hurt: self.files.saturating_sub(self.whole),
        })
    }

    fn fill(&mut self, folder: &str, target: &Path, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other("folders are too deep"));
        }
        for entry in self.entries(folder)? {
            let path = target.join(&entry.name);
            match &entry.kind {
                Kind::Link(to) => {
                    symlink(to, &path)?;
                    continue;
                }
                Kind::Folder => {
                    fs::create_dir(&path)?;
                    self.fill(&entry.key, &path, depth + 1)?;
                }
                Kind::File => {
                    let content = self.content(&entry.key)?;
                    pages::write(&path, &content)?;
                }
            }
            fs::set_permissions(&path, entry.permissions())?;
        }
        Ok(())
    }

    fn entries(&mut self, folder: &str) -> io::Result<Vec<Entry>> {
        let as_it_was = self.dice.as_mut().is_some_and(|dice| dice.one_in(2));
        match self.live.get(folder) {
            Some(live) if as_it_was => records::entries_of(live),
            _ => records::synced_entries(self.shadow, folder),
        }
    }

    fn content(&mut self, file: &str) -> io::Result<Vec<u8>> {
        let synced = records::synced_content(self.shadow, file)?;
        // What is not there any more was removed; of that only the record is left.
        let Some(live) = self.live.get(file) else {
            return Ok(synced);
        };
        let live = fs::read(live)?;
        let content = match &mut self.dice {
            None => synced,
            Some(dice) => pages::mixed(synced, live.clone(), dice),
        };
        self.whole += usize::from(content == live);
        Ok(content)
    }
}

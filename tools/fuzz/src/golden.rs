//! Seeds from the bytes that real Fabric networks wrote, where they are.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::MAX_INPUT;

/// More seeds of one kind bring little.
const MOST: usize = 40;

fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOLDER.get_or_init(|| selvage_testing::golden_dir("fuzzing from recorded bytes"));
    found.as_deref()
}

/// The files below a folder of the recorded data whose names pass, the shortest first.
pub(crate) fn files(below: &str, wanted: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let Some(folder) = folder() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    gather(&folder.join(below), &wanted, &mut found);
    found.sort_by_key(|(path, length)| (*length, path.clone()));
    // Short and long ones, but not all.
    let step = found.len().div_ceil(MOST).max(1);
    let paths = found.into_iter().step_by(step).map(|(path, _)| path);
    paths.filter_map(|path| std::fs::read(path).ok()).collect()
}

fn gather(folder: &Path, wanted: &impl Fn(&str) -> bool, found: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(about) = entry.metadata() else {
            continue;
        };
        if about.is_dir() {
            gather(&path, wanted, found);
        } else if about.len() <= MAX_INPUT as u64 && wanted(&entry.file_name().to_string_lossy()) {
            found.push((path, about.len()));
        }
    }
}

//! What a process and its descendants use, read from `/proc`.

use std::fs;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// A tree with more processes than this is not walked further.
const WALK_LIMIT: usize = 10_000;

/// What a process tree uses at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    /// Resident bytes; pages that processes share count for each.
    pub(super) resident: u64,
    pub(super) processes: usize,
}

pub(super) fn usage(root: u32) -> Usage {
    let page = page_size();
    let pids = descendants(root);
    let resident = pids.iter().map(|pid| resident_pages(*pid) * page).sum();
    Usage {
        resident,
        processes: pids.len(),
    }
}

/// Kills a process, its group and its descendants. The caller reaps the root.
pub(super) fn kill_tree(root: u32) {
    let pids = descendants(root);
    let Ok(group) = i32::try_from(root) else {
        return;
    };
    // The group goes first, so that its members cannot start others meanwhile.
    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    for pid in pids {
        if let Ok(pid) = i32::try_from(pid) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The process and everything below it.
fn descendants(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_ascii_whitespace()
                    .filter_map(|c| c.parse::<u32>().ok()),
            );
            if found.len() > WALK_LIMIT {
                return found;
            }
        }
    }
    found
}

fn resident_pages(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0)
}

fn page_size() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok())
        .unwrap_or(4096)
}

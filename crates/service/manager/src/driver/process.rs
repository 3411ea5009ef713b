//! Processes as the kernel sees them: identified by id and start time, so that a process id that
//! was given to somebody else in the meantime is never taken for ours.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::ManagerError;
use crate::files;

/// A process we started, possibly in an earlier life of the manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessMark {
    /// Process id, which is also its group's.
    pub(crate) pid: i32,
    /// Start time in the kernel's ticks since boot.
    pub(crate) start_ticks: u64,
    /// The boot it belongs to.
    pub(crate) boot_id: String,
}

impl ProcessMark {
    /// Marks a process that runs now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            start_ticks: start_ticks(pid)?,
            boot_id: boot_id(),
        })
    }

    /// Whether exactly this process still runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.boot_id == boot_id() && start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Keeps the mark.
    pub(crate) fn save(&self, path: &Path) -> Result<(), ManagerError> {
        let text = serde_json::to_vec(self)
            .map_err(|e| ManagerError::Driver(format!("cannot keep a process id: {e}")))?;
        files::write_private(path, &text)
    }

    /// Reads a mark and answers it if its process still runs.
    pub(crate) fn load_alive(path: &Path) -> Option<Self> {
        let text = files::read_limited(path, 4096).ok()?;
        let mark: Self = serde_json::from_slice(&text).ok()?;
        mark.is_alive().then_some(mark)
    }

    /// Asks the process to end, then its whole group with force when it does not in time.
    pub(crate) async fn stop(&self, patience: Duration) {
        if !self.is_alive() {
            return;
        }
        signal(self.pid, Signal::SIGTERM);
        let deadline = tokio::time::Instant::now() + patience;
        while tokio::time::Instant::now() < deadline {
            if !self.is_alive() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Whatever is left in its group goes too, chaincode that lost its peer included.
        if killpg(Pid::from_raw(self.pid), Signal::SIGKILL) != Err(Errno::ESRCH) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Sends a signal; a process that is gone is fine.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Err(error) = kill(Pid::from_raw(pid), signal)
        && error != Errno::ESRCH
    {
        tracing::warn!(pid, %signal, %error, "cannot signal the process");
    }
}

/// Field 22 of /proc/<pid>/stat; none for a zombie, which runs no more.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so fields are counted from its end.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|t| t.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_known_again_only_while_it_is_the_same() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("mark");
        let mut child = tokio::process::Command::new("sleep")
            .arg("600")
            .process_group(0)
            .spawn()
            .expect("sleep starts");
        let pid = i32::try_from(child.id().expect("runs")).expect("fits");
        let mark = ProcessMark::of(pid).expect("runs");
        mark.save(&path).expect("saved");
        assert_eq!(ProcessMark::load_alive(&path), Some(mark.clone()));
        let other = ProcessMark {
            start_ticks: mark.start_ticks + 1,
            ..mark.clone()
        };
        assert!(!other.is_alive(), "another start time is another process");
        let reaped = tokio::spawn(async move { child.wait().await });
        mark.stop(Duration::from_secs(5)).await;
        reaped.await.expect("task").expect("wait");
        assert_eq!(ProcessMark::load_alive(&path), None);
    }
}

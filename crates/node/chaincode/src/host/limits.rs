//! Limits that a process gets before its program begins.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};

/// What a process and its descendants may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessLimits {
    /// Bytes of memory of the whole process tree; beyond that it is ended.
    pub memory: u64,
    /// Number of processes in the tree; beyond that it is ended.
    pub processes: usize,
    /// Open files of each process.
    pub open_files: u64,
    /// Bytes of the largest file a process may write.
    pub file_size: u64,
    /// Bytes of temporary files, where the confinement can bound them.
    pub temporary: u64,
}

/// Room above the memory limit before the kernel refuses memory to a single process. The watcher,
/// which knows the whole tree and resident memory only, should come first and say why.
const DATA_HEADROOM: u64 = 1 << 30;

/// Has the child take its limits, and die when the thread that starts it does, before it runs
/// its program.
pub(super) fn apply(command: &mut Command, limits: &ProcessLimits) {
    let bounds = [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NOFILE, limits.open_files),
        (Resource::RLIMIT_FSIZE, limits.file_size),
        (
            Resource::RLIMIT_DATA,
            limits.memory.saturating_add(DATA_HEADROOM),
        ),
    ];
    let parent: Pid = getpid();
    let setup = move || -> io::Result<()> {
        for (resource, bound) in bounds {
            // A host with a lower hard limit keeps it.
            if setrlimit(resource, bound, bound).is_err() {
                let (_, hard) = nix::sys::resource::getrlimit(resource)?;
                setrlimit(resource, bound.min(hard), bound.min(hard))?;
            }
        }
        set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes system calls (setrlimit, getrlimit,
    // prctl, getppid) on values it owns; it neither allocates nor takes locks.
    unsafe {
        command.pre_exec(setup);
    }
}

//! Confinement: what a build or a chaincode process can see of this host.
//!
//! Everything outside the system's own programs, the toolchain and the folders listed for the
//! process is invisible (bubblewrap) or unreadable (Landlock). The peer's keys are outside.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

use super::process::Spec;
use super::toolchain::find_program;

/// Programs and libraries of the system.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
/// What programs need of `/etc`: names, certificates, the loader, toolchain settings.
const ETC: [&str; 16] = [
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "group",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "maven",
    "npmrc",
    "nsswitch.conf",
    "passwd",
    "pki",
    "resolv.conf",
    "ssl",
];
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];
/// What Landlock shows of `/proc`: this host, but no process. A privileged process could otherwise
/// read the environment of others, which the kernel does not count as tracing them.
const PROC: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys",
    "/proc/uptime",
    "/proc/version",
    "/sys/kernel/mm/transparent_hugepage",
];
/// Who a confined process is to itself: `nobody`, whom every system knows.
const USER: &str = "65534";

/// How processes are to be confined (`chaincode.sandbox`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SandboxPolicy {
    /// The strongest that works on this host.
    #[default]
    Auto,
    /// Bubblewrap or nothing runs.
    Bubblewrap,
    /// Landlock or nothing runs.
    Landlock,
    /// No confinement: chaincode can read whatever the peer's user can.
    Off,
}

/// The confinement in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sandbox {
    /// `bwrap`: own user, process and mount namespaces.
    Bubblewrap(PathBuf),
    /// Kernel access rules on this user's processes.
    Landlock,
    /// None.
    Unconfined,
}

impl Sandbox {
    /// Finds out what works here, by trying it. The error says what to do.
    pub fn detect(policy: SandboxPolicy, path: &OsString) -> Result<Self, String> {
        let bubblewrap = || find_program("bwrap", path).filter(|bwrap| bubblewrap_works(bwrap));
        match policy {
            SandboxPolicy::Off => Ok(Self::Unconfined),
            SandboxPolicy::Landlock if landlock_works() => Ok(Self::Landlock),
            SandboxPolicy::Landlock => {
                Err("this kernel has no Landlock; chaincode cannot be confined with it".to_owned())
            }
            SandboxPolicy::Bubblewrap => bubblewrap().map(Self::Bubblewrap).ok_or_else(|| {
                "bubblewrap (bwrap) is missing or may not create namespaces on this host".to_owned()
            }),
            SandboxPolicy::Auto => match bubblewrap() {
                Some(bwrap) => Ok(Self::Bubblewrap(bwrap)),
                None if landlock_works() => Ok(Self::Landlock),
                None => Err(
                    "chaincode cannot be confined on this host: install bubblewrap (bwrap) \
                             or use a kernel with Landlock, or set chaincode.sandbox to 'off' to \
                             run chaincode with all rights of the peer's user"
                        .to_owned(),
                ),
            },
        }
    }

    /// Its name for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bubblewrap(_) => "bubblewrap",
            Self::Landlock => "landlock",
            Self::Unconfined => "off",
        }
    }

    /// The command that runs `spec` confined; for Landlock [`Sandbox::enter`] does the rest.
    pub(super) fn command(&self, spec: &Spec) -> Command {
        let mut command = match self {
            Self::Bubblewrap(bwrap) => bubblewrap_command(bwrap, spec),
            Self::Landlock | Self::Unconfined => {
                let mut command = Command::new(&spec.program);
                command.args(&spec.args).current_dir(&spec.cwd);
                command
            }
        };
        command.env_clear().envs(&spec.env).stdin(Stdio::null());
        command
    }

    /// Confines the calling thread, and so every process it starts, as far as the kernel's rules
    /// for threads are used for it.
    pub(super) fn enter(&self, spec: &Spec) -> Result<(), String> {
        if let Some(port) = spec.connect_only {
            restrict_connections(port)?;
        }
        match self {
            Self::Landlock => landlock_enter(spec),
            Self::Bubblewrap(_) | Self::Unconfined => Ok(()),
        }
    }
}

/// Leaves TCP connections to one port only. Rules on the network alone do not hinder bubblewrap
/// in making its namespaces, which rules on files would.
fn restrict_connections(port: u16) -> Result<(), String> {
    let build = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessNet::ConnectTcp)?
            .create()?
            .add_rule(NetPort::new(port, AccessNet::ConnectTcp))?
            .restrict_self()
    };
    let outcome = build().map(drop);
    outcome.map_err(|error: landlock::RulesetError| {
        format!(
            "this kernel cannot confine chaincode to the peer's port ({error}); set \
             chaincode.network to 'host' to give it the host's network"
        )
    })
}

fn bubblewrap_works(bwrap: &Path) -> bool {
    let mut command = Command::new(bwrap);
    command.args(namespace_args());
    add_system(&mut command);
    command
        .args([
            "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "/bin/sh", "-c", "exit 0",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn namespace_args() -> [&'static str; 15] {
    [
        "--die-with-parent",
        "--unshare-user",
        "--uid",
        USER,
        "--gid",
        USER,
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--hostname",
        "chaincode",
        "--new-session",
        "--cap-drop",
        "ALL",
    ]
}

fn add_system(command: &mut Command) {
    for place in SYSTEM {
        match std::fs::read_link(place) {
            Ok(target) => {
                command.arg("--symlink").arg(target).arg(place);
            }
            Err(_) => {
                command.args(["--ro-bind-try", place, place]);
            }
        }
    }
}

fn etc_paths() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = ETC
        .iter()
        .map(|name| Path::new("/etc").join(name))
        .filter(|path| path.exists())
        .collect();
    // Distributions put the settings of each Java release into a folder of its own.
    if let Ok(entries) = std::fs::read_dir("/etc") {
        let java = entries
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("java"));
        paths.extend(java.map(|entry| entry.path()));
    }
    paths
}

fn bubblewrap_command(bwrap: &Path, spec: &Spec) -> Command {
    let mut command = Command::new(bwrap);
    command.args(namespace_args());
    add_system(&mut command);
    for path in etc_paths() {
        command.arg("--ro-bind-try").arg(&path).arg(&path);
    }
    command.args(["--proc", "/proc", "--dev", "/dev"]);
    command
        .arg("--size")
        .arg(spec.limits.temporary.to_string())
        .args(["--tmpfs", "/tmp"]);
    for path in &spec.read_only {
        command.arg("--ro-bind").arg(path).arg(path);
    }
    for path in &spec.writable {
        command.arg("--bind").arg(path).arg(path);
    }
    command
        .arg("--chdir")
        .arg(&spec.cwd)
        .arg("--")
        .arg(&spec.program)
        .args(&spec.args);
    command
}

fn landlock_works() -> bool {
    // Restricting a thread is for good, so the trial has one of its own.
    let trial = std::thread::spawn(|| landlock_restrict(&[PathBuf::from("/")], &[]));
    trial.join().is_ok_and(|outcome| outcome.is_ok())
}

fn landlock_enter(spec: &Spec) -> Result<(), String> {
    let mut readable: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    readable.extend(etc_paths());
    readable.extend(PROC.iter().map(PathBuf::from));
    readable.extend(spec.read_only.iter().cloned());
    let mut writable: Vec<PathBuf> = DEVICES.iter().map(PathBuf::from).collect();
    writable.extend(spec.writable.iter().cloned());
    landlock_restrict(&readable, &writable)
}

fn landlock_restrict(readable: &[PathBuf], writable: &[PathBuf]) -> Result<(), String> {
    let abi = ABI::V6;
    let build = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(readable, AccessFs::from_read(abi)))?
            .add_rules(path_beneath_rules(writable, AccessFs::from_all(abi)))?
            .restrict_self()
    };
    let status = build().map_err(|error: landlock::RulesetError| error.to_string())?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err("this kernel does not enforce Landlock rules".to_owned());
    }
    Ok(())
}

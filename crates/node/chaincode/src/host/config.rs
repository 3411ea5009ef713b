//! Settings for building and running chaincode on a host.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::limits::ProcessLimits;
use super::sandbox::SandboxPolicy;

/// Where running chaincode may connect to (`chaincode.network`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunNetwork {
    /// Anywhere, as in Fabric's containers.
    #[default]
    Host,
    /// To the port of the peer's chaincode listener only, by rules of the kernel (Linux 6.7).
    PeerOnly,
}

/// Settings of [`super::LocalHost`].
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Builds and downloads, shared by all peers of the host that run as the same user.
    pub cache_dir: PathBuf,
    /// TLS files of running chaincode: for this peer alone, emptied when it starts.
    pub run_dir: PathBuf,
    /// How processes are confined.
    pub sandbox: SandboxPolicy,
    /// Longest build, from unpacking to the last step.
    pub build_timeout: Duration,
    /// Limits of builds.
    pub build_limits: ProcessLimits,
    /// Bytes a finished build may have.
    pub build_output: u64,
    /// Finished builds that are kept when they are not in use.
    pub keep_builds: usize,
    /// For how long a failed build is not tried again.
    pub failure_memory: Duration,
    /// Limits of running chaincode.
    pub run_limits: ProcessLimits,
    /// Where running chaincode may connect to.
    pub run_network: RunNetwork,
    /// Variables for builds, such as `GOPROXY`; they override what the peer sets.
    pub build_environment: BTreeMap<String, String>,
    /// Variables for running chaincode; those that Fabric sets win.
    pub run_environment: BTreeMap<String, String>,
    /// Folders that builds and chaincode may read besides the system's and the toolchain's.
    pub read_only_paths: Vec<PathBuf>,
    /// Where tools are looked for, instead of the peer's own `PATH`.
    pub tool_path: Option<OsString>,
    /// What `{{.name}}` in `connection.json` stands for.
    pub service_variables: BTreeMap<String, String>,
}

impl HostConfig {
    /// Defaults, with the two folders a peer has to choose.
    pub fn new(cache_dir: PathBuf, run_dir: PathBuf) -> Self {
        Self {
            cache_dir,
            run_dir,
            sandbox: SandboxPolicy::Auto,
            build_timeout: Duration::from_secs(600),
            build_limits: ProcessLimits {
                memory: 3 << 30,
                processes: 512,
                open_files: 65_536,
                file_size: 2 << 30,
                temporary: 1 << 30,
            },
            build_output: 2 << 30,
            keep_builds: 64,
            failure_memory: Duration::from_secs(20),
            run_limits: ProcessLimits {
                // As Fabric's vm.docker.hostConfig.Memory.
                memory: 2 << 30,
                processes: 128,
                open_files: 16_384,
                file_size: 1 << 30,
                temporary: 256 << 20,
            },
            run_network: RunNetwork::Host,
            build_environment: BTreeMap::new(),
            run_environment: BTreeMap::new(),
            read_only_paths: Vec::new(),
            tool_path: None,
            service_variables: BTreeMap::new(),
        }
    }

    pub(super) fn search_path(&self) -> OsString {
        let own = || std::env::var_os("PATH");
        self.tool_path
            .clone()
            .or_else(own)
            .unwrap_or_else(|| "/usr/bin:/bin".into())
    }
}

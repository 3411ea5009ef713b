//! Building a package: unpack, run the steps confined, keep the output for whoever asks.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::package::{ChaincodeKind, Package};

use super::cache::{BuildCache, Manifest, create_private, remove_folder};
use super::config::HostConfig;
use super::plan::{CODE, OUT, Plan, Step, plan};
use super::process::{Exit, Spec, StopSignal, run};
use super::sandbox::Sandbox;
use super::toolchain::Toolchain;

/// Home and temporary files of a build.
const HOME: &str = "home";
/// Bytes of build output that are kept.
const LOG_LIMIT: u64 = 4 << 20;
/// Lines of output that go into an error.
const TAIL_LINES: usize = 20;
/// Entries that a build may leave behind.
const OUTPUT_FILES: u64 = 400_000;

/// Variables of the peer's own environment that builds need: proxies and registries.
const PASSED: [&str; 17] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "GOPROXY",
    "GOPRIVATE",
    "GONOPROXY",
    "GOSUMDB",
    "GONOSUMDB",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "MAVEN_OPTS",
];

/// Everything a build stands on.
pub(super) struct Builder<'a> {
    pub(super) config: &'a HostConfig,
    pub(super) sandbox: &'a Sandbox,
    pub(super) cache: &'a BuildCache,
    pub(super) stop: &'a Arc<StopSignal>,
}

impl Builder<'_> {
    /// Builds `package` in `folder`, which is empty. The error is for people.
    pub(super) fn build(&self, package: &Package, folder: &Path) -> Result<Manifest, String> {
        let hash = package.id().rsplit(':').next().unwrap_or_default();
        let log = BuildLog::create(&self.cache.log_path(hash))
            .map_err(|error| format!("cannot write the build log: {error}"))?;
        let outcome = self.build_logged(package, folder, &log);
        match &outcome {
            Ok(_) => log.line("build finished"),
            Err(error) => log.line(&format!("build failed: {error}")),
        }
        log.flush();
        outcome
    }

    fn build_logged(
        &self,
        package: &Package,
        folder: &Path,
        log: &BuildLog,
    ) -> Result<Manifest, String> {
        let tools = Toolchain::find(package.kind(), &self.config.search_path())?;
        log.line(&format!(
            "building {} (sandbox: {})",
            package.id(),
            self.sandbox.name()
        ));
        warn_if_memory_is_short(package.kind(), log);
        let code = folder.join(CODE);
        fs::create_dir(&code).map_err(|error| format!("cannot create a folder: {error}"))?;
        package
            .unpack_code(&code)
            .map_err(|error| error.to_string())?;
        let plan = plan(package, folder)?;
        let home = folder.join(HOME);
        for path in [&home, &folder.join(OUT)] {
            create_private(path).map_err(|error| format!("cannot create a folder: {error}"))?;
        }
        let deadline = Instant::now() + self.config.build_timeout;
        for step in &plan.steps {
            self.run_step(step, folder, &tools, deadline, log)?;
        }
        finish(&plan, folder, &home, self.config.build_output)?;
        Ok(plan.manifest)
    }

    fn run_step(
        &self,
        step: &Step,
        folder: &Path,
        tools: &Toolchain,
        deadline: Instant,
        log: &BuildLog,
    ) -> Result<(), String> {
        let shown = format!("{} {}", step.program, step.args.join(" "));
        log.line(&format!("$ {shown}"));
        let left = deadline.saturating_duration_since(Instant::now());
        let downloads = |tool: &str| {
            self.cache
                .downloads(tool)
                .map_err(|error| format!("cannot create a folder for downloads: {error}"))
        };
        let caches = [
            downloads("npm")?,
            downloads("go-build")?,
            downloads("go-mod")?,
            downloads("m2")?,
        ];
        // Not the folder itself: the manifest in it is ours to write.
        let mut writable: Vec<PathBuf> = [CODE, OUT, HOME]
            .iter()
            .map(|name| folder.join(name))
            .collect();
        writable.extend(caches.iter().cloned());
        let mut read_only = tools.roots.clone();
        read_only.extend(self.config.read_only_paths.iter().cloned());
        let spec = Spec {
            program: tools.program(step.program),
            args: step.args.iter().map(OsString::from).collect(),
            env: self.environment(step, tools, &folder.join(HOME), &caches),
            cwd: step.cwd.clone(),
            read_only,
            writable,
            limits: self.config.build_limits,
            timeout: Some(left.max(Duration::from_millis(1))),
            // Packages come from registries.
            connect_only: None,
        };
        let sink = log.clone();
        let exit = run(spec, self.sandbox, self.stop, move |line| sink.line(line))
            .map_err(|error| format!("cannot run '{shown}': {error}"))?;
        match exit {
            Exit::Code(0) => Ok(()),
            Exit::TimedOut(_) => Err(format!(
                "'{shown}' stopped: the build took longer than the limit of {} seconds",
                self.config.build_timeout.as_secs()
            )),
            Exit::Code(code) => Err(format!(
                "'{shown}' exited with {code}:\n{}",
                log.tail().join("\n")
            )),
            other => Err(format!("'{shown}' {other}\n{}", log.tail().join("\n"))),
        }
    }

    fn environment(
        &self,
        step: &Step,
        tools: &Toolchain,
        home: &Path,
        [npm, go_build, go_mod, m2]: &[PathBuf; 4],
    ) -> BTreeMap<OsString, OsString> {
        let mut env: BTreeMap<OsString, OsString> = PASSED
            .iter()
            .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
            .collect();
        let go_flags = "-buildvcs=false -trimpath";
        let maven = format!("-Dmaven.repo.local={}", m2.display());
        let fixed: [(&str, OsString); 18] = [
            ("PATH", tools.search_path()),
            ("HOME", home.into()),
            ("TMPDIR", home.into()),
            ("LANG", "C.UTF-8".into()),
            ("CI", "true".into()),
            ("npm_config_cache", npm.into()),
            ("npm_config_update_notifier", "false".into()),
            ("npm_config_fund", "false".into()),
            ("npm_config_audit", "false".into()),
            ("npm_config_yes", "true".into()),
            ("GOCACHE", go_build.into()),
            ("GOMODCACHE", go_mod.into()),
            ("GOPATH", home.join("go").into()),
            ("GOFLAGS", go_flags.into()),
            ("GOTOOLCHAIN", "local".into()),
            ("GOTELEMETRY", "off".into()),
            ("CGO_ENABLED", "0".into()),
            ("MAVEN_ARGS", maven.into()),
        ];
        env.extend(fixed.into_iter().map(|(name, value)| (name.into(), value)));
        env.extend(step.env.clone());
        let own = self.config.build_environment.iter();
        env.extend(own.map(|(name, value)| (name.into(), value.into())));
        env
    }
}

/// Checks the result and drops what only the build needed.
fn finish(plan: &Plan, folder: &Path, home: &Path, output_limit: u64) -> Result<(), String> {
    if !plan.product.is_file() {
        let missing = plan.product.strip_prefix(folder).unwrap_or(&plan.product);
        return Err(format!(
            "the build ended without an error but made no {}",
            missing.display()
        ));
    }
    let removed = plan
        .discard
        .iter()
        .chain([&home.to_owned()])
        .try_for_each(|p| remove_folder(p));
    removed.map_err(|error| format!("cannot remove temporary files: {error}"))?;
    let (mut files, mut bytes) = (0, 0);
    measure(folder, &mut files, &mut bytes)
        .map_err(|error| format!("cannot look through the build output: {error}"))?;
    if files > OUTPUT_FILES || bytes > output_limit {
        return Err(format!(
            "the build left {files} files with {} MiB; at most {OUTPUT_FILES} files and {} MiB \
             are accepted",
            bytes >> 20,
            output_limit >> 20
        ));
    }
    Ok(())
}

fn measure(folder: &Path, files: &mut u64, bytes: &mut u64) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        *files += 1;
        *bytes += metadata.len();
        if metadata.is_dir() {
            measure(&entry.path(), files, bytes)?;
        }
        if *files > OUTPUT_FILES {
            break;
        }
    }
    Ok(())
}

/// Says beforehand what a slow or failing build will be due to.
fn warn_if_memory_is_short(kind: &ChaincodeKind, log: &BuildLog) {
    let needed_mib: u64 = match kind {
        ChaincodeKind::Golang => 300,
        ChaincodeKind::Node => 400,
        ChaincodeKind::Java => 700,
        ChaincodeKind::Service | ChaincodeKind::Other(_) => return,
    };
    let Some(available) = available_memory_mib() else {
        return;
    };
    if available < needed_mib {
        let warning = format!(
            "this host has {available} MiB of free memory, a build of this type needs about \
             {needed_mib} MiB: it may be slow or fail; install one chaincode at a time"
        );
        tracing::warn!("{warning}");
        log.line(&warning);
    }
}

fn available_memory_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

struct LogState {
    file: BufWriter<File>,
    written: u64,
    tail: VecDeque<String>,
}

/// The output of a build: in a file, bounded, and its end in memory.
#[derive(Clone)]
struct BuildLog {
    state: Arc<Mutex<LogState>>,
}

impl BuildLog {
    fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        let state = LogState {
            file: BufWriter::new(file),
            written: 0,
            tail: VecDeque::new(),
        };
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
        })
    }

    fn line(&self, line: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.tail.len() == TAIL_LINES {
            state.tail.pop_front();
        }
        state.tail.push_back(line.to_owned());
        if state.written >= LOG_LIMIT {
            return;
        }
        state.written += line.len() as u64 + 1;
        let full = if state.written >= LOG_LIMIT {
            "\n(further output is not kept)"
        } else {
            ""
        };
        // A log that cannot be written must not fail the build.
        let _ = writeln!(state.file, "{line}{full}");
    }

    fn tail(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tail.iter().cloned().collect()
    }

    fn flush(&self) {
        let _ = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .file
            .flush();
    }
}

//! Nodes as child processes of this host.
//!
//! A node is started in a process group of its own with its log as output, so it goes on when the
//! manager is killed; the next manager finds it by the mark in its folder, or by its working folder
//! when the mark was not written in time, and takes it over. A node that ends is started again,
//! with growing pauses while it keeps ending.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::process::ProcessMark;
use super::{Driver, NodeSpec, Observation, health};
use crate::error::ManagerError;
use crate::files;
use crate::network::ports;

/// How long a node may take to end when asked.
const PATIENCE: Duration = Duration::from_secs(10);
/// First and longest pause before a node is started again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A node that ran this long starts again with the first pause.
const STEADY: Duration = Duration::from_secs(30);
/// Size at which a log is moved to `<log>.1`; so a node's logs stay below twice this.
const LOG_LIMIT: u64 = 32 * 1024 * 1024;
/// How often sizes are looked at.
const LOG_INTERVAL: Duration = Duration::from_secs(5);
/// Patience of a health check.
const HEALTH_LIMIT: Duration = Duration::from_secs(2);
/// How often a process that is not our child is looked at.
const ADOPTED_INTERVAL: Duration = Duration::from_millis(100);

/// Where the node programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Folders looked through, in order.
    folders: Vec<PathBuf>,
}

impl Programs {
    /// Looks in the given folders, in order.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// Path of a program, or an error that says where it was looked for.
    pub fn find(&self, program: &str) -> Result<PathBuf, ManagerError> {
        let runnable = |path: &PathBuf| {
            path.metadata()
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        self.folders
            .iter()
            .map(|f| f.join(program))
            .find(runnable)
            .ok_or_else(|| {
                let places: Vec<String> = self
                    .folders
                    .iter()
                    .map(|f| f.display().to_string())
                    .collect();
                ManagerError::Driver(format!(
                    "the program `{program}` is not in {}; build it with `make build`, or name its \
                 folder with --programs",
                    places.join(", ")
                ))
            })
    }
}

#[derive(Debug, Default)]
struct State {
    mark: Option<ProcessMark>,
    starts: u32,
    last_end: String,
}

struct Supervised {
    spec: NodeSpec,
    state: Arc<Mutex<State>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The driver.
pub(crate) struct LocalDriver {
    programs: Programs,
    nodes: Arc<Mutex<HashMap<String, Supervised>>>,
    rotation: JoinHandle<()>,
}

impl LocalDriver {
    /// Must be called inside a tokio runtime.
    /// `own_log` is bounded like the nodes' logs.
    pub(crate) fn new(programs: Programs, own_log: PathBuf) -> Self {
        let nodes: Arc<Mutex<HashMap<String, Supervised>>> = Arc::default();
        let rotation = tokio::spawn(rotate_logs(Arc::clone(&nodes), own_log));
        Self {
            programs,
            nodes,
            rotation,
        }
    }

    fn start(&self, spec: NodeSpec) -> Result<(), ManagerError> {
        let program = self.programs.find(spec.program)?;
        if self.nodes.lock().contains_key(&spec.id) {
            return Ok(());
        }
        if running(&spec, &program).is_none() {
            for port in &spec.ports {
                if !ports::is_free(&spec.listen.to_string(), *port) {
                    return Err(ManagerError::Driver(format!(
                        "port {port} of {} is taken by another program; stop that program",
                        spec.name
                    )));
                }
            }
        }
        let state = Arc::new(Mutex::new(State::default()));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(supervise(
            spec.clone(),
            program,
            Arc::clone(&state),
            stopped,
        ));
        self.nodes.lock().insert(
            spec.id.clone(),
            Supervised {
                spec,
                state,
                stop,
                task,
            },
        );
        Ok(())
    }
}

impl Drop for LocalDriver {
    fn drop(&mut self) {
        self.rotation.abort();
    }
}

impl Driver for LocalDriver {
    fn apply(&self, spec: NodeSpec) -> BoxFuture<'_, Result<(), ManagerError>> {
        Box::pin(async move {
            let other = self
                .nodes
                .lock()
                .get(&spec.id)
                .is_some_and(|n| n.spec != spec);
            if other {
                self.remove(&spec).await?;
            }
            self.start(spec)
        })
    }

    fn remove<'a>(&'a self, spec: &'a NodeSpec) -> BoxFuture<'a, Result<(), ManagerError>> {
        Box::pin(async move {
            let node = self.nodes.lock().remove(&spec.id);
            if let Some(node) = node {
                end(node).await;
            } else if let Some(mark) = self
                .programs
                .find(spec.program)
                .ok()
                .and_then(|p| running(spec, &p))
            {
                mark.stop(PATIENCE).await;
            }
            Ok(())
        })
    }

    fn observe<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Observation>> {
        Box::pin(async move {
            let (spec, state) = {
                let nodes = self.nodes.lock();
                let node = nodes.get(id)?;
                (node.spec.clone(), Arc::clone(&node.state))
            };
            let checked = health::check(spec.health, HEALTH_LIMIT).await;
            let state = state.lock();
            // An answer from a stranger on the port says nothing about a node that does not run.
            let pid = state.mark.as_ref().filter(|m| m.is_alive()).map(|m| m.pid);
            let detail = match (&checked, pid) {
                (Ok(()), Some(_)) => String::new(),
                (Err(reason), Some(_)) if state.last_end.is_empty() => reason.clone(),
                (Err(reason), Some(_)) => format!("{reason}; before: {}", state.last_end),
                (_, None) if state.last_end.is_empty() => "not started yet".to_owned(),
                (_, None) => state.last_end.clone(),
            };
            Some(Observation {
                healthy: checked.is_ok() && pid.is_some(),
                pid,
                restarts: state.starts.saturating_sub(1),
                detail,
            })
        })
    }

    fn stop_all(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let nodes: Vec<Supervised> = self.nodes.lock().drain().map(|(_, node)| node).collect();
            futures::future::join_all(nodes.into_iter().map(end)).await;
        })
    }
}

async fn end(node: Supervised) {
    let _ = node.stop.send(true);
    if let Err(error) = node.task.await {
        tracing::warn!(node = node.spec.name, %error, "the supervisor of a node failed");
    }
}

fn mark_path(spec: &NodeSpec) -> PathBuf {
    spec.dir.join("process.json")
}

fn log_path(spec: &NodeSpec) -> PathBuf {
    spec.log()
}

/// The node's process if one runs already.
fn running(spec: &NodeSpec, program: &Path) -> Option<ProcessMark> {
    ProcessMark::load_alive(&mark_path(spec)).or_else(|| find_by_folder(&spec.dir, program))
}

/// Stops the process that runs in a node's folder, whoever started it. For a manager that is gone.
pub(crate) async fn stop_in_folder(dir: &Path) {
    if let Some(mark) = ProcessMark::load_alive(&dir.join("process.json")) {
        mark.stop(PATIENCE).await;
    }
}

/// A process of the program whose working folder is the node's: it was started by a manager that
/// was killed before it could keep the mark.
fn find_by_folder(dir: &Path, program: &Path) -> Option<ProcessMark> {
    let dir = dir.canonicalize().ok()?;
    let program = program.canonicalize().ok()?;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<i32>().ok())
        else {
            continue;
        };
        let link = |name: &str| std::fs::read_link(entry.path().join(name)).ok();
        if link("cwd").as_ref() == Some(&dir) && link("exe").as_ref() == Some(&program) {
            return ProcessMark::of(pid);
        }
    }
    None
}

async fn supervise(
    spec: NodeSpec,
    program: PathBuf,
    state: Arc<Mutex<State>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut pause = PAUSES.0;
    loop {
        let began = Instant::now();
        let reason = match begin(&spec, &program) {
            Ok((mark, child)) => {
                {
                    let mut state = state.lock();
                    state.mark = Some(mark.clone());
                    state.starts += 1;
                }
                let ended = tokio::select! {
                    status = wait(&mark, child) => Some(status),
                    _ = stopped.wait_for(|s| *s) => None,
                };
                let Some(status) = ended else {
                    mark.stop(PATIENCE).await;
                    state.lock().mark = None;
                    return;
                };
                format!(
                    "{} ended ({status}): {}",
                    spec.name,
                    log_tail(&log_path(&spec))
                )
            }
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            node = spec.name,
            reason,
            "a node ended and will be started again"
        );
        {
            let mut state = state.lock();
            state.mark = None;
            state.last_end = reason;
        }
        if began.elapsed() >= STEADY {
            pause = PAUSES.0;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped.wait_for(|s| *s) => return,
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Takes over the running process or starts one.
fn begin(spec: &NodeSpec, program: &Path) -> Result<(ProcessMark, Option<Child>), ManagerError> {
    if let Some(mark) = running(spec, program) {
        tracing::info!(node = spec.name, pid = mark.pid, "took over a running node");
        mark.save(&mark_path(spec))?;
        return Ok((mark, None));
    }
    let log = open_log(&log_path(spec))?;
    let second = log
        .try_clone()
        .map_err(|e| ManagerError::file("share the log", log_path(spec), e))?;
    let mut command = Command::new(program);
    command
        .args(&spec.args)
        .current_dir(&spec.dir)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(second)
        .process_group(0);
    // Settings in the manager's own environment must not change what its nodes read.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CORE_", "ORDERER_", "FABRIC_"]
            .iter()
            .any(|p| text.starts_with(p))
        {
            command.env_remove(&name);
        }
    }
    command.env("FABRIC_CFG_PATH", &spec.dir);
    let child = command
        .spawn()
        .map_err(|e| ManagerError::file("start", program, e))?;
    let mark = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(ProcessMark::of)
        .ok_or_else(|| {
            ManagerError::Driver(format!(
                "{} ended at once: {}",
                spec.name,
                log_tail(&log_path(spec))
            ))
        })?;
    mark.save(&mark_path(spec))?;
    Ok((mark, Some(child)))
}

async fn wait(mark: &ProcessMark, child: Option<Child>) -> String {
    match child {
        Some(mut child) => match child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        },
        None => {
            while mark.is_alive() {
                tokio::time::sleep(ADOPTED_INTERVAL).await;
            }
            "its exit status is not known".to_owned()
        }
    }
}

fn open_log(path: &Path) -> Result<File, ManagerError> {
    if let Some(folder) = path.parent() {
        files::make_dir(folder)?;
    }
    // Appending, so that the file may be cut while the node writes.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| ManagerError::file("open the log", path, e))
}

/// The last lines of a log, for messages.
fn log_tail(path: &Path) -> String {
    let lines = files::tail(path, 2048);
    let last = lines[lines.len().saturating_sub(2)..].join(" | ");
    if last.is_empty() {
        format!("nothing in {}", path.display())
    } else {
        last.chars().take(800).collect()
    }
}

async fn rotate_logs(nodes: Arc<Mutex<HashMap<String, Supervised>>>, own_log: PathBuf) {
    loop {
        tokio::time::sleep(LOG_INTERVAL).await;
        let mut logs: Vec<PathBuf> = nodes.lock().values().map(|n| log_path(&n.spec)).collect();
        logs.push(own_log.clone());
        let turned = tokio::task::spawn_blocking(move || {
            for log in logs {
                if let Err(error) = rotate(&log, LOG_LIMIT) {
                    tracing::warn!(log = %log.display(), %error, "cannot bound the log");
                }
            }
        });
        let _ = turned.await;
    }
}

/// Copies a log that is too long to `<log>.1` and empties it. The node appends and never notices.
fn rotate(log: &Path, limit: u64) -> std::io::Result<()> {
    match std::fs::metadata(log) {
        Ok(meta) if meta.len() > limit => {}
        _ => return Ok(()),
    }
    let mut old = log.as_os_str().to_owned();
    old.push(".1");
    std::fs::copy(log, &old)?;
    OpenOptions::new().write(true).open(log)?.set_len(0)
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;

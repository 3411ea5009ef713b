//! One confined process, watched from its start to its end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, PipeReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::limits::{self, ProcessLimits};
use super::output;
use super::sandbox::Sandbox;
use super::tree;

/// How often memory and number of processes are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// How long output may still come after the end of the process.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);
const STACK: usize = 128 * 1024;

/// A process to run.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    /// The whole environment.
    pub(super) env: BTreeMap<OsString, OsString>,
    pub(super) cwd: PathBuf,
    /// Seen besides the system's programs.
    pub(super) read_only: Vec<PathBuf>,
    pub(super) writable: Vec<PathBuf>,
    pub(super) limits: ProcessLimits,
    pub(super) timeout: Option<Duration>,
    /// The one TCP port it may connect to; `None`: any.
    pub(super) connect_only: Option<u16>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(i32),
    TimedOut(Duration),
    Memory {
        used: u64,
        limit: u64,
    },
    Processes {
        count: usize,
        limit: usize,
    },
    Stopped,
    /// The watcher could not follow it.
    Lost(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: &u64| bytes >> 20;
        match self {
            // So shells and bubblewrap tell of a signal.
            Self::Code(code @ 129..=192) => write!(
                f,
                "container exited with {code}, which tells of signal {}",
                code - 128
            ),
            Self::Code(code) => write!(f, "container exited with {code}"),
            Self::Signal(signal) => write!(f, "container exited by signal {signal}"),
            Self::TimedOut(limit) => {
                write!(
                    f,
                    "stopped: it took longer than the limit of {} seconds",
                    limit.as_secs()
                )
            }
            Self::Memory { used, limit } => write!(
                f,
                "stopped: it used {} MiB of memory, more than the limit of {} MiB",
                mib(used),
                mib(limit)
            ),
            Self::Processes { count, limit } => {
                write!(
                    f,
                    "stopped: it ran {count} processes, more than the limit of {limit}"
                )
            }
            Self::Stopped => write!(f, "stopped by the peer"),
            Self::Lost(reason) => write!(f, "lost: {reason}"),
        }
    }
}

/// Asks the watcher to end its process.
#[derive(Debug, Default)]
pub(super) struct StopSignal {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl StopSignal {
    pub(super) fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits up to `limit` and tells whether the stop was asked for.
    fn wait(&self, limit: Duration) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if *asked {
            return true;
        }
        *self
            .changed
            .wait_timeout(asked, limit)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

/// Starts a process and returns once it runs. `on_line` gets its output on a thread of its own;
/// `on_exit` is called last, when output has ended too.
pub(super) fn start(
    spec: Spec,
    sandbox: &Sandbox,
    stop: Arc<StopSignal>,
    on_line: impl FnMut(&str) + Send + 'static,
    on_exit: impl FnOnce(Exit) + Send + 'static,
) -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    let mut command = sandbox.command(&spec);
    command
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    limits::apply(&mut command, &spec.limits);
    // The reader comes before the starter, because threads begin with the confinement of the
    // thread that makes them.
    let on_line = output::explained(spec.limits.open_files, on_line);
    let drained = read_output(reader, on_line)?;
    let (mut child, ended) = spawn(command, &spec, sandbox)?;
    let watching = thread::Builder::new()
        .name("cc-watch".to_owned())
        .stack_size(STACK);
    watching.spawn(move || {
        let exit = watch(&mut child, &spec, &stop);
        drop(ended);
        let _ = drained.recv_timeout(OUTPUT_GRACE);
        on_exit(exit);
    })?;
    Ok(())
}

/// Starts the program from a thread of its own, which takes on the confinement. A process dies
/// with the thread that started it, so this one stays until the returned sender is dropped.
fn spawn(
    mut command: Command,
    spec: &Spec,
    sandbox: &Sandbox,
) -> io::Result<(Child, mpsc::SyncSender<()>)> {
    let (started, start_result) = mpsc::sync_channel(1);
    let (ended, end) = mpsc::sync_channel(1);
    let (spec, sandbox) = (spec.clone(), sandbox.clone());
    let starter = thread::Builder::new()
        .name("cc-start".to_owned())
        .stack_size(STACK);
    starter.spawn(move || {
        let spawned = sandbox
            .enter(&spec)
            .map_err(io::Error::other)
            .and_then(|()| command.spawn());
        // Only the child may hold the writing end of its output, or it would have no end.
        drop(command);
        if started.send(spawned).is_ok() {
            let _ = end.recv();
        }
    })?;
    let spawned = start_result.recv();
    let child = spawned.unwrap_or_else(|_| Err(io::Error::other("the starter has ended")))?;
    Ok((child, ended))
}

/// Runs a process to its end.
pub(super) fn run(
    spec: Spec,
    sandbox: &Sandbox,
    stop: &Arc<StopSignal>,
    on_line: impl FnMut(&str) + Send + 'static,
) -> io::Result<Exit> {
    let (ended, exit) = mpsc::sync_channel(1);
    start(spec, sandbox, stop.clone(), on_line, move |exit| {
        let _ = ended.send(exit);
    })?;
    exit.recv()
        .map_err(|_| io::Error::other("the watcher has ended"))
}

fn read_output(
    reader: PipeReader,
    on_line: impl FnMut(&str) + Send + 'static,
) -> io::Result<mpsc::Receiver<()>> {
    let (done, drained) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("cc-output".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            output::lines(reader, on_line);
            let _ = done.send(());
        })?;
    Ok(drained)
}

fn watch(child: &mut Child, spec: &Spec, stop: &StopSignal) -> Exit {
    let begun = Instant::now();
    // Short steps are noticed soon, long ones cost little.
    let mut pause = Duration::from_millis(5);
    let mut looked = begun;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                tree::kill_tree(child.id());
                return exit_of(status);
            }
            Ok(None) => {}
            Err(error) => return end(child, Exit::Lost(error.to_string())),
        }
        if let Some(limit) = spec.timeout.filter(|limit| begun.elapsed() >= *limit) {
            return end(child, Exit::TimedOut(limit));
        }
        if looked.elapsed() >= WATCH_INTERVAL {
            looked = Instant::now();
            if let Some(exit) = over_limit(child.id(), &spec.limits) {
                return end(child, exit);
            }
        }
        if stop.wait(pause) {
            return end(child, Exit::Stopped);
        }
        pause = (pause * 2).min(WATCH_INTERVAL);
    }
}

fn over_limit(root: u32, limits: &ProcessLimits) -> Option<Exit> {
    let usage = tree::usage(root);
    if usage.resident > limits.memory {
        return Some(Exit::Memory {
            used: usage.resident,
            limit: limits.memory,
        });
    }
    (usage.processes > limits.processes).then_some(Exit::Processes {
        count: usage.processes,
        limit: limits.processes,
    })
}

fn end(child: &mut Child, exit: Exit) -> Exit {
    tree::kill_tree(child.id());
    match child.wait() {
        Ok(_) => exit,
        Err(error) => Exit::Lost(error.to_string()),
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Lost(status.to_string()),
    }
}

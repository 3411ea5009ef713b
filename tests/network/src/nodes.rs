//! The processes of a network, found in `/proc` by the data folder that they name.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Service;

/// How long the system may take to end a killed process.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a network may take to serve again.
const LONGEST: Duration = Duration::from_secs(120);

/// A running peer or orderer, or the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `peer`, `orderer` or `selvage`.
    pub kind: String,
    /// The name of its folder, such as `orderer-<hash>-0`.
    pub name: String,
    /// Process id.
    pub pid: i32,
}

impl Node {
    /// `kill -9`.
    ///
    /// # Panics
    /// When the process is gone already.
    pub fn kill(&self) {
        kill_9(self.pid);
    }

    /// Lets the process hang until it is thawed: its connections stay open, and nobody answers.
    ///
    /// # Panics
    /// When the process is gone already.
    pub fn freeze(&self) {
        freeze(self.pid);
    }

    /// Lets a frozen process go on.
    ///
    /// # Panics
    /// When the process is gone already.
    pub fn thaw(&self) {
        kill(Pid::from_raw(self.pid), Signal::SIGCONT).unwrap();
    }
}

/// The peers and orderers whose working folder, command line or environment names `folder`.
pub fn nodes_of(folder: &Path) -> Vec<Node> {
    programs_of(folder, &["peer", "orderer"])
}

/// As [`nodes_of`], with the service and the commands that speak to it.
pub fn all_of(folder: &Path) -> Vec<Node> {
    programs_of(folder, &["peer", "orderer", "selvage"])
}

fn programs_of(folder: &Path, kinds: &[&str]) -> Vec<Node> {
    let wanted = folder.to_string_lossy().into_owned();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut nodes: Vec<Node> = entries
        .flatten()
        .filter_map(|entry| node(&entry.path(), &wanted, kinds))
        .collect();
    nodes.sort_by(|a, b| (&a.kind, &a.name, a.pid).cmp(&(&b.kind, &b.name, b.pid)));
    nodes
}

/// The orderer that leads the cluster, if it runs: the one that most of them logged last.
pub fn leader_of(service: &Service) -> Option<Node> {
    let orderers = nodes_of(service.folder()).into_iter();
    let orderers: Vec<_> = orderers.filter(|n| n.kind == "orderer").collect();
    let mut heard: BTreeMap<u64, usize> = BTreeMap::new();
    for folder in std::fs::read_dir(service.instance().join("nodes"))
        .ok()?
        .flatten()
    {
        let name = folder.file_name().to_string_lossy().into_owned();
        let log = folder.path().join("log").join(format!("{name}.log"));
        let log = std::fs::read_to_string(log).unwrap_or_default();
        if let Some(leader) = log.lines().rev().find_map(new_leader) {
            *heard.entry(leader).or_default() += 1;
        }
    }
    let (leader, _) = heard.into_iter().max_by_key(|(_, times)| *times)?;
    // Consenters are numbered from 1 in the order of their folders.
    let end = format!("-{}", leader.checked_sub(1)?);
    orderers.into_iter().find(|n| n.name.ends_with(&end))
}

/// The consenter in a line like `Raft leader changed: 0 -> 2` or `Changing leader: 1 -> 2`.
fn new_leader(line: &str) -> Option<u64> {
    let (_, rest) = line
        .split_once("leader changed: ")
        .or_else(|| line.split_once("Changing leader: "))?;
    let (_, new) = rest.split_once(" -> ")?;
    let digits = new.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|leader| *leader > 0)
}

/// Waits until something has come about, looking again and again.
///
/// # Panics
/// When it does not; the patience is generous, because the machine may be loaded.
pub async fn wait_for<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < LONGEST, "gave up waiting for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The innermost processes that run chaincode for these nodes, whatever confines them.
pub fn chaincodes_of(nodes: &[Node]) -> Vec<i32> {
    let parents = parents();
    let is_leaf = |pid: i32| !parents.values().any(|parent| *parent == pid);
    let runs_chaincode = |pid: i32| {
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|text| String::from_utf8_lossy(&text).contains("CORE_CHAINCODE_ID_NAME="))
    };
    let pids = parents.keys().copied();
    pids.filter(|pid| child_of_peer(&parents, nodes, *pid).is_some())
        .filter(|pid| is_leaf(*pid) && runs_chaincode(*pid))
        .collect()
}

/// The processes between a peer and its chaincode, those next to the peer; none where chaincode is
/// the peer's own child.
pub fn confiners_of(nodes: &[Node]) -> Vec<i32> {
    let parents = parents();
    let chaincodes = chaincodes_of(nodes).into_iter();
    let outermost = chaincodes.filter_map(|pid| {
        let child = child_of_peer(&parents, nodes, pid)?;
        (child != pid).then_some(child)
    });
    outermost.collect()
}

/// Every process's parent.
fn parents() -> BTreeMap<i32, i32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name in parentheses may hold anything, so fields are counted from its end.
            let parent = stat
                .rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()?;
            Some((pid, parent))
        })
        .collect()
}

/// The child of a peer that a process is or descends from.
fn child_of_peer(parents: &BTreeMap<i32, i32>, nodes: &[Node], pid: i32) -> Option<i32> {
    let is_peer = |pid: i32| nodes.iter().any(|n| n.pid == pid && n.kind == "peer");
    let mut line = std::iter::successors(Some(pid), |p| parents.get(p).copied());
    line.find(|p| parents.get(p).is_some_and(|parent| is_peer(*parent)))
}

/// Lets any process hang; `kill -9` ends it all the same.
///
/// # Panics
/// When it is gone already.
pub fn freeze(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
}

/// `kill -9` of any process; returns when the system has taken it down.
///
/// # Panics
/// When it is gone already, or does not go.
pub fn kill_9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let started = Instant::now();
    while is_alive(pid) {
        assert!(started.elapsed() < PATIENCE, "{pid} does not go");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs. A zombie is dead, though nobody has asked for its status.
pub fn is_alive(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.trim_start().as_bytes().first());
    !matches!(state, Some(Some(b'Z' | b'X')))
}

fn node(process: &Path, wanted: &str, kinds: &[&str]) -> Option<Node> {
    let pid = process.file_name()?.to_str()?.parse().ok()?;
    let program = std::fs::read_link(process.join("exe")).ok()?;
    let kind = program
        .file_name()?
        .to_str()?
        .trim_end_matches(" (deleted)")
        .to_owned();
    if !kinds.contains(&kind.as_str()) {
        return None;
    }
    let names = ["cmdline", "environ"]
        .iter()
        .filter_map(|file| std::fs::read(process.join(file)).ok())
        .any(|text| String::from_utf8_lossy(&text).contains(wanted));
    let works_in = std::fs::read_link(process.join("cwd")).unwrap_or_default();
    let name = works_in.file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let ours = names || works_in.to_string_lossy().starts_with(wanted);
    ours.then_some(Node { kind, name, pid })
}

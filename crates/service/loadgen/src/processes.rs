//! Processor time of the network's processes, read from `/proc`.
//!
//! A node is found by the port it listens on. Its own time is counted under its name; the time of
//! its descendants (its chaincode), living and ended, under the name with ` children`. The kernel
//! adds a child's time to its parent's when the child is waited for, so nothing is lost when
//! one ends during the run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

/// Clock ticks per second in `/proc/*/stat`; Linux fixes it at 100 for user space.
const TICKS_PER_SECOND: u64 = 100;
const LISTENING: &str = "0A";

/// Ticks by name.
pub(crate) type Times = BTreeMap<String, u64>;

/// Whom to watch.
pub(crate) struct Watched {
    roots: BTreeMap<u32, String>,
}

impl Watched {
    /// The processes of this machine that listen on one of `ports`, this process as `load`, and
    /// those that the caller names.
    pub(crate) fn find(ports: &BTreeSet<u16>, named: &[(String, u32)]) -> Self {
        let mut roots: BTreeMap<u32, String> = BTreeMap::new();
        for (pid, port) in listeners(ports) {
            let name = stat(pid).map_or_else(|| "node".into(), |s| s.name);
            roots.entry(pid).or_insert_with(|| format!("{name}:{port}"));
        }
        roots.insert(std::process::id(), "load".into());
        roots.extend(named.iter().map(|(name, pid)| (*pid, name.clone())));
        Self { roots }
    }

    /// Names of the processes that were found.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.roots.values().map(String::as_str).collect()
    }

    /// The time each has used so far.
    pub(crate) fn times(&self) -> Times {
        let all = all_stats();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for (pid, stat) in &all {
            children.entry(stat.parent).or_default().push(*pid);
        }
        let mut times = Times::new();
        for (root, name) in &self.roots {
            let Some(own) = all.get(root) else { continue };
            *times.entry(name.clone()).or_default() += own.own;
            let mut below = own.waited_for;
            let mut next = children.get(root).cloned().unwrap_or_default();
            while let Some(pid) = next.pop() {
                if self.roots.contains_key(&pid) {
                    continue; // counted under its own name
                }
                if let Some(stat) = all.get(&pid) {
                    below += stat.own + stat.waited_for;
                }
                next.extend(children.get(&pid).into_iter().flatten());
            }
            *times.entry(format!("{name} children")).or_default() += below;
        }
        times
    }
}

/// Microseconds used between two readings, without the entries that used none.
pub(crate) fn used_us(before: &Times, after: &Times) -> BTreeMap<String, u64> {
    after
        .iter()
        .map(|(name, ticks)| {
            let used = ticks.saturating_sub(before.get(name).copied().unwrap_or(0));
            (name.clone(), used * 1_000_000 / TICKS_PER_SECOND)
        })
        .filter(|(_, us)| *us > 0)
        .collect()
}

struct Stat {
    name: String,
    parent: u32,
    own: u64,
    waited_for: u64,
}

fn all_stats() -> HashMap<u32, Stat> {
    pids()
        .into_iter()
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect()
}

fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect()
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (name) state ppid … utime stime cutime cstime …`; the name may hold blanks and brackets.
fn parse_stat(text: &str) -> Option<Stat> {
    let (head, tail) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        name,
        parent: u32::try_from(number(1)?).ok()?,
        own: number(11)? + number(12)?,
        waited_for: number(13)? + number(14)?,
    })
}

fn listeners(ports: &BTreeSet<u16>) -> Vec<(u32, u16)> {
    let mut inodes = HashMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        inodes.extend(
            text.lines()
                .skip(1)
                .filter_map(listening)
                .filter(|l| ports.contains(&l.1)),
        );
    }
    let mut found = Vec::new();
    for pid in pids() {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for file in files.flatten() {
            let Ok(target) = fs::read_link(file.path()) else {
                continue;
            };
            let target = target.to_string_lossy();
            let inode = target
                .strip_prefix("socket:[")
                .and_then(|t| t.strip_suffix(']'));
            if let Some(port) = inode.and_then(|i| inodes.get(i)) {
                found.push((pid, *port));
            }
        }
    }
    found
}

/// Inode and port of a line of `/proc/net/tcp` that is a listening socket.
fn listening(line: &str) -> Option<(String, u16)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != LISTENING {
        return None;
    }
    let port = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
    Some(((*fields.get(9)?).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_brackets_in_the_name() {
        let line = "12 (a (b) c) S 7 12 12 0 -1 4194304 1 2 3 4 100 20 30 4 20 0 1 0 55 6 7";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent), ("a (b) c", 7));
        assert_eq!((stat.own, stat.waited_for), (120, 34));
        assert!(parse_stat("nonsense").is_none());
    }

    #[test]
    fn a_listening_socket_of_this_process_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let watched = Watched::find(&BTreeSet::from([port]), &[]);
        assert_eq!(
            watched.names(),
            ["load"],
            "this process listens and is the load"
        );
    }

    #[test]
    fn work_and_the_work_of_children_count() {
        let watched = Watched::find(&BTreeSet::new(), &[]);
        let before = watched.times();
        let script = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done";
        assert!(
            std::process::Command::new("sh")
                .args(["-c", script])
                .status()
                .unwrap()
                .success()
        );
        let used = used_us(&before, &watched.times());
        assert!(used.contains_key("load children"), "{used:?}");
    }
}

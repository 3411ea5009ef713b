//! Processor time of the network's processes, read from `/proc`.
//!
//! A node is found by the port it listens on. Its own time is counted under its name; the time of
//! its descendants (its chaincode), living and ended, under the name with ` children`. The kernel
//! adds a child's time to its parent's when the child is waited for, so nothing is lost when
//! one ends during the run.
//!
//! A node that ends has no parent here that would count it: it is looked at again and again during
//! a run, and what was read last is kept. Whoever listens on its port after it counts too, under
//! the same name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Clock ticks per second in `/proc/*/stat`; Linux fixes it at 100 for user space.
const TICKS_PER_SECOND: u64 = 100;
const LISTENING: &str = "0A";
/// How often nodes are looked at during a run: what one that ends used since is not seen. A look
/// reads one small file of every process, which must not weigh on what is measured.
const LOOK: Duration = Duration::from_millis(250);

/// Whom to watch, and what they have used.
pub(crate) struct Watched {
    roots: Vec<Root>,
    /// When the run began, in ticks since the system started.
    began: u64,
}

/// A process that is counted under a name of its own.
#[derive(Debug)]
struct Root {
    name: String,
    pid: u32,
    parent: u32,
    /// In ticks since the system started; with the id, it tells processes apart.
    started: u64,
    /// Where it listens, if that is how it was found.
    port: Option<u16>,
    before: Used,
    now: Used,
    ended: bool,
}

/// Ticks of a process and what is below it.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    own: u64,
    /// Of descendants that ended and were waited for.
    waited_for: u64,
    /// Of descendants that live.
    living: u64,
}

impl Used {
    fn below(self) -> u64 {
        self.waited_for + self.living
    }
}

impl Watched {
    /// The processes of this machine that listen on one of `ports`, this process as `load`, and
    /// those that the caller names.
    pub(crate) fn find(ports: &BTreeSet<u16>, named: &[(String, u32)]) -> Self {
        let all = all_stats();
        let mut watched = Self {
            roots: Vec::new(),
            began: uptime(),
        };
        let named = named.iter().map(|(name, pid)| (name.as_str(), *pid));
        for (name, pid) in named.chain([("load", std::process::id())]) {
            if let Some(stat) = all.get(&pid) {
                watched.add(name.to_owned(), pid, stat, None);
            }
        }
        watched.add_listeners(ports, &all);
        watched.read(&all);
        for root in &mut watched.roots {
            root.before = root.now;
        }
        watched
    }

    /// Names of the processes that were found.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.roots.iter().map(|root| root.name.as_str()).collect()
    }

    /// Counts from now on, until it is told to [stop](Watch::stop).
    pub(crate) fn watch(mut self) -> Watch {
        let (stop, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            while told.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                self.look();
            }
            self.look();
            self.used_us()
        });
        Watch { stop, thread }
    }

    fn add(&mut self, name: String, pid: u32, stat: &Stat, port: Option<u16>) {
        let known = |root: &Root| root.pid == pid && root.started == stat.started;
        if !self.roots.iter().any(known) {
            self.roots.push(Root {
                name,
                pid,
                parent: stat.parent,
                started: stat.started,
                port,
                before: Used::default(),
                now: Used::default(),
                ended: false,
            });
        }
    }

    fn add_listeners(&mut self, ports: &BTreeSet<u16>, all: &HashMap<u32, Stat>) {
        for (pid, port) in listeners(ports) {
            if let Some(stat) = all.get(&pid) {
                self.add(format!("{}:{port}", stat.name), pid, stat, Some(port));
            }
        }
    }

    /// Reads what each has used, and finds who took the place of those that ended.
    fn look(&mut self) {
        let all = all_stats();
        self.read(&all);
        let ports = |ended| {
            let roots = self.roots.iter().filter(move |root| root.ended == ended);
            roots
                .filter_map(|root| root.port)
                .collect::<BTreeSet<u16>>()
        };
        let missing = &ports(true) - &ports(false);
        let known = self.roots.len();
        self.add_listeners(&missing, &all);
        if self.roots.len() == known {
            return;
        }
        self.read(&all);
        let began = self.began;
        for root in self.roots.iter_mut().skip(known) {
            // One that was there already, and only listens since, did not work for this run before.
            if root.started < began {
                root.before = root.now;
            }
        }
    }

    fn read(&mut self, all: &HashMap<u32, Stat>) {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for (pid, stat) in all {
            children.entry(stat.parent).or_default().push(*pid);
        }
        let roots = self.roots.iter().filter(|root| !root.ended);
        let of_their_own: BTreeSet<u32> = roots.map(|root| root.pid).collect();
        for root in &mut self.roots {
            let found = all.get(&root.pid);
            let Some(own) = found.filter(|s| s.started == root.started && !root.ended) else {
                root.ended = true;
                continue;
            };
            // A zombie's numbers are its last ones.
            root.ended = own.is_dead;
            let mut living = 0;
            let mut next = children.get(&root.pid).cloned().unwrap_or_default();
            while let Some(pid) = next.pop() {
                if of_their_own.contains(&pid) {
                    continue; // counted under its own name
                }
                if let Some(stat) = all.get(&pid) {
                    living += stat.own + stat.waited_for;
                }
                next.extend(children.get(&pid).into_iter().flatten());
            }
            root.now = Used {
                own: own.own,
                waited_for: own.waited_for,
                // The children of one that was killed are somebody else's by now.
                living: if own.is_dead { root.now.living } else { living },
            };
        }
    }

    /// Microseconds used so far, by name, without those that used none.
    fn used_us(&self) -> BTreeMap<String, u64> {
        let mut ticks: BTreeMap<String, u64> = BTreeMap::new();
        for root in &self.roots {
            let own = root.now.own.saturating_sub(root.before.own);
            *ticks.entry(root.name.clone()).or_default() += own;
            // One that ended has become part of what its parent waited for, with its whole life.
            let counted = self
                .roots
                .iter()
                .filter(|r| r.ended && r.parent == root.pid);
            let counted: u64 = counted.map(|r| r.now.own + r.now.waited_for).sum();
            let below = root
                .now
                .below()
                .saturating_sub(root.before.below() + counted);
            *ticks.entry(format!("{} children", root.name)).or_default() += below;
        }
        ticks.retain(|_, ticks| *ticks > 0);
        for ticks in ticks.values_mut() {
            *ticks = *ticks * 1_000_000 / TICKS_PER_SECOND;
        }
        ticks
    }
}

/// Counting under way.
pub(crate) struct Watch {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<BTreeMap<String, u64>>,
}

impl Watch {
    /// Ends the counting: microseconds used since it began, by name, without those that used none.
    pub(crate) fn stop(self) -> BTreeMap<String, u64> {
        // It listens until it is told.
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_default()
    }
}

struct Stat {
    name: String,
    parent: u32,
    /// In ticks since the system started.
    started: u64,
    own: u64,
    waited_for: u64,
    /// It has ended, and its parent has not asked for its status.
    is_dead: bool,
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

/// `pid (name) state ppid … utime stime cutime cstime … starttime …`; the name may hold blanks and
/// brackets.
fn parse_stat(text: &str) -> Option<Stat> {
    let (head, tail) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        name,
        parent: u32::try_from(number(1)?).ok()?,
        started: number(19)?,
        own: number(11)? + number(12)?,
        waited_for: number(13)? + number(14)?,
        is_dead: matches!(fields.first(), Some(&("Z" | "X"))),
    })
}

/// Ticks since the system started.
fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split_whitespace().next().and_then(|s| s.parse().ok());
    (seconds.unwrap_or(0.0_f64) * TICKS_PER_SECOND as f64) as u64
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
    if inodes.is_empty() {
        return found; // looking through the files of every process takes a while
    }
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
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::process::{Child, ChildStdout, Command, Stdio};

    use super::*;

    #[test]
    fn stat_lines_with_brackets_in_the_name() {
        let line = "12 (a (b) c) S 7 12 12 0 -1 4194304 1 2 3 4 100 20 30 4 20 0 1 0 55 6 7";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent), ("a (b) c", 7));
        assert_eq!((stat.own, stat.waited_for), (120, 34));
        assert_eq!((stat.started, stat.is_dead), (55, false));
        assert!(parse_stat(&line.replace(" S ", " Z ")).unwrap().is_dead);
        assert!(parse_stat("nonsense").is_none());
    }

    #[test]
    fn a_listening_socket_of_this_process_is_found() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
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
        let watch = Watched::find(&BTreeSet::new(), &[]).watch();
        let script = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done";
        assert!(
            Command::new("sh")
                .args(["-c", script])
                .status()
                .unwrap()
                .success()
        );
        let used = watch.stop();
        assert!(used.contains_key("load children"), "{used:?}");
    }

    /// In the environment of a process that is a node of a test: the port it listens on.
    const PORT: &str = "SELVAGE_TEST_NODE";

    /// No test but a node of the next one, which starts this program again. Each line it reads is a
    /// number of ticks: it works until it has used so many, and says so.
    #[test]
    fn a_node() {
        let Ok(port) = std::env::var(PORT) else {
            return;
        };
        let _socket = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
        for ticks in std::io::stdin().lines() {
            let ticks: u64 = ticks.unwrap().parse().unwrap();
            while stat(std::process::id()).unwrap().own < ticks {
                std::hint::black_box((0..100_000_u64).sum::<u64>());
            }
            println!("\nworked");
        }
    }

    struct Node {
        process: Child,
        said: BufReader<ChildStdout>,
    }

    impl Node {
        fn start(port: u16) -> Self {
            let mut process = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "processes::tests::a_node", "--nocapture"])
                .env(PORT, port.to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let said = BufReader::new(process.stdout.take().unwrap());
            Self { process, said }
        }

        fn work(&mut self, ticks: u64) {
            writeln!(self.process.stdin.as_ref().unwrap(), "{ticks}").unwrap();
            let mut lines = self.said.by_ref().lines();
            assert!(lines.any(|line| line.unwrap() == "worked"), "it ended");
        }
    }

    #[test]
    fn nodes_that_end_and_those_that_take_their_place_count() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        drop(socket);
        let mut first = Node::start(port);
        first.work(5);
        let mut watched = Watched::find(&BTreeSet::from([port]), &[]);
        let root = watched.roots.last().unwrap();
        assert_eq!(root.port, Some(port), "{:?}", watched.roots);
        let (name, before) = (root.name.clone(), root.before.own);
        assert!(before >= 5, "{root:?}");
        first.work(before + 20);
        watched.look();
        first.process.kill().unwrap();
        first.process.wait().unwrap();
        watched.look();
        let ticks = |watched: &Watched| watched.used_us()[&name] * TICKS_PER_SECOND / 1_000_000;
        let of_first = ticks(&watched);
        assert!(of_first >= 20, "{:?}", watched.roots);

        let mut second = Node::start(port);
        second.work(10);
        watched.look();
        assert!(
            ticks(&watched) >= of_first + 10,
            "{of_first}: {:?}",
            watched.roots
        );
        drop(second.process.stdin.take());
        second.process.wait().unwrap();
    }

    #[test]
    fn whoever_waits_for_a_node_does_not_count_it_again() {
        let used = |own, waited_for| Used {
            own,
            waited_for,
            living: 0,
        };
        let root = |name: &str, pid, before, now, ended| Root {
            name: name.into(),
            pid,
            parent: 1,
            started: 0,
            port: None,
            before,
            now,
            ended,
        };
        let manager = root("manager", 1, used(10, 5), used(11, 5 + 100 + 30 + 7), false);
        let node = root("peer", 2, used(60, 20), used(100, 30), true);
        let watched = Watched {
            roots: vec![manager, node],
            began: 0,
        };
        let expected = [
            ("manager", 1),
            ("manager children", 7),
            ("peer", 40),
            ("peer children", 10),
        ];
        let expected = expected.map(|(name, ticks)| (name.to_owned(), ticks * 10_000));
        assert_eq!(watched.used_us(), BTreeMap::from(expected));
    }
}

//! Power cuts of real processes, state databases and the manager's database included: what was not
//! synced is lost, in the worst way and in many others (`tools/powercut`), and whatever was told to
//! a client as committed is there afterwards.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use selvage_client::From;
use selvage_network_tests::{
    Load, Service, all_of, kill_9, nodes_of, same_chain_everywhere, up_command, wait_for,
};
use selvage_powercut::{Machine, Outcome};

const CLIENTS: usize = 4;

/// The worst outcome first; then others, each with its seed.
fn outcome(round: u64) -> Outcome {
    match round {
        0 | 1 => Outcome::Least,
        seed => Outcome::Some(seed),
    }
}

/// A network under the shim.
struct Powered {
    machine: Machine,
    service: Service,
    load: Load,
    _shadow: tempfile::TempDir,
}

impl Powered {
    fn up(arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("selvage-").tempdir();
        let (folder, shadow) = (folder.unwrap(), tempfile::tempdir().unwrap());
        let machine = Machine::new(&folder.path().join("data"), shadow.path()).unwrap();
        let service = Service::in_environment(folder, machine.environment(), arguments);
        Self {
            machine,
            service,
            load: Load::default(),
            _shadow: shadow,
        }
    }

    fn data(&self) -> PathBuf {
        self.service.folder().join("data")
    }

    fn cut(&self, folder: &Path, outcome: Outcome) {
        let losses = self.machine.cut(folder, outcome).unwrap();
        let name = folder.parent().unwrap().file_name().unwrap().to_str();
        println!("{}: {outcome:?}: {losses:?}", name.unwrap());
    }

    /// Cuts the power of the whole machine, and starts it again.
    async fn cut_all(&mut self, outcome: Outcome) {
        end_all(self.service.folder());
        self.load.end().await;
        self.cut(&self.data(), outcome);
        let before = self.service.said().blockchain_id.clone();
        self.service.up_again();
        assert_eq!(self.service.said().blockchain_id, before);
    }

    /// What was acknowledged is there, whoever is asked.
    async fn holds(&self) {
        let height = same_chain_everywhere(&self.service).await;
        let gateway = self.service.gateway();
        let count = self.load.is_all_there(&gateway, &self.service).await;
        println!("{count} acknowledged transactions are there, in {height} blocks");
    }
}

/// Ends all programs of a network as a power cut does.
fn end_all(folder: &Path) {
    let mut stopped = Vec::new();
    // Once more, as one may have started another one just before it was stopped.
    for _ in 0..2 {
        for program in all_of(folder) {
            let stop = || kill(Pid::from_raw(program.pid), Signal::SIGSTOP);
            // A command may have ended by itself.
            if !stopped.contains(&program.pid) && stop().is_ok() {
                stopped.push(program.pid);
            }
        }
    }
    stopped.into_iter().for_each(kill_9);
}

/// A network whose power goes while it is made is made in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_made_in_spite_of_power_cuts() {
    let folder = tempfile::Builder::new().prefix("selvage-").tempdir();
    let (folder, shadow) = (folder.unwrap(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let machine = Machine::new(&data, shadow.path()).unwrap();
    for round in 0..5 {
        let mut command = up_command(folder.path(), &machine.environment(), &[]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut up = command.spawn().unwrap();
        // Wherever it is by then: each start goes on where the one before was.
        tokio::time::sleep(Duration::from_millis(300 + 250 * round)).await;
        end_all(folder.path());
        up.wait().unwrap();
        let losses = machine.cut(&data, outcome(round)).unwrap();
        println!("{:?}: {losses:?}", outcome(round));
    }
    let service = Service::in_environment(folder, machine.environment(), &[]);
    let mut load = Load::default();
    load.begin(&service, 1);
    load.more(3).await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solo_network_outlives_power_cuts() {
    let mut network = Powered::up(&[]);
    // Of a network that was just reported ready nothing may be missing.
    network.cut_all(outcome(0)).await;
    for round in 1..5 {
        network.load.begin(&network.service, CLIENTS);
        network.load.more(25).await;
        network.cut_all(outcome(round)).await;
        network.holds().await;
    }
    // The state says the same when it is made again from the blocks.
    network.service.down();
    let state = find(&network.service.node_folder("peer"), "state").unwrap();
    std::fs::remove_dir_all(state).unwrap();
    network.service.up_again();
    network.holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raft_network_outlives_power_cuts_of_its_orderers() {
    let mut network = Powered::up(&["--consensus", "raft"]);
    network.load.begin(&network.service, CLIENTS);
    for round in 1..6 {
        network.load.more(15).await;
        cut_an_orderer(&network, round).await;
    }
    network.load.more(15).await;
    network.cut_all(Outcome::Some(8)).await;
    network.load.begin(&network.service, CLIENTS);
    network.load.more(15).await;
    network.load.end().await;
    network.holds().await;
    orderers_are_level(&network.service).await;
}

/// The power of one orderer goes and comes back at once; the others go on.
async fn cut_an_orderer(network: &Powered, round: u64) {
    let orderers = || {
        let nodes = nodes_of(network.service.folder()).into_iter();
        nodes.filter(|n| n.kind == "orderer").collect::<Vec<_>>()
    };
    wait_for("three orderers", || async { orderers().len() == 3 }).await;
    let victim = orderers().swap_remove(usize::try_from(round % 3).unwrap());
    // It must not start the orderer before its files are what the cut leaves of them.
    let manager = Pid::from_raw(network.service.manager());
    kill(manager, Signal::SIGSTOP).unwrap();
    victim.kill();
    let folder = network.service.instance().join("nodes").join(&victim.name);
    network.cut(&folder.join("data"), outcome(round));
    kill(manager, Signal::SIGCONT).unwrap();
    wait_for("the orderer to run again", || async {
        let mut nodes = orderers().into_iter();
        nodes.any(|n| n.name == victim.name && n.pid != victim.pid)
    })
    .await;
}

/// Every orderer has the newest block that the peers have.
async fn orderers_are_level(service: &Service) {
    let (user, channel) = (service.user(), &service.said().channel);
    let orderers = service.orderers().await;
    let peer = service.peers().await.swap_remove(0);
    wait_for("level orderers", || async {
        let height = peer.channel_info(channel).await.unwrap().height;
        let header = peer.block(channel, height - 1).await.unwrap().header;
        for orderer in &orderers {
            let newest = orderer.block(&user, channel, From::Newest).await;
            if newest.ok().and_then(|block| block.header) != header {
                return false;
            }
        }
        true
    })
    .await;
}

/// The first folder of this name.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let folders: Vec<_> = entries
        .map(|e| e.path())
        .filter(|path| path.is_dir())
        .collect();
    let here = folders.iter().find(|path| path.ends_with(name)).cloned();
    here.or_else(|| folders.iter().find_map(|path| find(path, name)))
}

//! Orderers as real processes, each in a network namespace of its own, whose network is cut under load.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::consortium::{Cluster, Consensus};
use crate::load::{Load, counted, doubled};
use crate::process::Process;

/// The port of every orderer: each has an address of its own.
const PORT: u16 = 7050;
/// Between two messages of a client.
const PAUSE: Duration = Duration::from_millis(1);
/// A neighbour that nobody is: what is sent there is lost.
const NOWHERE: &str = "02:00:00:00:00:ff";

/// Namespaces joined by a bridge, on which this process has an address too.
struct Net {
    bridge: String,
    spaces: Vec<String>,
    prefix: String,
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

impl Net {
    /// `count` namespaces; `number` tells the networks of one process apart. The addresses are those
    /// set aside for tests between networks (RFC 2544).
    fn new(count: usize, number: u8) -> Result<Self, String> {
        let process = std::process::id();
        let net = Self {
            bridge: format!("sv{process}-{number}"),
            spaces: (0..count)
                .map(|n| format!("sv{process}-{number}-{n}"))
                .collect(),
            prefix: format!("198.{}.{}", 18 + number % 2, process % 250),
        };
        net.build()?;
        Ok(net)
    }

    fn build(&self) -> Result<(), String> {
        let Self { bridge, prefix, .. } = self;
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {prefix}.254/24 dev {bridge}"))?;
        ip(&format!("link set {bridge} up"))?;
        for (index, space) in self.spaces.iter().enumerate() {
            let (outer, host) = (format!("{bridge}v{index}"), self.host(index));
            ip(&format!("netns add {space}"))?;
            ip(&format!(
                "link add {outer} type veth peer name eth0 netns {space}"
            ))?;
            ip(&format!("link set {outer} master {bridge} up"))?;
            ip(&format!("-n {space} addr add {host}/24 dev eth0"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            ip(&format!("-n {space} link set lo up"))?;
        }
        Ok(())
    }

    fn host(&self, index: usize) -> String {
        format!("{}.{}", self.prefix, index + 1)
    }

    fn places(&self) -> Vec<(String, u16)> {
        let hosts = (0..self.spaces.len()).map(|index| self.host(index));
        hosts.map(|host| (host, PORT)).collect()
    }

    /// What `from` sends to `to` is lost from now on, without anybody being told.
    fn cut_way(&self, from: usize, to: usize) {
        let (space, host) = (&self.spaces[from], self.host(to));
        let lost = format!("{host} lladdr {NOWHERE} dev eth0 nud permanent");
        ip(&format!("-n {space} neigh replace {lost}")).unwrap();
    }

    /// Cuts these nodes off from all others, both ways.
    fn cut_off(&self, some: &[usize]) {
        let others = (0..self.spaces.len()).filter(|n| !some.contains(n));
        for other in others {
            for one in some {
                self.cut_way(*one, other);
                self.cut_way(other, *one);
            }
        }
    }

    fn heal(&self) {
        for space in &self.spaces {
            ip(&format!("-n {space} neigh flush dev eth0 nud permanent")).unwrap();
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // What there is of it; a namespace takes its end of the pair along.
        for space in &self.spaces {
            let _ = ip(&format!("netns del {space}"));
        }
        let _ = ip(&format!("link del {}", self.bridge));
    }
}

/// A network; none, said loudly, where there are no network namespaces.
fn net(count: usize, number: u8) -> Option<Net> {
    match Net::new(count, number) {
        Ok(net) => Some(net),
        Err(reason) => {
            eprintln!("NOT RUN: network namespaces need root and iproute2: {reason}");
            None
        }
    }
}

async fn started(net: &Net, consensus: Consensus) -> Cluster {
    let places = net.places();
    let mut cluster = Cluster::at(consensus, &places, places.len());
    for index in 0..places.len() {
        start(&mut cluster, net, index).await;
        cluster.join(index, &cluster.genesis).await;
    }
    cluster
}

async fn start(cluster: &mut Cluster, net: &Net, index: usize) {
    let before = ["ip", "netns", "exec", net.spaces[index].as_str()];
    cluster
        .start_process(index, Process::of_ours(&before))
        .await;
}

/// What was acknowledged, which has to be in the chain, and the messages that are there twice.
async fn settled(cluster: &Cluster, load: Load, nodes: &[usize]) -> usize {
    let sent = load.end().await;
    let blocks = cluster.level(nodes).await;
    let ordered = counted(&blocks);
    for message in sent.iter().flat_map(|sent| &sent.accepted) {
        assert!(
            ordered.contains_key(message),
            "one that was acknowledged is lost"
        );
    }
    doubled(&blocks).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raft_cluster_is_cut_apart_and_healed_under_load() {
    let Some(net) = net(3, 0) else { return };
    let mut cluster = started(&net, Consensus::Raft).await;
    let load = Load::begin(&cluster, PAUSE);
    load.goes_on(&[0, 1, 2]).await;
    // Whoever leads is among them.
    for lonely in 0..3 {
        let others = [(lonely + 1) % 3, (lonely + 2) % 3];
        net.cut_off(&[lonely]);
        load.goes_on(&others).await;
        net.heal();
        load.goes_on(&[0, 1, 2]).await;
    }
    // One that hears the others and is not heard, and the other way round.
    for other in [1, 2] {
        net.cut_way(0, other);
    }
    load.goes_on(&[1, 2]).await;
    net.heal();
    for other in [1, 2] {
        net.cut_way(other, 0);
    }
    load.goes_on(&[1, 2]).await;
    net.heal();
    load.goes_on(&[0, 1, 2]).await;
    // One dies while it is cut off, and comes back to the others.
    net.cut_off(&[2]);
    load.goes_on(&[0, 1]).await;
    cluster.stop(2).await;
    net.heal();
    start(&mut cluster, &net, 2).await;
    load.goes_on(&[0, 1, 2]).await;
    // A message that was handed to a leader which vanished is handed to the next one, too. Whoever
    // validates takes the first of them, by its transaction id; the tests with peers show that.
    let doubled = settled(&cluster, load, &[0, 1, 2]).await;
    assert!(
        doubled < 30,
        "{doubled} doubled by eight changes of leaders"
    );
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bft_cluster_is_cut_apart_and_healed_under_load() {
    let Some(net) = net(4, 1) else { return };
    let mut cluster = started(&net, Consensus::Bft).await;
    let load = Load::begin(&cluster, PAUSE);
    load.goes_on(&[0, 1, 2, 3]).await;
    for lonely in 0..4 {
        let others = [(lonely + 1) % 4, (lonely + 2) % 4, (lonely + 3) % 4];
        net.cut_off(&[lonely]);
        load.goes_on(&others).await;
        net.heal();
        load.goes_on(&[0, 1, 2, 3]).await;
    }
    // Neither half decides anything.
    net.cut_off(&[0, 1]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = load.all_accepted();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(load.all_accepted(), before);
    net.heal();
    load.goes_on(&[0, 1, 2, 3]).await;
    // One dies while it is cut off, and comes back to the others.
    net.cut_off(&[3]);
    load.goes_on(&[0, 1, 2]).await;
    cluster.stop(3).await;
    net.heal();
    start(&mut cluster, &net, 3).await;
    load.goes_on(&[0, 1, 2, 3]).await;
    assert_eq!(settled(&cluster, load, &[0, 1, 2, 3]).await, 0);
    cluster.stop_all().await;
}

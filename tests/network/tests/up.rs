//! `selvage up` and `selvage down`: what a person meets first.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use selvage_channel::ChannelConfig;
use selvage_client::PeerAdmin;
use selvage_network_tests::{Api, Service, binary, nodes_of, says, selvage_in, up_in, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn up_serves_resumes_and_stops() {
    let mut service = Service::up(&[]);
    let put = service.call("Put", &["greeting", "hello"]);
    service.gateway().submit_transaction(&put).await.unwrap();
    let first: BTreeSet<i32> = nodes_of(service.folder()).iter().map(|n| n.pid).collect();
    assert_eq!(first.len(), 3, "one orderer, two peers");
    cuts_blocks_as_promised(&service).await;

    // Again: the same network, still with its data.
    let before = service.said().clone();
    service.up_again();
    assert_eq!(service.said().blockchain_id, before.blockchain_id);
    assert_eq!(service.said().ak, before.ak);

    service.down();
    assert!(
        nodes_of(service.folder()).is_empty(),
        "down leaves no process"
    );

    service.up_again();
    let get = service.call("Get", &["greeting"]);
    assert_eq!(
        &service.gateway().evaluate(&get, &[]).await.unwrap()[..],
        b"hello"
    );
}

/// One second, 500 messages, 2 MB: what `selvage up` asks for, which is not what the API does by
/// default.
async fn cuts_blocks_as_promised(service: &Service) {
    let config = config_of(service).await;
    let orderer = config.orderer().unwrap();
    assert_eq!(orderer.batch_timeout(), Duration::from_secs(1));
    let size = orderer.batch_size();
    assert_eq!(size.max_message_count, 500);
    assert_eq!(size.preferred_max_bytes, 2 << 20);
}

async fn config_of(service: &Service) -> ChannelConfig {
    let peer = PeerAdmin::new(service.peer(), service.user());
    let block = peer.config_block(&service.said().channel).await.unwrap();
    ChannelConfig::from_block(&block).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn up_makes_as_many_organisations_as_asked() {
    for orgs in [1, 3] {
        let service = Service::up(&["--orgs", &orgs.to_string()]);
        let nodes = nodes_of(service.folder());
        let count = |kind: &str| nodes.iter().filter(|n| n.kind == kind).count();
        assert_eq!((count("orderer"), count("peer")), (1, orgs), "{nodes:?}");
        // Nobody is told that it is not the usual network who did not ask for that.
        for (asked, told) in [(&[][..], false), (&["--orgs", "2"], true)] {
            let again = up_in(service.folder(), asked);
            let said = String::from_utf8_lossy(&again.stderr);
            assert_eq!(said.contains("stays as it was made"), told, "{said}");
        }
        let config = config_of(&service).await;
        assert_eq!(config.application().unwrap().orgs().len(), orgs);
        let put = service.call("Put", &["organisations", &orgs.to_string()]);
        let done = service.gateway().submit_transaction(&put).await.unwrap();
        // Every organisation's peer has it.
        let channel = &service.said().channel;
        let peers = service.peers().await;
        assert_eq!(peers.len(), orgs);
        for peer in peers {
            wait_for("the transaction on every peer", || async {
                peer.transaction(channel, &done.tx_id).await.is_ok()
            })
            .await;
        }
    }
}

/// A person reads what `selvage up` prints from its top and copies the last line into a shell, as
/// often as they like, from wherever they called it.
#[test]
fn the_line_that_up_prints_runs_as_it_stands() {
    let parent = tempfile::Builder::new()
        .prefix("a person's folder ")
        .tempdir()
        .unwrap();
    let service = Service::up_below(parent.path(), &[]);
    let program = binary("selvage").canonicalize().unwrap();
    let programs = program.parent().unwrap();
    for here in [service.folder(), programs, programs.parent().unwrap()] {
        let printed = Command::new(&program)
            .args(["up", "--detach", "--data"])
            .arg(service.folder().join("data"))
            .current_dir(here)
            .output()
            .unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        let lines: Vec<(&str, &str)> = printed
            .lines()
            .map(|line| line.split_once(' ').map(|(a, b)| (a, b.trim())).unwrap())
            .collect();
        let [
            ("Console", console),
            ("SDK", sdk),
            ("User", user),
            ("Submit", line),
        ] = lines[..]
        else {
            panic!("other lines: {printed}");
        };
        let access = std::fs::read(service.folder().join("data/access.json")).unwrap();
        let access: serde_json::Value = serde_json::from_slice(&access).unwrap();
        let password = access["password"].as_str().unwrap();
        assert!(console.starts_with(&service.said().console), "{console}");
        assert!(
            console.ends_with(&format!("password {password}")),
            "{console}"
        );
        let sdk = Path::new(sdk);
        let mut files = std::fs::read_dir(sdk).unwrap();
        let is_profile = |name: &str| name.ends_with(".yaml");
        assert!(
            files.any(|f| is_profile(f.unwrap().file_name().to_str().unwrap())),
            "no SDK configuration in {}",
            sdk.display()
        );
        let user = std::fs::read_to_string(user).unwrap();
        assert!(user.starts_with("-----BEGIN CERTIFICATE-----"), "{user}");

        let submitted = Command::new("sh")
            .args(["-c", line])
            .current_dir(here)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&submitted.stderr);
        assert!(submitted.status.success(), "{line}: {said}");
        says(&said, &["transaction ", " committed in block "]);
    }
}

/// Runs `selvage up` with `arguments` and expects a refusal whose text has all of `words`.
fn refused(arguments: &[&str], words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let output = up_in(folder.path(), arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} was accepted");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: no {word:?} in: {said}");
    }
    assert!(
        nodes_of(folder.path()).is_empty(),
        "a refusal leaves no process"
    );
    assert!(
        !folder.path().join("data").exists(),
        "a refusal leaves no folder"
    );
}

#[test]
fn a_call_that_fails_says_why_and_what_to_do() {
    let service = Service::up(&[]);
    let says_of = |line: &str, words: &[&str]| {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = selvage_in(service.folder(), &arguments);
        assert!(!output.status.success(), "{line}");
        says(&String::from_utf8_lossy(&output.stderr), words);
    };
    for call in ["query", "invoke"] {
        let line = format!("{call} --chaincode nosuch ReadAsset a");
        let words = [
            "channel has no chaincode nosuch",
            "assets",
            "channel nosuch FOLDER",
        ];
        says_of(&line, &words);
        let line = format!("{call} --channel nosuch ReadAsset a");
        says_of(&line, &["has no channel nosuch", "it has: channel"]);
        let line = format!("{call} NoSuch a");
        says_of(&line, &["assets has no function NoSuch", "CreateAsset"]);
        let line = format!("{call} ReadAsset -5");
        says_of(&line, &["assets refused: the asset -5 does not exist"]);
    }
    service.down();
    let words = [
        "the network is not running",
        "start it with: ",
        "selvage up --detach --data ",
    ];
    says_of("query ReadAsset a", &words);
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    refused(&["--sign", "sm2"], &["sm2"]);
    refused(&["--consensus", "paxos"], &["paxos"]);
}

#[test]
fn a_number_of_orderers_that_makes_no_sense_is_refused() {
    let even = ["--consensus", "raft", "--orderers", "2"];
    refused(&even, &["1, 3, 5, 7", "etcdraft", "2"]);
    let few = ["--consensus", "bft", "--orderers", "3"];
    refused(&few, &["4, 5, 6", "sflic", "3"]);
    refused(&["--orderers", "3"], &["must be one of 1 ", "solo"]);
}

#[test]
fn down_where_nothing_runs_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let output = Command::new(binary("selvage"))
        .arg("down")
        .arg("--data")
        .arg(&data)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(!said.is_empty(), "silence");
    assert!(!said.contains("panicked"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn up_makes_networks_with_or_without_node_ous() {
    for (arguments, node_ous) in [
        (&["--chaincode", "NONE"][..], true),
        (&["--chaincode", "NONE", "--node-ous", "false"], false),
    ] {
        let service = Service::up(arguments);
        let config = config_of(&service).await;
        for msp in config.msp_manager().msps().values() {
            assert_eq!(msp.has_node_roles(), node_ous, "{msp:?}");
        }
        // The network that is there stays as it is, and whoever asks for another is told.
        let other = (!node_ous).to_string();
        let again = ["--chaincode", "NONE", "--node-ous", &other];
        let output = up_in(service.folder(), &again);
        assert!(output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(&format!("--node-ous {node_ous}")), "{said}");
    }
}

/// Kills the manager again and again and runs `selvage up` at once, while the system has not yet
/// taken down the killed process, its lock, its socket and its port.
#[test]
fn up_right_after_a_kill_takes_over() {
    const KILLS: usize = 40;
    let service = Service::up(&["--chaincode", "NONE"]);
    let nodes = nodes_of(service.folder());
    let first = service.said();
    for round in 0..KILLS {
        let manager = service.manager();
        kill(Pid::from_raw(manager), Signal::SIGKILL).unwrap();
        let output = up_in(service.folder(), &["--chaincode", "NONE"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "round {round}: {said}");
        let up: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(up["blockchain_id"], first.blockchain_id, "round {round}");
        assert_eq!(up["console"], first.console, "round {round}");
        assert_ne!(service.manager(), manager, "round {round}");
        assert_eq!(nodes_of(service.folder()), nodes, "round {round}");
    }
    // `down` right after a kill stops what the killed manager left.
    kill(Pid::from_raw(service.manager()), Signal::SIGKILL).unwrap();
    service.down();
    assert_eq!(nodes_of(service.folder()), []);
}

/// The same by hand: a manager that takes the question with it, and whose lock outlives its socket.
#[test]
fn up_asks_the_next_manager_when_one_hangs_up() {
    let folder = tempfile::Builder::new()
        .prefix("selvage-")
        .tempdir()
        .unwrap();
    let run = folder.path().join("data/run");
    std::fs::create_dir_all(&run).unwrap();
    let lock = std::fs::File::create(folder.path().join("data/lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    let socket = UnixListener::bind(run.join("control.sock")).unwrap();
    std::thread::spawn(move || {
        drop(socket.accept());
        drop(socket);
        // Long enough for the command to see that nobody listens while the folder is held.
        std::thread::sleep(Duration::from_millis(300));
        drop(lock);
    });
    let output = up_in(folder.path(), &["--chaincode", "NONE"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    drop(Service::resumed(folder));
}

/// A new folder, and one for its data that somebody has made.
fn folder_with_data() -> tempfile::TempDir {
    let folder = tempfile::Builder::new()
        .prefix("selvage-")
        .tempdir()
        .unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    folder
}

fn up(folder: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(binary("selvage"));
    command
        .args(["up", "--chaincode", "NONE", "--json", "--data"])
        .arg(folder.join("data"))
        .args(more);
    command
}

#[test]
fn several_ups_at_once_make_one_network() {
    let folder = folder_with_data();
    let lock = std::fs::File::create(folder.path().join("data/up.lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    let start = || {
        let mut command = up(folder.path(), &["--detach"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("another selvage up"), "{line}");
        (child, said)
    };
    // Each waits for whoever has the folder; then they meet.
    let waiting: Vec<_> = (0..3).map(|_| start()).collect();
    drop(lock);
    let ids = waiting.into_iter().map(|(child, mut said)| {
        let mut text = String::new();
        said.read_to_string(&mut text).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{text}");
        let up: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        up["blockchain_id"].as_str().unwrap().to_owned()
    });
    let ids: BTreeSet<String> = ids.collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let service = Service::resumed(folder);
    assert!(ids.contains(&service.said().blockchain_id));

    // The greatest number of all means the newest block to Fabric, and no block to the browser.
    let api = Api::enter(&service);
    let block = |number: u64| api.get(&format!("/channel/channel/blocks/{number}/transactions"));
    assert_eq!(block(0).0, 200);
    let (status, answer) = block(u64::MAX);
    assert_eq!(
        (status, &answer["error_code"]),
        (404, &"BCS.4040404".into())
    );
}

/// As `selvage up 2>&1 | head -1`, where `head` has already left.
#[test]
fn a_reader_that_leaves_ends_nothing() {
    let unread = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let folder = folder_with_data();
    let mut here = up(folder.path(), &[]);
    let mut here = here.stdout(unread()).stderr(unread()).spawn().unwrap();
    // It is the one that makes the network, once it has its turn.
    while !folder.path().join("data/up.json").exists() {
        assert_eq!(here.try_wait().unwrap(), None, "it ended");
        std::thread::sleep(Duration::from_millis(10));
    }
    for more in [&["--detach"][..], &[]] {
        let mut again = up(folder.path(), more);
        let status = again.stdout(unread()).stderr(unread()).status().unwrap();
        assert!(status.success(), "{more:?}: {status}");
    }
    assert_eq!(nodes_of(folder.path()).len(), 3, "it goes on");
    kill(Pid::from_raw(here.id().cast_signed()), Signal::SIGINT).unwrap();
    assert!(here.wait().unwrap().success());
    assert_eq!(nodes_of(folder.path()), []);
}

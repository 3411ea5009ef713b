//! Disks that are full, nearly full, read-only, or break under a running network. The volumes are
//! mounted for the purpose, which takes root.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use selvage_network_tests::{Service, Volume, any_in_log, nodes_of, says, told, up_in};

/// Room for a network and its built chaincode.
const ROOM_MIB: u32 = 2048;
/// Longest wait for the network to serve again; generous, because the machine may be loaded.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_room_brings_the_network_back() {
    let Some(volume) = Volume::new(ROOM_MIB) else {
        return;
    };
    let service = Service::up_below(volume.path(), &[]);
    some_good_ones(&service, "before").await;

    volume.fill();
    // What fits into space that files hold already may still be taken; then comes the end.
    let started = Instant::now();
    for n in 0.. {
        let key = format!("full-{n}");
        if let Err(error) = service.put(&key, &key).await {
            let text = error.text();
            println!("    {text}");
            if text.contains("disk is full") && text.contains("makes room in") {
                break;
            }
        }
        assert!(
            started.elapsed() < PATIENCE,
            "no client is told of the full disk"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    volume.drain();
    comes_back(&service, "after").await;
    service.check_nothing_lost().await;
    // The network is stopped before its volume goes.
    drop(service);
}

/// A disk that breaks under load: its file system becomes read-only, as ext4 does then. The nodes
/// stop with cause and remedy rather than lose anything, and go on when that is done. Then somebody
/// makes all files immutable for a while, which the network gets over by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_breaks_under_a_running_network_loses_nothing() {
    let Some(volume) = Volume::disk(1024) else {
        return;
    };
    let mut service = Service::up(&[]);
    some_good_ones(&service, "at-first").await;
    service.down();
    move_data_of_nodes(&service, volume.path());
    service.up_again();
    some_good_ones(&service, "before").await;

    fails_under_load(&service, "broken", || volume.break_down()).await;
    // Who has a block in hand is the first to notice, and stops.
    let stopped = [
        ("the orderer cannot write", "mount it writable"),
        ("the orderer cannot write", "check the disk"),
        ("the peer stops to protect its ledger", "see to the disk"),
    ];
    let _ = any_in_log(&service, &stopped).await;
    // The manager starts it again and again, and that fails for the same reason.
    let not_started = [
        (
            "FileLedger.Location) cannot be used: the file system is read-only",
            "mount it writable",
        ),
        (
            "peer.fileSystemPath) cannot be used",
            "let this process write there: Read-only",
        ),
    ];
    let _ = any_in_log(&service, &not_started).await;
    service.down();
    volume.mend();
    service.up_again();
    comes_back(&service, "mended").await;
    service.check_nothing_lost().await;

    fails_under_load(&service, "immutable", || volume.set_immutable(true)).await;
    let stopped = [
        ("the orderer cannot write", "make the data folder writable"),
        ("Operation not permitted", "make the data folder writable"),
    ];
    let _ = any_in_log(&service, &stopped).await;
    volume.set_immutable(false);
    comes_back(&service, "mutable").await;
    service.check_nothing_lost().await;
    // The network is stopped before its volume goes.
    drop(service);
}

/// Puts the data of every node on another volume, with a link in its place.
fn move_data_of_nodes(service: &Service, volume: &Path) {
    for node in std::fs::read_dir(service.instance().join("nodes")).unwrap() {
        let node = node.unwrap();
        let (data, target) = (node.path().join("data"), volume.join(node.file_name()));
        let copied = Command::new("cp").arg("-a").args([&data, &target]).status();
        assert!(copied.unwrap().success());
        std::fs::remove_dir_all(&data).unwrap();
        symlink(&target, &data).unwrap();
    }
    // The nodes had synced it, and a copy must not be worse.
    let synced = Command::new("sync").arg("-f").arg(volume).status();
    assert!(synced.unwrap().success());
}

async fn some_good_ones(service: &Service, name: &str) {
    for n in 0..5 {
        let key = format!("{name}-{n}");
        service.put(&key, &key).await.unwrap();
    }
}

/// What clients may be told of it, and the remedy: by a gateway without other peers or orderers, or
/// by their own side when the gateway's peer has stopped.
const TOLD: [(&str, &str); 3] = [
    (
        "this peer does not answer",
        "see whether it runs and what its log says",
    ),
    (
        "no orderer took the transaction",
        "see whether the orderers run and what their logs say",
    ),
    (
        "nothing listens at this address",
        "see whether the node runs and what its log says",
    ),
];

/// Submits while the disk fails, until clients are told: what happened and what to do, every time.
async fn fails_under_load(service: &Service, name: &str, fail: impl Fn()) {
    let started = Instant::now();
    let mut refused = Vec::new();
    for n in 0.. {
        if n == 5 {
            fail();
        }
        let keys: Vec<String> = (0..5).map(|i| format!("{name}-{n}-{i}")).collect();
        let puts = keys.iter().map(|key| service.put(key, key));
        let outcomes = futures::future::join_all(puts).await;
        refused.extend(outcomes.into_iter().filter_map(Result::err));
        if !refused.is_empty() {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "no client is told");
    }
    for error in refused {
        let text = error.text();
        println!("    {text}");
        let known = |(cause, remedy): &(&str, &str)| text.contains(cause) && text.contains(remedy);
        assert!(TOLD.iter().any(known), "cause or remedy is missing: {text}");
    }
}

/// Waits until transactions commit again.
async fn comes_back(service: &Service, key: &str) {
    let started = Instant::now();
    while let Err(error) = service.put(key, key).await {
        assert!(
            started.elapsed() < PATIENCE,
            "it does not come back: {}",
            error.text()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn up_on_a_nearly_full_disk() {
    let Some(volume) = Volume::new(32) else {
        return;
    };
    let folder = tempfile::tempdir_in(volume.path()).unwrap();
    let output = up_in(folder.path(), &[]);
    assert!(!output.status.success());
    let path = folder.path().to_str().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    says(&said, &[path]);
    let _ = told(&said, "MB free", "free some space or use --data");
    assert!(nodes_of(folder.path()).is_empty());
}

#[test]
fn up_on_a_read_only_disk() {
    let Some(volume) = Volume::new(32) else {
        return;
    };
    let folder = tempfile::tempdir_in(volume.path()).unwrap();
    volume.read_only();
    let path = folder.path().to_str().unwrap();
    let output = up_in(folder.path(), &[]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    says(&said, &[path]);
    let _ = told(&said, "Read-only file system", "--data");
    // Nothing can be removed while it is read-only, so the volume goes first.
    drop(volume);
}

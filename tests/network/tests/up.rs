//! `selvage up` and `selvage down`: what a person meets first.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::process::Command;

use selvage_network_tests::{Service, binary, nodes_of, up_in};

#[tokio::test(flavor = "multi_thread")]
async fn up_serves_resumes_and_stops() {
    let mut service = Service::up(&[]);
    let put = service.call("Put", &["greeting", "hello"]);
    service.gateway().submit_transaction(&put).await.unwrap();
    let first: BTreeSet<i32> = nodes_of(service.folder()).iter().map(|n| n.pid).collect();
    assert_eq!(first.len(), 3, "one orderer, two peers");

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
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    refused(&["--consensus", "raft"], &["raft"]);
    refused(&["--consensus", "bft"], &["bft"]);
    refused(&["--sign", "sm2"], &["sm2"]);
    refused(&["--consensus", "paxos"], &["paxos"]);
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

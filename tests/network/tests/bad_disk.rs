//! Disks that are full, nearly full or read-only. The volumes are mounted for the purpose, which
//! takes root.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use selvage_network_tests::{Service, Volume, nodes_of, says, up_in};

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
    let gateway = service.gateway();
    let mut acknowledged = Vec::new();
    for n in 0..5 {
        let key = format!("before-{n}");
        gateway
            .submit_transaction(&service.call("Put", &[&key, &key]))
            .await
            .unwrap();
        acknowledged.push(key);
    }

    volume.fill();
    // What fits into space that files hold already may still be taken; then comes the end.
    let started = Instant::now();
    for n in 0.. {
        let key = format!("full-{n}");
        let put = service.call("Put", &[&key, &key]);
        match gateway.submit_transaction(&put).await {
            Ok(_) => acknowledged.push(key),
            Err(error) => {
                let text = error.text();
                println!("    {text}");
                if text.contains("disk is full") && text.contains("makes room in") {
                    break;
                }
            }
        }
        assert!(
            started.elapsed() < PATIENCE,
            "no client is told of the full disk"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    volume.drain();
    let started = Instant::now();
    let put = service.call("Put", &["after", "after"]);
    while let Err(error) = gateway.submit_transaction(&put).await {
        assert!(
            started.elapsed() < PATIENCE,
            "room does not help: {}",
            error.text()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    acknowledged.push("after".to_owned());
    for key in &acknowledged {
        let value = gateway
            .evaluate(&service.call("Get", &[key]), &[])
            .await
            .unwrap();
        assert_eq!(value, key.as_bytes(), "the value of {key}");
    }
    println!(
        "    {} acknowledged transactions are there",
        acknowledged.len()
    );
    let peers = service.peers().await;
    let started = Instant::now();
    loop {
        let mut seen = Vec::new();
        for peer in &peers {
            let info = peer.channel_info(&service.said().channel).await;
            seen.push(info.map(|i| (i.height, i.current_block_hash)).ok());
        }
        if seen[0].is_some() && seen.iter().all(|s| *s == seen[0]) {
            break;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "the peers do not agree: {seen:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The network is stopped before its volume goes.
    drop(service);
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
    says(&said, &[path, "MB free", "free some space or use --data"]);
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
    says(
        &String::from_utf8_lossy(&output.stderr),
        &[path, "Read-only file system", "--data"],
    );
    // Nothing can be removed while it is read-only, so the volume goes first.
    drop(volume);
}

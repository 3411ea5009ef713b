//! The driver with real processes: a shell script stands in for the node programs.

use super::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let program = dir.path().join("peer");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("script");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
        std::fs::create_dir(dir.path().join("node")).expect("node folder");
        Self { dir }
    }

    fn driver(&self) -> LocalDriver {
        let programs = Programs::new(vec![self.dir.path().to_owned()]);
        LocalDriver::new(programs, self.dir.path().join("manager.log"))
    }

    fn spec(&self) -> NodeSpec {
        NodeSpec {
            id: "i/peer-0".into(),
            name: "peer-0".into(),
            program: "peer",
            args: vec![],
            dir: self.dir.path().join("node"),
            listen: "127.0.0.1".parse().expect("address"),
            // Port 9 (discard) answers nothing here: health is not what these tests look at.
            health: "127.0.0.1:9".parse().expect("address"),
            ports: vec![],
        }
    }
}

async fn pid_after(driver: &LocalDriver, other: Option<i32>) -> i32 {
    for _ in 0..2000 {
        if let Some(pid) = driver.observe("i/peer-0").await.and_then(|o| o.pid)
            && Some(pid) != other
        {
            return pid;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no new process");
}

#[tokio::test]
async fn a_killed_node_is_started_again_and_a_removed_one_is_not() {
    let bench = Bench::new("exec sleep 600");
    let driver = bench.driver();
    driver.apply(bench.spec()).await.expect("starts");
    driver.apply(bench.spec()).await.expect("twice is fine");
    let first = pid_after(&driver, None).await;
    kill(Pid::from_raw(first), Signal::SIGKILL).expect("signal");
    let second = pid_after(&driver, Some(first)).await;
    let seen = driver.observe("i/peer-0").await.expect("known");
    assert_eq!(seen.restarts, 1);
    assert!(seen.detail.contains("signal: 9"), "{}", seen.detail);
    driver.remove(&bench.spec()).await.expect("removed");
    driver.remove(&bench.spec()).await.expect("twice is fine");
    assert!(driver.observe("i/peer-0").await.is_none());
    assert!(ProcessMark::of(second).is_none(), "the process is gone");
}

#[tokio::test]
async fn a_new_manager_takes_over_what_the_old_one_left() {
    let bench = Bench::new("exec sleep 600");
    let old = bench.driver();
    old.apply(bench.spec()).await.expect("starts");
    let pid = pid_after(&old, None).await;
    // A killed manager ends its tasks without a word to the nodes.
    for node in old.nodes.lock().values() {
        node.task.abort();
    }
    let new = bench.driver();
    new.apply(bench.spec()).await.expect("takes over");
    assert_eq!(pid_after(&new, None).await, pid);
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("signal");
    pid_after(&new, Some(pid)).await;
    new.stop_all().await;
    assert!(ProcessMark::load_alive(&mark_path(&bench.spec())).is_none());
}

#[tokio::test]
async fn a_node_that_ends_at_once_says_why() {
    let bench = Bench::new("echo 'cannot read core.yaml' >&2; exit 3");
    let driver = bench.driver();
    driver.apply(bench.spec()).await.expect("accepted");
    for _ in 0..2000 {
        let seen = driver.observe("i/peer-0").await.expect("known");
        if seen.restarts >= 1 && seen.detail.contains("cannot read core.yaml") {
            assert!(!seen.healthy);
            driver.stop_all().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the reason never showed");
}

#[tokio::test]
async fn missing_programs_and_taken_ports_are_named() {
    let bench = Bench::new("exec sleep 600");
    let driver = bench.driver();
    let missing = NodeSpec {
        program: "orderer",
        ..bench.spec()
    };
    let error = driver
        .apply(missing)
        .await
        .expect_err("not there")
        .to_string();
    assert!(
        error.contains("orderer") && error.contains("make build"),
        "{error}"
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let port = listener.local_addr().expect("address").port();
    let taken = NodeSpec {
        ports: vec![port],
        ..bench.spec()
    };
    let error = driver.apply(taken).await.expect_err("taken").to_string();
    assert!(
        error.contains(&port.to_string()) && error.contains("peer-0"),
        "{error}"
    );
}

#[test]
fn logs_are_bounded() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let log = dir.path().join("a.log");
    let mut writer = open_log(&log).expect("log");
    std::io::Write::write_all(&mut writer, &[b'x'; 100]).expect("write");
    rotate(&log, 100).expect("short enough");
    assert_eq!(std::fs::metadata(&log).expect("log").len(), 100);
    rotate(&log, 99).expect("rotated");
    std::io::Write::write_all(&mut writer, b"after").expect("write");
    assert_eq!(std::fs::read(&log).expect("log"), b"after");
    assert_eq!(
        std::fs::metadata(dir.path().join("a.log.1"))
            .expect("old")
            .len(),
        100
    );
}

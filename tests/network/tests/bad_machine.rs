//! What is wrong with the machine or with the settings of a node: a clear error that names cause and
//! remedy. And `kill -9` of the processes that `kills.rs` leaves alone.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_network_tests::{
    Service, Volume, binary, cases, chaincodes_of, kill_9, nodes_of, refused_start, run_cases,
    says, up_in,
};

/// Longest wait for processes to come back; generous, because the machine may be loaded.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_and_killed_processes() {
    let service = Arc::new(Service::up(&[]));
    let cases = cases![service;
        taken_ports_of_an_orderer,
        taken_ports_of_a_peer,
        a_ledger_folder_in_use,
        a_ledger_folder_that_cannot_be_written,
        a_ledger_folder_on_a_read_only_disk,
        missing_and_broken_configuration,
        missing_and_wrong_keys,
        kill_9_of_chaincode,
        kill_9_of_the_manager,
    ];
    run_cases(service, cases).await;
}

const ANY_PORT: &str = "127.0.0.1:0";

/// Variables that free a node from the ports and folders of its configuration, so that one fault at
/// a time is met.
fn freed<'a>(kind: &str, folder: &'a str) -> Vec<(&'static str, &'a str)> {
    match kind {
        "peer" => vec![
            ("CORE_PEER_FILESYSTEMPATH", folder),
            ("CORE_PEER_LISTENADDRESS", ANY_PORT),
            ("CORE_PEER_CHAINCODELISTENADDRESS", ANY_PORT),
            ("CORE_OPERATIONS_LISTENADDRESS", ANY_PORT),
        ],
        _ => vec![
            ("ORDERER_FILELEDGER_LOCATION", folder),
            ("ORDERER_GENERAL_LISTENPORT", "0"),
            ("ORDERER_ADMIN_LISTENADDRESS", ANY_PORT),
            ("ORDERER_OPERATIONS_LISTENADDRESS", ANY_PORT),
        ],
    }
}

/// Starts a node like a running one but for the given variables, which must make it refuse.
fn refuses(service: &Service, kind: &str, changes: &[(&str, &str)], words: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    let mut variables = freed(kind, scratch.path().to_str().unwrap());
    variables.extend(changes.iter().copied());
    says(
        &refused_start(kind, &service.node_folder(kind), &variables),
        words,
    );
}

async fn taken_ports_of_an_orderer(service: Arc<Service>) {
    let taken = TcpListener::bind(ANY_PORT).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port().to_string();
    for (variable, value, section) in [
        ("ORDERER_GENERAL_LISTENPORT", &port, "General.ListenPort"),
        (
            "ORDERER_ADMIN_LISTENADDRESS",
            &address,
            "Admin.ListenAddress",
        ),
        (
            "ORDERER_OPERATIONS_LISTENADDRESS",
            &address,
            "Operations.ListenAddress",
        ),
    ] {
        let words = [
            section,
            &address,
            "another process uses this port",
            "configure another",
        ];
        refuses(&service, "orderer", &[(variable, value)], &words);
    }
}

async fn taken_ports_of_a_peer(service: Arc<Service>) {
    let taken = TcpListener::bind(ANY_PORT).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (variable, section) in [
        ("CORE_PEER_LISTENADDRESS", "peer.listenAddress"),
        (
            "CORE_PEER_CHAINCODELISTENADDRESS",
            "peer.chaincodeListenAddress",
        ),
        ("CORE_OPERATIONS_LISTENADDRESS", "operations.listenAddress"),
    ] {
        let words = [
            section,
            &address,
            "another process uses this port",
            "configure another",
        ];
        refuses(&service, "peer", &[(variable, &address)], &words);
    }
}

async fn a_ledger_folder_in_use(service: Arc<Service>) {
    for (kind, variable) in [
        ("peer", "CORE_PEER_FILESYSTEMPATH"),
        ("orderer", "ORDERER_FILELEDGER_LOCATION"),
    ] {
        let data = service.node_folder(kind).join("data");
        let path = data.to_str().unwrap();
        refuses(
            &service,
            kind,
            &[(variable, path)],
            &[path, "another process", "stop it"],
        );
    }
}

async fn a_ledger_folder_that_cannot_be_written(service: Arc<Service>) {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let below = file.join("ledger");
    let path = below.to_str().unwrap();
    let peer = [("CORE_PEER_FILESYSTEMPATH", path)];
    refuses(
        &service,
        "peer",
        &peer,
        &[path, "peer.fileSystemPath", "Not a directory"],
    );
    let orderer = [("ORDERER_FILELEDGER_LOCATION", path)];
    refuses(
        &service,
        "orderer",
        &orderer,
        &[path, "FileLedger.Location", "a file is in the way"],
    );
}

async fn a_ledger_folder_on_a_read_only_disk(service: Arc<Service>) {
    let Some(volume) = Volume::new(1) else {
        return;
    };
    volume.read_only();
    let ledger = volume.path().join("ledger");
    let path = ledger.to_str().unwrap();
    let peer = [("CORE_PEER_FILESYSTEMPATH", path)];
    refuses(
        &service,
        "peer",
        &peer,
        &[path, "peer.fileSystemPath", "Read-only file system"],
    );
    let orderer = [("ORDERER_FILELEDGER_LOCATION", path)];
    let words = [path, "FileLedger.Location", "Read-only file system"];
    refuses(&service, "orderer", &orderer, &words);
}

async fn missing_and_broken_configuration(_: Arc<Service>) {
    for (program, file) in [("peer", "core.yaml"), ("orderer", "orderer.yaml")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        let path = path.to_str().unwrap();
        says(
            &refused_start(program, folder.path(), &[]),
            &[file, folder.path().to_str().unwrap(), "FABRIC_CFG_PATH"],
        );
        std::fs::write(path, "General: [\npeer: {").unwrap();
        says(
            &refused_start(program, folder.path(), &[]),
            &[path, "not valid YAML", "line"],
        );
    }
}

async fn missing_and_wrong_keys(service: Arc<Service>) {
    let nowhere = "/nowhere/msp";
    refuses(
        &service,
        "peer",
        &[("CORE_PEER_MSPCONFIGPATH", nowhere)],
        &[nowhere],
    );
    refuses(
        &service,
        "orderer",
        &[("ORDERER_GENERAL_LOCALMSPDIR", nowhere)],
        &[nowhere],
    );
    let missing = "/nowhere/server.key";
    refuses(
        &service,
        "peer",
        &[("CORE_PEER_TLS_KEY_FILE", missing)],
        &[missing],
    );
    let orderer = [("ORDERER_GENERAL_TLS_PRIVATEKEY", missing)];
    refuses(&service, "orderer", &orderer, &[missing]);
    // A key, but not that of the certificate.
    let other = service.node_folder("orderer").join("tls/server.key");
    let other = other.to_str().unwrap();
    refuses(
        &service,
        "peer",
        &[("CORE_PEER_TLS_KEY_FILE", other)],
        &["private key"],
    );
}

async fn kill_9_of_chaincode(service: Arc<Service>) {
    let nodes = nodes_of(service.folder());
    let running = chaincodes_of(&nodes);
    assert!(
        !running.is_empty(),
        "no chaincode process was found below {nodes:?}"
    );
    let gateway = service.gateway();
    for pid in &running {
        println!("    kill -9 of chaincode {pid}");
        kill_9(*pid);
    }
    // Whoever calls at once is served by the next process or told what happened.
    let started = Instant::now();
    loop {
        match gateway
            .submit_transaction(&service.call("Put", &["chaincode", "back"]))
            .await
        {
            Ok(_) => break,
            Err(error) => {
                println!("    {}", error.text());
                assert!(started.elapsed() < PATIENCE, "chaincode does not come back");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    assert_eq!(
        nodes_of(service.folder()),
        nodes,
        "no node went with its chaincode"
    );
    let now = chaincodes_of(&nodes);
    assert!(now.iter().all(|pid| !running.contains(pid)));
}

async fn kill_9_of_the_manager(service: Arc<Service>) {
    let nodes = nodes_of(service.folder());
    let manager = service.manager();
    println!("    kill -9 of the manager {manager}");
    kill_9(manager);
    // The network does not need it.
    let put = service.call("Put", &["manager", "dead"]);
    service.gateway().submit_transaction(&put).await.unwrap();
    // The next one takes over what runs.
    let output = up_in(service.folder(), &[]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["blockchain_id"], service.said().blockchain_id);
    assert_ne!(service.manager(), manager);
    assert_eq!(
        nodes_of(service.folder()),
        nodes,
        "the nodes are the same processes"
    );
    // And supervises it.
    nodes[0].kill();
    let started = Instant::now();
    while nodes_of(service.folder()).len() < nodes.len() {
        assert!(
            started.elapsed() < PATIENCE,
            "{nodes:?} does not come back whole"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let started = Instant::now();
    let put = service.call("Put", &["manager", "back"]);
    while let Err(error) = service.gateway().submit_transaction(&put).await {
        assert!(started.elapsed() < PATIENCE, "{}", error.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs `selvage up`, expects a refusal that has all of `words` and leaves no process.
fn up_refused(folder: &Path, arguments: &[&str], words: &[&str]) {
    let output = up_in(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} was accepted");
    assert!(!said.contains("panicked"), "{said}");
    says(&said, words);
    assert!(nodes_of(folder).is_empty(), "a refusal leaves no process");
}

#[test]
fn up_where_the_data_folder_cannot_be_made() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), "a file").unwrap();
    up_refused(
        folder.path(),
        &[],
        &[folder.path().to_str().unwrap(), "data", "--data"],
    );
}

#[test]
fn up_where_the_console_has_no_port() {
    let taken = TcpListener::bind(ANY_PORT).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let words = [
        address.as_str(),
        "another process uses this port",
        "--listen",
    ];
    up_refused(folder.path(), &["--listen", &address], &words);
}

#[test]
fn up_without_the_toolchain_of_the_chaincode() {
    let folder = tempfile::tempdir().unwrap();
    let tools = folder.path().join("bin");
    std::fs::create_dir(&tools).unwrap();
    // What confines chaincode is not what is missing.
    if Path::new("/usr/bin/bwrap").exists() {
        symlink("/usr/bin/bwrap", tools.join("bwrap")).unwrap();
    }
    let output = Command::new(binary("selvage"))
        .env("SELVAGE_BUILD_CACHE", folder.path().join("builds"))
        .args(["up", "--detach", "--json", "--data"])
        .arg(folder.path().join("data"))
        .env("PATH", &tools)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it came up without Node.js");
    says(&said, &["'node'", "PATH", "install Node.js with npm"]);
    let down = Command::new(binary("selvage"))
        .arg("down")
        .arg("--data")
        .arg(folder.path().join("data"))
        .output()
        .unwrap();
    println!("    {}", String::from_utf8_lossy(&down.stderr));
    assert!(
        nodes_of(folder.path()).is_empty(),
        "a failure leaves no process"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn up_killed_in_the_middle_goes_on_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Command::new(binary("selvage"))
        .env("SELVAGE_BUILD_CACHE", folder.path().join("builds"))
        .args(["up", "--detach", "--json", "--data"])
        .arg(folder.path().join("data"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // In the middle: nodes run, and not everything is done.
    let started = Instant::now();
    while nodes_of(folder.path()).is_empty() {
        assert!(started.elapsed() < PATIENCE, "no node was started");
        std::thread::sleep(Duration::from_millis(5));
    }
    up.kill().unwrap();
    up.wait().unwrap();
    let lock = std::fs::read_to_string(folder.path().join("data/lock")).unwrap();
    let manager: i32 = lock.trim().parse().unwrap();
    println!(
        "kill -9 of the manager {manager} and of {:?}",
        nodes_of(folder.path())[0]
    );
    kill_9(manager);
    nodes_of(folder.path())[0].kill();

    let service = Service::resumed(folder);
    let put = service.call("Put", &["survivor", "yes"]);
    service.gateway().submit_transaction(&put).await.unwrap();
    assert_eq!(nodes_of(service.folder()).len(), 3);
}

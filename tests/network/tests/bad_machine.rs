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
    Node, Service, Told, Volume, binary, cases, chaincodes_of, confiners_of, freeze, in_log,
    is_alive, kill_9, nodes_of, refused_start, root, run_cases, says, selvage_in, told, up_in,
    wait_for,
};

/// Longest wait for processes to come back; generous, because the machine may be loaded.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_and_killed_processes() {
    let service = Arc::new(Service::up(&[]));
    let mut cases = cases![service;
        taken_ports_of_an_orderer,
        taken_ports_of_a_peer,
        a_ledger_folder_in_use,
        a_ledger_folder_that_cannot_be_written,
        missing_and_broken_configuration,
        missing_and_wrong_keys,
        kill_9_of_chaincode,
        kill_9_of_the_manager,
    ];
    if Volume::new(1).is_some() {
        cases.extend(cases![service; a_ledger_folder_on_a_read_only_disk]);
    }
    if confiners_of(&nodes_of(service.folder())).is_empty() {
        assert!(std::env::var_os("CI").is_none(), "bubblewrap is missing");
        eprintln!("NOT RUN: nothing stands between a peer and its chaincode here");
    } else {
        cases.extend(cases![service; kill_9_of_what_confines_chaincode]);
    }
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

/// Starts a node like a running one but for the given variables, which must make it refuse: its last
/// line has all of `words`, the first of which is the cause, and the remedy.
fn refuses(
    service: &Service,
    kind: &str,
    changes: &[(&str, &str)],
    words: &[&str],
    remedy: &str,
) -> Told {
    let scratch = tempfile::tempdir().unwrap();
    let mut variables = freed(kind, scratch.path().to_str().unwrap());
    variables.extend(changes.iter().copied());
    let said = refused_start(kind, &service.node_folder(kind), &variables);
    says(&said, words);
    told(&said, words[0], remedy)
}

const USED: &str = "another process uses this port";
const OTHER_PORT: &str = "stop it or configure another port";

async fn taken_ports_of_an_orderer(service: Arc<Service>) -> Told {
    let taken = TcpListener::bind(ANY_PORT).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port().to_string();
    let check = |variable: &str, value: &str, section: &str| {
        let words = [USED, section, &address];
        refuses(
            &service,
            "orderer",
            &[(variable, value)],
            &words,
            OTHER_PORT,
        )
    };
    let _ = check("ORDERER_GENERAL_LISTENPORT", &port, "General.ListenPort");
    let variable = "ORDERER_ADMIN_LISTENADDRESS";
    let _ = check(variable, &address, "Admin.ListenAddress");
    let variable = "ORDERER_OPERATIONS_LISTENADDRESS";
    check(variable, &address, "Operations.ListenAddress")
}

async fn taken_ports_of_a_peer(service: Arc<Service>) -> Told {
    let taken = TcpListener::bind(ANY_PORT).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let check = |variable: &str, section: &str| {
        let words = [USED, section, &address];
        refuses(
            &service,
            "peer",
            &[(variable, &address)],
            &words,
            OTHER_PORT,
        )
    };
    let _ = check("CORE_PEER_LISTENADDRESS", "peer.listenAddress");
    let variable = "CORE_PEER_CHAINCODELISTENADDRESS";
    let _ = check(variable, "peer.chaincodeListenAddress");
    let variable = "CORE_OPERATIONS_LISTENADDRESS";
    check(variable, "operations.listenAddress")
}

const PEER_DATA: &str = "CORE_PEER_FILESYSTEMPATH";
const ORDERER_DATA: &str = "ORDERER_FILELEDGER_LOCATION";

async fn a_ledger_folder_in_use(service: Arc<Service>) -> Told {
    let check = |kind: &str, variable: &str| {
        let data = service.node_folder(kind).join("data");
        let path = data.to_str().unwrap();
        let words = ["another process", path];
        refuses(&service, kind, &[(variable, path)], &words, "stop it")
    };
    let _ = check("peer", PEER_DATA);
    check("orderer", ORDERER_DATA)
}

async fn a_ledger_folder_that_cannot_be_written(service: Arc<Service>) -> Told {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let below = file.join("ledger");
    let path = below.to_str().unwrap();
    let words = ["Not a directory", "peer.fileSystemPath", path];
    let _ = refuses(
        &service,
        "peer",
        &[(PEER_DATA, path)],
        &words,
        "name another folder, or let this process write there",
    );
    let words = ["a file is in the way", "FileLedger.Location", path];
    let changes = [(ORDERER_DATA, path)];
    refuses(
        &service,
        "orderer",
        &changes,
        &words,
        "choose another folder",
    )
}

async fn a_ledger_folder_on_a_read_only_disk(service: Arc<Service>) -> Told {
    let volume = Volume::new(1).unwrap();
    volume.read_only();
    let ledger = volume.path().join("ledger");
    let path = ledger.to_str().unwrap();
    let words = ["Read-only file system", "peer.fileSystemPath", path];
    let _ = refuses(
        &service,
        "peer",
        &[(PEER_DATA, path)],
        &words,
        "name another folder, or let this process write there",
    );
    let words = ["the file system is read-only", "FileLedger.Location", path];
    let changes = [(ORDERER_DATA, path)];
    refuses(&service, "orderer", &changes, &words, "mount it writable")
}

async fn missing_and_broken_configuration(_: Arc<Service>) -> Told {
    let check = |program: &str, file: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        let path = path.to_str().unwrap();
        let said = refused_start(program, folder.path(), &[]);
        let cause = format!("no {file} in {}", folder.path().display());
        let _ = told(
            &said,
            &cause,
            "set FABRIC_CFG_PATH to the folder that holds it",
        );
        std::fs::write(path, "General: [\npeer: {").unwrap();
        let said = refused_start(program, folder.path(), &[]);
        says(&said, &[path, "line"]);
        told(&said, "not valid YAML", "correct")
    };
    let _ = check("peer", "core.yaml");
    check("orderer", "orderer.yaml")
}

async fn missing_and_wrong_keys(service: Arc<Service>) -> Told {
    let check = |kind: &str, variable: &str, value: &str, words: &[&str], remedy: &str| {
        refuses(&service, kind, &[(variable, value)], words, remedy)
    };
    let missing = "No such file or directory";
    let nowhere = "/nowhere/msp";
    let variable = "CORE_PEER_MSPCONFIGPATH";
    let words = [missing, nowhere];
    let _ = check("peer", variable, nowhere, &words, "correct the path");
    let variable = "ORDERER_GENERAL_LOCALMSPDIR";
    let words = ["the folder does not exist", nowhere];
    let remedy = "set General.LocalMSPDir to the node's msp folder";
    let _ = check("orderer", variable, nowhere, &words, remedy);
    let nowhere = "/nowhere/server.key";
    let variable = "CORE_PEER_TLS_KEY_FILE";
    let words = [missing, nowhere];
    let _ = check("peer", variable, nowhere, &words, "correct the path");
    let variable = "ORDERER_GENERAL_TLS_PRIVATEKEY";
    let _ = check("orderer", variable, nowhere, &words, "correct the path");
    // A key, but not that of the certificate; and the certificate for a key.
    let wrong = "the key does not belong to the certificate";
    let remedy = "name the file of the key that the certificate was issued for";
    let no_key = "name a file with one private key in PEM form";
    let mut last = None;
    for (kind, other, variable) in [
        ("peer", "orderer", "CORE_PEER_TLS_KEY_FILE"),
        ("orderer", "peer", "ORDERER_GENERAL_TLS_PRIVATEKEY"),
    ] {
        let tls = service.node_folder(other).join("tls");
        let key = tls.join("server.key");
        let _ = check(kind, variable, key.to_str().unwrap(), &[wrong], remedy);
        let certificate = tls.join("server.crt");
        let path = certificate.to_str().unwrap();
        let words = ["cannot use the TLS private key"];
        last = Some(check(kind, variable, path, &words, no_key));
    }
    last.unwrap()
}

/// Kills processes with a call in them: whoever waits is told what happened and what to do, no node
/// goes with its chaincode, and what was acknowledged is there.
async fn killed_with_a_call(
    service: &Service,
    what: &str,
    find: fn(&[Node]) -> Vec<i32>,
    end: &str,
) -> Told {
    let nodes = nodes_of(service.folder());
    let before = service.acknowledged();
    let mut errors = Vec::new();
    let started = Instant::now();
    // Once is enough, unless the machine is so busy that the call came too late.
    while errors.is_empty() {
        assert!(started.elapsed() < PATIENCE, "no call was in {what}");
        chaincodes_of(&nodes).into_iter().for_each(freeze);
        let (put, ()) = tokio::join!(service.put(what, "meanwhile"), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            for pid in find(&nodes) {
                println!("    kill -9 of {what} {pid}");
                kill_9(pid);
            }
        });
        errors.extend(put.err());
        while let Err(error) = service.put(what, "back").await {
            errors.push(error);
            assert!(started.elapsed() < PATIENCE, "chaincode does not come back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    for error in &errors {
        let _ = told(
            &error.text(),
            "the chaincode's process ended, nothing was written",
            "try again in a moment",
        );
    }
    println!("    {} calls were told of it", errors.len());
    assert_eq!(
        nodes_of(service.folder()),
        nodes,
        "no node went with its chaincode"
    );
    for (key, value) in before.iter().filter(|(key, _)| *key != what) {
        let get = service.call("Get", &[key]);
        let found = service.gateway().evaluate(&get, &[]).await;
        let found = found.unwrap_or_else(|e| panic!("{key} is lost: {}", e.text()));
        assert_eq!(found, value.as_bytes(), "the value of {key}");
    }
    let cause = format!("chaincode went away: container exited {end}");
    in_log(service, &cause, "it is started again").await
}

async fn kill_9_of_chaincode(service: Arc<Service>) -> Told {
    let nodes = nodes_of(service.folder());
    let running = chaincodes_of(&nodes);
    assert!(
        !running.is_empty(),
        "no chaincode process was found below {nodes:?}"
    );
    let end = match confiners_of(&nodes).is_empty() {
        true => "by signal 9",
        // Bubblewrap tells the end of its child as shells do.
        false => "with 137, which tells of signal 9",
    };
    let told = killed_with_a_call(&service, "chaincode", chaincodes_of, end).await;
    let now = chaincodes_of(&nodes);
    assert!(now.iter().all(|pid| !running.contains(pid)));
    told
}

/// Bubblewrap stands between a peer and its chaincode: when it is killed, chaincode goes with it and
/// comes back confined.
async fn kill_9_of_what_confines_chaincode(service: Arc<Service>) -> Told {
    let nodes = nodes_of(service.folder());
    let (inner, confining) = (chaincodes_of(&nodes), confiners_of(&nodes));
    println!("    {inner:?} run below {confining:?}");
    assert!(confining.iter().all(|pid| !inner.contains(pid)));
    let told = killed_with_a_call(&service, "bwrap", confiners_of, "by signal 9").await;
    let gone = async || !inner.iter().any(|pid| is_alive(*pid));
    wait_for("the end of what was confined", gone).await;
    let now = chaincodes_of(&nodes);
    assert_eq!(now.len(), confiners_of(&nodes).len(), "one runs unconfined");
    told
}

async fn kill_9_of_the_manager(service: Arc<Service>) -> Told {
    let nodes = nodes_of(service.folder());
    let manager = service.manager();
    println!("    kill -9 of the manager {manager}");
    kill_9(manager);
    // The network does not need it.
    service.put("manager", "dead").await.unwrap();
    // Who needs it is told.
    let source = root().join("examples/chaincode-go");
    let source = source.to_str().unwrap();
    let deployed = selvage_in(service.folder(), &["deploy", "x", source]);
    assert!(!deployed.status.success(), "deployed without a manager");
    let told = told(
        &String::from_utf8_lossy(&deployed.stderr),
        "no service runs in",
        "up --detach --data",
    );
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
    while let Err(error) = service.put("manager", "back").await {
        assert!(started.elapsed() < PATIENCE, "{}", error.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    told
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

//! Chaincode that the peer does not build and start for a call: a service that somebody else runs,
//! and what runs since its definition was committed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use selvage_chaincode::package::{ChaincodeKind, SourceFile, package_id, write_package};
use selvage_client::{Definition, Invocation, Network, PeerAdmin};
use selvage_network_tests::{
    PACKAGE_JSON, Service, chaincodes_of, index_js, nodes_of, root, selvage_in, wait_for,
};
use serde_json::json;

fn file(name: &str, contents: &str) -> SourceFile {
    SourceFile {
        name: name.to_owned(),
        contents: contents.to_owned().into(),
        executable: false,
    }
}

/// A chaincode service: the example contract in Go, on the official shim. Dropping it kills it.
struct Server(Child);

impl Server {
    fn start(program: &Path, id: &str, address: &str) -> Self {
        let child = Command::new(program)
            .env("CHAINCODE_ID", id)
            .env("CHAINCODE_SERVER_ADDRESS", address)
            .stdin(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Server {
    /// `kill -9`.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn built(folder: &Path) -> PathBuf {
    let program = folder.join("asset-contract");
    let status = Command::new("go")
        .args(["build", "-o"])
        .args([&program, Path::new(".")])
        .current_dir(root().join("examples/chaincode-go"))
        .status();
    assert!(status.unwrap().success(), "the contract does not build");
    program
}

fn free_address() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().to_string()
}

async fn put(service: &Service, key: &str) -> Result<(), String> {
    let call = Invocation::new("served", "Put").args([key, "kept"]);
    let done = service.gateway().submit_transaction(&call).await;
    done.map(drop).map_err(|e| e.text())
}

async fn get(service: &Service, key: &str) -> Result<Vec<u8>, String> {
    let call = Invocation::new("served", "Get").args([key]);
    let answer = service.gateway().evaluate(&call, &[]).await;
    answer.map(|a| a.to_vec()).map_err(|e| e.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chaincode_service_is_dialled_and_may_be_killed() {
    let service = Service::up(&["--chaincode", "NONE"]);
    let program = built(service.folder());
    let address = free_address();
    let connection = json!({ "address": address, "dial_timeout": "10s", "tls_required": false });
    let files = vec![file("connection.json", &connection.to_string())];
    let package = write_package("served_1.0", &ChaincodeKind::Service, "", files).unwrap();
    let path = service.folder().join("served.tgz");
    std::fs::write(&path, &package).unwrap();
    let id = package_id("served_1.0", &package);

    let server = Server::start(&program, &id, &address);
    let output = selvage_in(
        service.folder(),
        &["deploy", "served", path.to_str().unwrap()],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", service.logs());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&id), "{said}");
    put(&service, "first").await.unwrap();
    assert_eq!(get(&service, "first").await.unwrap(), b"kept");
    // No peer runs it.
    assert!(chaincodes_of(&nodes_of(service.folder())).is_empty());

    drop(server);
    println!(
        "    without it: {}",
        get(&service, "first").await.unwrap_err()
    );
    let _server = Server::start(&program, &id, &address);
    wait_for("the peers to connect again", || async {
        put(&service, "second").await.is_ok()
    })
    .await;
    for key in ["first", "second"] {
        assert_eq!(get(&service, key).await.unwrap(), b"kept", "{key}");
    }
}

/// Fabric's lifecycle by hand, so that nobody calls the chaincode: a first transaction must not wait
/// for its start.
#[tokio::test(flavor = "multi_thread")]
async fn a_committed_definition_runs_before_anybody_calls_it() {
    let mut service = Service::up(&["--chaincode", "NONE"]);
    let files = vec![
        file("src/package.json", PACKAGE_JSON),
        file("src/index.js", &index_js("waiting")),
    ];
    let package = write_package("waiting_1", &ChaincodeKind::Node, ".", files).unwrap();
    let orderers = service.orderers().await;
    let admins = service.peer_admins().await;
    assert_eq!(admins.len(), 2);
    let network = |peers: &[&PeerAdmin]| Network {
        channel_id: service.said().channel.clone(),
        endorsers: peers.iter().map(|p| p.peer().clone()).collect(),
        orderers: orderers.clone(),
    };
    let definition = Definition::new("waiting", "1", 1);
    for admin in &admins {
        let installed = admin.install(package.clone()).await.unwrap();
        let approved = network(&[admin])
            .approve(admin.user(), &definition, Some(&installed.package_id))
            .await;
        approved.unwrap();
    }
    let running = || chaincodes_of(&nodes_of(service.folder()));
    assert!(running().is_empty(), "nothing is defined yet");
    let channel = &service.said().channel;
    for admin in &admins {
        wait_for("both approvals on every peer", || async {
            let approvals = admin.commit_readiness(channel, &definition).await.unwrap();
            approvals.len() == 2 && approvals.values().all(|approved| *approved)
        })
        .await;
    }
    let all: Vec<_> = admins.iter().collect();
    let committed = network(&all).commit(admins[0].user(), &definition).await;
    committed.unwrap();
    runs_under_each_peer(&service).await;

    // The same after the peers have been started again.
    service.down();
    service.up_again();
    runs_under_each_peer(&service).await;
    let call = Invocation::new("waiting", "Edition");
    let edition = service.gateway().evaluate(&call, &[]).await.unwrap();
    assert_eq!(edition, "waiting");
}

async fn runs_under_each_peer(service: &Service) {
    wait_for("a chaincode under each peer", || async {
        let mut peers = nodes_of(service.folder());
        peers.retain(|node| node.kind == "peer");
        let runs = |peer: &_| !chaincodes_of(std::slice::from_ref(peer)).is_empty();
        peers.len() == 2 && peers.iter().all(runs)
    })
    .await;
}

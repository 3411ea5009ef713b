//! The example applications, on the published Gateway clients, against networks of ours that run the
//! example contracts.

use std::path::Path;
use std::process::Command;

use selvage_conformance::root;
use selvage_network_tests::Service;

fn run(what: &str, folder: &Path, service: &Service, command: &[&str]) {
    let status = Command::new(command[0])
        .args(&command[1..])
        .current_dir(folder)
        .env("SELVAGE_NETWORK", service.file())
        .status()
        .unwrap_or_else(|error| panic!("{what}: {} does not start: {error}", command[0]));
    assert!(status.success(), "{what} failed: {status}");
}

fn applications(chaincode: &str) {
    let service = Service::up(&["--chaincode", chaincode]);
    let typescript = root().join("examples/application-typescript");
    run(
        "npm ci",
        &typescript,
        &service,
        &["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"],
    );
    run(
        "build",
        &typescript,
        &service,
        &["npm", "run", "--silent", "build"],
    );
    run(
        "the TypeScript application",
        &typescript,
        &service,
        &["npm", "start", "--silent"],
    );
    run(
        "the TypeScript tests",
        &typescript,
        &service,
        &["npm", "test", "--silent"],
    );
    let go = root().join("examples/application-go");
    run(
        "the Go tests",
        &go,
        &service,
        &["go", "test", "-count=1", "./..."],
    );
    let file = service.file().display().to_string();
    run(
        "the Go application",
        &go,
        &service,
        &["go", "run", ".", &file],
    );
}

/// One test, because the machine has two cores and each network wants them.
#[test]
fn the_applications_run_with_both_contracts() {
    applications("node");
    applications("go");
}

//! Huawei's own SDK, unchanged, against the management API.

use std::process::Command;

use selvage_conformance::{python, root};
use selvage_network_tests::Service;

#[test]
fn the_python_sdk_creates_walks_and_deletes_an_instance() {
    let Some(python) = python("the_python_sdk_creates_walks_and_deletes_an_instance") else {
        return;
    };
    let service = Service::up(&["--chaincode", "NONE"]);
    let output = Command::new(python)
        .arg(root().join("tests/conformance/bcs-sdk/walk.py"))
        .arg(service.file())
        .output()
        .expect("python starts");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

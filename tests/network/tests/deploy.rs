//! Chaincode that a user brings: zips through the agent's API, a folder and a Fabric package through
//! `selvage deploy`, on a network that was made without any.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Cursor, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use selvage_chaincode::package::{ChaincodeKind, SourceFile, package_id, write_package};
use selvage_client::Invocation;
use selvage_network_tests::{Api, PACKAGE_JSON, Service, binary, index_js, root, says, selvage_in};
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn zip_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in files {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .unwrap();
        writer.write_all(contents.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// As people zip it: the folder, not its contents.
fn node_zip(edition: &str) -> Vec<u8> {
    zip_of(&[
        ("ledger/package.json", PACKAGE_JSON),
        ("ledger/index.js", &index_js(edition)),
    ])
}

fn upload(
    api: &Api,
    name: &str,
    version: &str,
    more: &[(&str, &str)],
    file: &[u8],
) -> (u16, Value) {
    let mut fields = vec![("chaincode_name", name), ("chaincode_version", version)];
    fields.extend_from_slice(more);
    api.upload("/chaincode", &fields, file)
}

fn instantiate(api: &Api, version: &str, more: Value) -> (u16, Value) {
    let mut body = json!({
        "chaincode_name": "ledger",
        "chaincode_version": version,
        "channel_name": "channel",
    });
    let fields = body.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    api.post("/chaincode/instantiate", &body)
}

#[track_caller]
fn refused((status, answer): (u16, Value), code: &str, words: &[&str]) {
    assert!((400..600).contains(&status), "{status} {answer}");
    assert_eq!(answer["error_code"], code, "{answer}");
    says(answer["error_msg"].as_str().unwrap(), words);
}

#[track_caller]
fn done((status, answer): (u16, Value)) -> Value {
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn query(service: &Service, chaincode: &str, call: &[&str]) -> String {
    let call = Invocation::new(chaincode, call[0]).args(&call[1..]);
    let answer = service.gateway().evaluate(&call, &[]).await.unwrap();
    String::from_utf8(answer.to_vec()).unwrap()
}

async fn submit(service: &Service, chaincode: &str, call: &[&str]) -> String {
    let call = Invocation::new(chaincode, call[0]).args(&call[1..]);
    let done = service.gateway().submit_transaction(&call).await;
    done.unwrap_or_else(|e| panic!("{}\n{}", e.text(), service.logs()))
        .tx_id
}

#[tokio::test(flavor = "multi_thread")]
async fn chaincode_comes_from_zips_folders_and_packages() {
    // As instances of the API are: policies then ask for peers by their organisational unit.
    let mut service = Service::up(&["--chaincode", "NONE", "--node-ous", "false"]);
    let api = Api::enter(&service);
    assert_eq!(done(api.get("/chaincodes"))["count"], 0);
    bad_uploads(&api);
    assert_eq!(
        done(api.get("/chaincodes"))["count"],
        0,
        "nothing half done"
    );
    a_node_zip_through_the_api(&service, &api).await;
    an_upgrade_through_the_api(&service, &api).await;
    bad_instantiations(&api);
    assert_eq!(query(&service, "ledger", &["Edition"]).await, "second");
    a_go_folder_from_the_command_line(&service).await;
    a_fabric_package_from_the_command_line(&service).await;
    an_upgrade_that_does_not_run(&service).await;

    service.down();
    service.up_again();
    let list = done(Api::enter(&service).get("/chaincodes"));
    assert_eq!(list["count"], 4, "{list}");
    assert_eq!(query(&service, "ledger", &["Get", "a"]).await, "200");
}

/// What is no chaincode, or does not build, is refused with its cause.
fn bad_uploads(api: &Api) {
    let bomb = "0".repeat(64 << 20);
    let package: (&str, &str) = ("package.json", "{}");
    for (file, cause) in [
        (b"this is no zip".to_vec(), "not a readable zip"),
        (zip_of(&[]), "the archive is empty"),
        (zip_of(&[("readme.txt", "x")]), "no chaincode found"),
        (zip_of(&[package, ("zeros", &bomb)]), "expands to more than"),
        (
            zip_of(&[package, ("../../x", "")]),
            "stay inside the package",
        ),
    ] {
        let words = ["链代码文件解压失败", cause, "send a zip"];
        refused(
            upload(api, "ledger", "1.0", &[], &file),
            "BCS.4002901",
            &words,
        );
    }
    let go = zip_of(&[
        ("go.mod", "module broken.example/cc\n\ngo 1.21\n"),
        (
            "main.go",
            "package main\n\nfunc main() { undefinedFunction() }\n",
        ),
    ]);
    let words = ["does not build", "correct it", "undefinedFunction"];
    refused(
        upload(api, "broken", "1.0", &[], &go),
        "BCS.4002902",
        &words,
    );
    refused(
        upload(api, "bad", "1.0", &[], &go),
        "BCS.4006005",
        &["6 to 25"],
    );
    let target = [("target_peers", r#"[{"peer_id":"peer-nobody-0"}]"#)];
    let words = ["no peer peer-nobody-0", "it has peer-"];
    refused(
        upload(api, "ledger", "1.0", &target, &go),
        "BCS.4002903",
        &words,
    );
    refused(
        upload(api, "ledger", "v1", &[], &go),
        "BCS.4006005",
        &["such as 1.0"],
    );
}

/// Installed on one peer, then on both; instantiated with a policy and an initialisation.
async fn a_node_zip_through_the_api(service: &Service, api: &Api) {
    let peers = done(api.get("/peers"))["peers"].clone();
    let peers: Vec<Value> = peers.as_object().unwrap().values().cloned().collect();
    assert_eq!(peers.len(), 2);
    let first = json!([{ "org_id": peers[0]["org_id"], "peer_id": peers[0]["peer"] }]).to_string();
    let fields = [
        ("target_peers", first.as_str()),
        ("description", "amounts by name"),
        ("chaincode_language", "node"),
        ("db_type", "goleveldb"),
        ("security_check", "false"),
    ];
    let answer = done(upload(api, "ledger", "1.0", &fields, &node_zip("first")));
    assert_eq!(
        (&answer["total_peer_num"], &answer["success_peer_num"]),
        (&json!(1), &json!(1))
    );
    let and = json!({
        "operation": "AND",
        "group": [{ "org_id": peers[0]["org_id"], "category": "member" },
                  { "org_id": peers[1]["org_id"] }],
    });
    let policy = json!({ "endorsement_policy": and });
    let words = ["none of its peers has ledger 1.0"];
    refused(instantiate(api, "1.0", policy), "BCS.4006005", &words);
    let answer = done(upload(api, "ledger", "1.0", &[], &node_zip("first")));
    assert_eq!(
        (&answer["total_peer_num"], &answer["success_peer_num"]),
        (&json!(2), &json!(2))
    );
    let other = upload(api, "ledger", "1.0", &[], &node_zip("other"));
    refused(
        other,
        "BCS.4002905",
        &["installed with other code", "another version"],
    );

    let whole = json!({
        "endorsement_policy": and,
        "init_variable": { "func_name": "init", "args": ["a", "200"] },
    });
    let answer = done(instantiate(api, "1.0", whole));
    assert_eq!(
        (&answer["sequence"], &answer["result"]),
        (&json!(1), &json!("success"))
    );
    assert_eq!(query(service, "ledger", &["Get", "a"]).await, "200");
    let tx = submit(service, "ledger", &["Put", "b", "7"]).await;
    let detail = done(api.get(&format!("/channel/channel/transactions/{tx}/detail")));
    let endorsers = detail["endorser_organizations"].as_array().unwrap();
    assert_eq!(endorsers.len(), 2, "both had to endorse: {detail}");
    let result = done(api.get("/chaincode/instantiate?chaincode_name=ledger"));
    let result = &result["result"][0];
    assert_eq!(result["instantiate_info"]["code"], "1000", "{result}");
    let policy = result["endorsement_policy"].as_str().unwrap();
    assert!(policy.starts_with("AND,org"), "{policy}");
}

async fn an_upgrade_through_the_api(service: &Service, api: &Api) {
    assert_eq!(query(service, "ledger", &["Edition"]).await, "first");
    let uploaded = api.upload(
        "/chaincode/install",
        &[("chaincode_name", "ledger"), ("chaincode_version", "1.1")],
        &node_zip("second"),
    );
    assert_eq!(done(uploaded)["success_peer_num"], 2);
    assert_eq!(done(instantiate(api, "1.1", json!({})))["sequence"], 2);
    assert_eq!(query(service, "ledger", &["Edition"]).await, "second");
    assert_eq!(
        query(service, "ledger", &["Get", "b"]).await,
        "7",
        "state is kept"
    );

    let list = done(api.get("/chaincodes"));
    let info = &list["chaincodes"][0];
    assert_eq!(info["chaincode_version"], "1.0,1.1", "{list}");
    assert_eq!(info["chaincode_language"], "node");
    assert_eq!(info["instantiated_channel"]["success"][0], "channel");
    let versions = done(api.get("/chaincode/versions?chaincode_name=ledger"));
    assert_eq!(
        versions["versions"][0]["instantiate_status"], false,
        "{versions}"
    );
    assert_eq!(
        versions["versions"][1]["instantiate_status"], true,
        "{versions}"
    );
    let installs = done(api.get("/chaincode/install?chaincode_name=ledger"));
    let installs = installs["result"].as_array().unwrap();
    assert_eq!(installs.len(), 4);
    assert!(installs.iter().all(|i| i["install_status"] == "installed"));
    let result = done(api.get("/chaincode/instantiate?chaincode_name=ledger"));
    let policy = result["result"][0]["endorsement_policy"].as_str().unwrap();
    assert!(
        policy.starts_with("AND,org"),
        "an upgrade keeps it: {policy}"
    );
}

/// The definition in force stays, whatever is asked for in vain.
fn bad_instantiations(api: &Api) {
    let channel = json!({ "channel_name": "nowhere" });
    refused(
        instantiate(api, "1.1", channel),
        "BCS.4006012",
        &["Invalid channel name"],
    );
    refused(
        instantiate(api, "9.9", json!({})),
        "BCS.4002904",
        &["install it first", "installed: 1.0, 1.1"],
    );
    let stranger = json!({ "endorsement_policy": { "operation": "OR",
        "group": [{ "org_id": "nobody" }] } });
    refused(
        instantiate(api, "1.1", stranger),
        "BCS.4001051",
        &["nobody", "org1"],
    );
    refused(
        api.get("/chaincode/versions?chaincode_name=nothing"),
        "BCS.4002904",
        &["nothing", "GET /chaincodes"],
    );

    done(upload(api, "refusing", "1.0", &[], &node_zip("refusing")));
    let mut body = json!({
        "chaincode_name": "refusing",
        "chaincode_version": "1.0",
        "channel_name": "channel",
        "init_variable": { "func_name": "init", "args": ["a", "much"] },
    });
    let answer = api.post("/chaincode/instantiate", &body);
    refused(
        answer,
        "BCS.4002906",
        &["6716", "other arguments", "no amount: much"],
    );
    let result = done(api.get("/chaincode/instantiate?chaincode_name=refusing"));
    let info = &result["result"][0]["instantiate_info"];
    assert_eq!(info["status"], "CHAINCODE_INSTANTIATION_FAILED");
    assert_eq!(info["code"], "6716", "{info}");
    body["init_variable"] = json!(null);
    assert_eq!(
        done(api.post("/chaincode/instantiate", &body))["sequence"],
        2
    );
    let result = done(api.get("/chaincode/instantiate?chaincode_name=refusing"));
    assert_eq!(result["result"][0]["instantiate_info"]["code"], "1000");
}

fn deploy(service: &Service, arguments: &[&str]) -> Output {
    let mut all = vec!["deploy"];
    all.extend_from_slice(arguments);
    let output = selvage_in(service.folder(), &all);
    println!("{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[track_caller]
fn deployed(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stdout);
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{progress}");
    says(&said, words);
    says(
        &progress,
        &[
            "building and installing on peer-",
            "waiting until it answers",
        ],
    );
}

#[track_caller]
fn not_deployed(output: &Output, words: &[&str]) {
    assert!(!output.status.success());
    says(&String::from_utf8_lossy(&output.stderr), words);
}

async fn a_go_folder_from_the_command_line(service: &Service) {
    let folder = root().join("examples/chaincode-go");
    let folder = folder.to_str().unwrap();
    let output = deploy(service, &["go-assets", folder]);
    deployed(
        &output,
        &["go-assets 1.0", "(sequence 1)", "selvage invoke"],
    );
    submit(
        service,
        "go-assets",
        &["CreateAsset", "a1", "blue", "5", "Tom", "100"],
    )
    .await;
    let output = deploy(service, &["go-assets", folder, "--lang", "go"]);
    deployed(&output, &["go-assets 1.1", "(sequence 2)"]);
    let asset = query(service, "go-assets", &["ReadAsset", "a1"]).await;
    assert!(asset.contains("Tom"), "state is kept: {asset}");

    not_deployed(
        &deploy(service, &["x", "/nowhere"]),
        &["there is no /nowhere"],
    );
    let docs = root().join("docs");
    let words = ["no chaincode found", "package.json", "source folder"];
    not_deployed(&deploy(service, &["x", docs.to_str().unwrap()]), &words);
    let node = deploy(service, &["x", folder, "--lang", "node"]);
    not_deployed(&node, &["no node chaincode"]);
    let parent = root().join("examples");
    let words = ["several chaincode projects", "chaincode-go (golang)"];
    not_deployed(&deploy(service, &["x", parent.to_str().unwrap()]), &words);
    let channel = deploy(service, &["x", folder, "--channel", "nowhere"]);
    not_deployed(&channel, &["Invalid channel name"]);
}

async fn a_fabric_package_from_the_command_line(service: &Service) {
    let source = |name: &str, contents: &str| SourceFile {
        name: name.to_owned(),
        contents: contents.to_owned().into(),
        executable: false,
    };
    let files = vec![
        source("src/package.json", PACKAGE_JSON),
        source("src/index.js", &index_js("packaged")),
    ];
    let package = write_package("any_label", &ChaincodeKind::Node, ".", files).unwrap();
    let path = service.folder().join("packaged.tgz");
    std::fs::write(&path, &package).unwrap();
    let output = deploy(
        service,
        &["packaged", path.to_str().unwrap(), "--version", "v7"],
    );
    let id = package_id("any_label", &package);
    deployed(&output, &["packaged v7", &id]);
    assert_eq!(query(service, "packaged", &["Edition"]).await, "packaged");
}

/// It builds, and ends as soon as it is started: the version before has to answer again.
async fn an_upgrade_that_does_not_run(service: &Service) {
    let zip = zip_of(&[
        ("package.json", PACKAGE_JSON),
        ("index.js", "throw new Error('never');"),
    ]);
    let path = service.folder().join("ends.zip");
    std::fs::write(&path, zip).unwrap();
    let output = deploy(service, &["ledger", path.to_str().unwrap()]);
    let words = [
        "6709",
        "earlier version 1.1 is in force again",
        "what it printed last",
        "Error: never",
        "/log/peer-",
    ];
    not_deployed(&output, &words);
    assert_eq!(query(service, "ledger", &["Edition"]).await, "second");
    submit(service, "ledger", &["Put", "c", "9"]).await;
}

#[test]
fn a_missing_toolchain_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let tools = folder.path().join("bin");
    std::fs::create_dir(&tools).unwrap();
    // What confines chaincode is not what is missing.
    if Path::new("/usr/bin/bwrap").exists() {
        symlink("/usr/bin/bwrap", tools.join("bwrap")).unwrap();
    }
    let selvage = |arguments: &[&str]| {
        Command::new(binary("selvage"))
            .env("SELVAGE_BUILD_CACHE", folder.path().join("builds"))
            .env("SELVAGE_DATA", folder.path().join("data"))
            .env("PATH", &tools)
            .args(arguments)
            .output()
            .unwrap()
    };
    let up = selvage(&["up", "--detach", "--chaincode", "NONE"]);
    assert!(
        up.status.success(),
        "{}",
        String::from_utf8_lossy(&up.stderr)
    );
    let source = root().join("examples/chaincode-go");
    let output = selvage(&["deploy", "assets", source.to_str().unwrap()]);
    selvage(&["down"]);
    not_deployed(&output, &["'go'", "PATH", "install Go"]);
}

#[test]
fn without_a_service_deploying_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let source = root().join("examples/chaincode-go");
    let output = selvage_in(folder.path(), &["deploy", "a", source.to_str().unwrap()]);
    not_deployed(
        &output,
        &["no service runs in", "selvage up --detach --data"],
    );
}

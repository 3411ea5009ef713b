//! The console: its own tests, and what a person sees of it in a real browser. The browser's part is
//! written in TypeScript, in `tests/browser`; this one prepares the network that it looks at.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use selvage_client::Gateway;
use selvage_network_tests::{Service, binary, root};
use selvage_proto::peer::TxValidationCode;
use serde_json::{Value, json};

/// Characters of the large value.
const LARGE: usize = 1_000_000;
/// Transactions before those that are looked at, so that lists have more than one page.
const FILLING: usize = 25;
/// A key and a value that would run if a page took them for its own.
const HOSTILE_KEY: &str = "<script>window.ran = 1</script>";
const HOSTILE_VALUE: &str =
    "\"><img src=x onerror=\"window.ran = 1\"><script>window.ran = 1</script>";

/// The browser, or `None` after saying loudly that the test cannot run.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| ["chromium", "chromium-browser"].map(|name| folder.join(name)))
        .find(|program| program.is_file());
    if found.is_none() {
        let message = "THE CONSOLE WAS NOT LOOKED AT: there is no chromium; run `make setup`";
        assert!(std::env::var_os("CI").is_none(), "{message}");
        // Not by a macro: what macros print of a test that passes is not shown.
        let _ = writeln!(std::io::stderr(), "\n*** {message} ***\n");
    }
    found
}

fn npm(folder: &Path, arguments: &[&str], environment: &[(&str, &Path)]) {
    let status = Command::new("npm")
        .args(arguments)
        .current_dir(folder)
        .envs(environment.iter().copied())
        .status()
        .unwrap_or_else(|error| panic!("npm does not start: {error}"));
    assert!(
        status.success(),
        "npm {} failed in {}: {status}",
        arguments.join(" "),
        folder.display()
    );
}

/// Submits and waits until the transaction is in a block; `expected` is what became of it.
async fn commit(
    gateway: &Gateway,
    prepared: selvage_client::Prepared,
    expected: TxValidationCode,
) -> Value {
    gateway.submit(&prepared).await.unwrap();
    let status = gateway.commit_status(&prepared.tx_id).await.unwrap();
    assert_eq!(status.code, expected);
    json!({ "id": prepared.tx_id, "block": status.block })
}

/// Puts on the ledger what the browser is to show, and says what that was.
async fn prepare(service: &Service) -> Value {
    let gateway = service.gateway();
    let submit = async |function: &str, arguments: &[&str]| {
        let call = service.call(function, arguments);
        let done = gateway.submit_transaction(&call).await.unwrap();
        json!({ "id": done.tx_id, "block": done.block })
    };
    // More than fit on one page of a list.
    for number in 0..FILLING {
        submit("Put", &[&format!("filling-{number}"), "one of many"]).await;
    }
    submit("CreateAsset", &["asset1", "blue", "5", "Tomoko", "300"]).await;

    // Both are endorsed from the same state, so the second comes too late.
    let update = |owner| service.call("UpdateAsset", &["asset1", "red", "7", owner, "400"]);
    let first = gateway.endorse(&update("Max"), &[]).await.unwrap();
    let second = gateway.endorse(&update("Jin"), &[]).await.unwrap();
    let valid = commit(&gateway, first, TxValidationCode::Valid).await;
    let conflict = commit(&gateway, second, TxValidationCode::MvccReadConflict).await;

    let mut hostile = submit("Put", &[HOSTILE_KEY, HOSTILE_VALUE]).await;
    hostile["key"] = HOSTILE_KEY.into();
    hostile["value"] = HOSTILE_VALUE.into();
    let value = "No line ends here. ".repeat(LARGE / 19 + 1);
    let mut large = submit("Put", &["large", &value[..LARGE]]).await;
    large["length"] = LARGE.into();
    json!({ "valid": valid, "conflict": conflict, "hostile": hostile, "large": large })
}

/// User and password as `selvage up` prints them for a person.
fn first_password(data: &Path) -> (String, String) {
    let output = Command::new(binary("selvage"))
        .args(["up", "--detach", "--data"])
        .arg(data)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let after = |name: &str| {
        let rest = said.split(name).nth(1).unwrap_or_default();
        rest.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    (after(" user "), after(" first password "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_finds_their_way_in_a_real_browser() {
    let Some(chromium) = chromium() else { return };
    let folder = root().join("tests/browser");
    let ci = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
    npm(&folder, &ci, &[]);
    npm(&folder, &["run", "--silent", "build"], &[]);

    let service = Service::up(&[]);
    let data = service.folder().join("data");
    let (user, password) = first_password(&data);
    let mut facts = prepare(&service).await;
    let more = json!({
        "console": service.said().console,
        "user": user,
        "password": password,
        "channel": service.said().channel,
        "selvage": binary("selvage"),
        "data": data,
        "chromium": chromium,
        "shots": root().join("build/browser"),
    });
    let both = facts.as_object_mut().unwrap();
    both.extend(more.as_object().unwrap().clone());
    let file = service.folder().join("facts.json");
    std::fs::write(&file, facts.to_string()).unwrap();
    // The network keeps its builds to itself, also when the browser's test starts it again.
    let builds = service.folder().join("builds");
    let environment: [(&str, &Path); 2] = [
        ("SELVAGE_BROWSER_FACTS", &file),
        ("SELVAGE_BUILD_CACHE", &builds),
    ];
    npm(&folder, &["test", "--silent"], &environment);
}

/// The units of the console that need no browser.
#[test]
fn the_consoles_own_tests_pass() {
    npm(&root().join("web"), &["test", "--silent"], &[]);
}

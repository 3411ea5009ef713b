//! What a person starts by hand, beside the test that runs this: the Makefile's `up` and `down`, and
//! the benchmark, in its shortest form. They use `build/bin`, as they do by hand.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;

use selvage_network_tests::{Service, nodes_of, root, says};

/// A command at the top of the checkout, as from a person's shell: without what the `make` that
/// runs the tests hands down.
fn command(program: &str) -> Command {
    let built = root().join("build/bin/selvage");
    assert!(
        built.exists(),
        "{} is missing: run `make build`",
        built.display()
    );
    let mut command = Command::new(program);
    command.current_dir(root());
    for variable in ["MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL"] {
        command.env_remove(variable);
    }
    command
}

/// Runs a command that has to succeed and returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A recipe of the Makefile. What it needs is built already.
fn make(target: &str, folder: &Path) -> String {
    let data = format!("DATA={}", folder.join("data").display());
    let mut make = command("make");
    make.env("SELVAGE_BUILD_CACHE", folder.join("builds"));
    run(make.args(["--silent", "--old-file=build", target, &data]))
}

#[test]
fn make_starts_a_network_and_stops_it() {
    let folder = tempfile::Builder::new()
        .prefix("selvage-")
        .tempdir()
        .unwrap();
    let printed = make("up", folder.path());
    // Stops it, whatever comes.
    let service = Service::resumed(folder);
    let words = ["Console", "first password", "SDK", "User", "Submit"];
    says(&printed, &words);
    let line = printed.lines().last().unwrap();
    let line = line.strip_prefix("Submit").unwrap();
    run(command("sh").args(["-c", line]));
    assert_eq!(nodes_of(service.folder()).len(), 3);
    make("down", service.folder());
    assert_eq!(nodes_of(service.folder()), []);
}

#[test]
fn the_benchmark_runs() {
    if let Err(error) = command("python3").arg("--version").output() {
        let message = format!("the_benchmark_runs DID NOT RUN: no python3 ({error})");
        assert!(std::env::var_os("CI").is_none(), "{message}");
        eprintln!("\n*** {message} ***\n");
        return;
    }
    let mut bench = command("python3");
    bench.arg("tools/bench/run.py");
    bench.args(["--runs", "1", "--seconds", "1"]);
    bench.args(["--only", "contracts", "--contracts", "node"]);
    let table = run(&mut bench);
    let words = [
        "# Figures",
        "first committed transaction",
        "| one client, one transaction at a time | TypeScript |",
        "| 50 clients, evaluate through the gateway | TypeScript |",
    ];
    says(&table, &words);
    assert!(!table.contains("errors, "), "errors or losses: {table}");
}

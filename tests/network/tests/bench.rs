//! `selvage bench` in every way it can load a network, for two seconds each. What it measures is
//! `make bench`'s; here it has to count right.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use selvage_network_tests::{Service, selvage_in};
use serde_json::Value;

/// Enough to keep every node busy, few enough for a busy machine.
const CLIENTS: &str = "10";

#[test]
fn every_kind_of_load_is_counted() {
    let service = Service::up(&[]);
    let network = service.file();
    let network = network.to_str().unwrap();
    for (flags, mode) in [
        (&[][..], "open"),
        (&["--closed"], "closed"),
        (&["--gateway"], "open, gateway"),
        (&["--closed", "--gateway"], "closed, gateway"),
    ] {
        let report = load(&service, &["--network", network], flags);
        assert_eq!(report["mode"], mode);
        everybody_worked(&report);
    }
    for (flags, mode) in [
        (&["--evaluate"][..], "evaluate"),
        (&["--evaluate", "--gateway"], "evaluate, gateway"),
    ] {
        let report = load(&service, &["--network", network], flags);
        assert_eq!(report["mode"], mode);
        // One peer answers, and its chaincode; nobody else has to do anything.
        assert_eq!(worked(&report, "load"), 1, "{report}");
        assert!(worked(&report, "peer:") >= 2, "{report}");
    }
    let profile = profile(&service);
    let report = load(&service, &["--profile", profile.to_str().unwrap()], &[]);
    assert_eq!(report["mode"], "open");
    everybody_worked(&report);
}

/// The SDK configuration of the network.
fn profile(service: &Service) -> PathBuf {
    let files = std::fs::read_dir(service.folder().join("data/sdk")).unwrap();
    let mut files = files.map(|file| file.unwrap().path());
    let is_profile = |path: &Path| path.extension().is_some_and(|e| e == "yaml");
    files.find(|path| is_profile(path)).unwrap()
}

fn load(service: &Service, network: &[&str], flags: &[&str]) -> Value {
    let mut arguments = vec!["bench", "--clients", CLIENTS, "--seconds", "2", "--json"];
    arguments.extend_from_slice(network);
    arguments.extend_from_slice(flags);
    let output = selvage_in(service.folder(), &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("{report}");
    let number = |key: &str| {
        report[key]
            .as_f64()
            .unwrap_or_else(|| panic!("{key}: {report}"))
    };
    assert_eq!((number("errors"), number("lost")), (0.0, 0.0), "{report}");
    assert!(number("tps") > 0.0, "{report}");
    let percentiles = ["p50_ms", "p95_ms", "p99_ms"].map(number);
    assert!(percentiles[0] > 0.0 && percentiles.is_sorted(), "{report}");
    let parts = report["cpu_us_per_tx"].as_object().unwrap().values();
    let sum: f64 = parts.map(|us| us.as_f64().unwrap()).sum();
    let total = number("cpu_us_per_tx_total");
    // Each part is rounded to a tenth.
    assert!(total > 0.0 && (total - sum).abs() < 1.0, "{report}");
    report
}

/// How many processes whose name begins so have used processor time.
fn worked(report: &Value, name: &str) -> usize {
    let processes = report["cpu_us_per_tx"].as_object().unwrap();
    let named = processes.iter().filter(|(key, _)| key.starts_with(name));
    named.filter(|(_, us)| us.as_f64().unwrap() > 0.0).count()
}

/// Two peers with a chaincode each, the orderer and the load generator.
#[track_caller]
fn everybody_worked(report: &Value) {
    let processes = report["cpu_us_per_tx"].as_object().unwrap();
    let chaincode = |name: &str| name.starts_with("peer:") && name.ends_with(" children");
    let chaincodes = processes.keys().filter(|name| chaincode(name)).count();
    assert_eq!(chaincodes, 2, "{report}");
    assert_eq!(worked(report, "peer:"), 2 + chaincodes, "{report}");
    assert!(worked(report, "orderer:") >= 1, "{report}");
    assert!(worked(report, "load") >= 1, "{report}");
}

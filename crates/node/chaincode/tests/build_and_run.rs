//! Builds and runs small projects with the real tools, under the confinement of this host.
//!
//! A missing tool fails these tests in CI and is said loudly elsewhere.
#![allow(clippy::unwrap_used)] // Helpers of tests, which the lint takes for other code.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use selvage_chaincode::host::{HostConfig, LocalHost, OutputSink};
use selvage_chaincode::package::{ChaincodeKind, Package, SourceFile, write_package};
use selvage_chaincode::runtime::{
    ChaincodeHost, ChaincodeLogging, ClientCertificate, HostError, PackageSource, StartRequest,
    Target,
};

const TAG: &str = "peer.chaincode.dev-peer-964fe19e96d4e28ffc5dd590fd232d6a062e6fea-0-demo-1.0";

#[derive(Default)]
struct Packages(Mutex<HashMap<String, Bytes>>);

impl PackageSource for Packages {
    fn package(&self, package_id: &str) -> Result<Option<Bytes>, String> {
        Ok(self.0.lock().unwrap().get(package_id).cloned())
    }
}

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl OutputSink for Lines {
    fn line(&self, tag: &str, line: &str) {
        self.0.lock().unwrap().push(format!("[{tag}] {line}"));
    }
}

struct Bench {
    folder: tempfile::TempDir,
    packages: Arc<Packages>,
    lines: Arc<Lines>,
    host: LocalHost,
}

fn bench(change: impl FnOnce(&mut HostConfig)) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let mut config = HostConfig::new(
        folder.path().join("cache"),
        folder.path().join("peer/chaincode"),
    );
    config.failure_memory = Duration::ZERO;
    change(&mut config);
    let (packages, lines) = (Arc::new(Packages::default()), Arc::new(Lines::default()));
    let host = LocalHost::new(config, packages.clone(), lines.clone());
    Bench {
        folder,
        packages,
        lines,
        host,
    }
}

impl Bench {
    fn install(&self, kind: &ChaincodeKind, path: &str, files: &[(&str, &str)]) -> String {
        let files = files
            .iter()
            .map(|(name, contents)| SourceFile {
                name: (*name).to_owned(),
                contents: Bytes::copy_from_slice(contents.as_bytes()),
                executable: false,
            })
            .collect();
        let bytes = write_package("demo_1.0", kind, path, files).unwrap();
        let id = Package::open(&bytes).unwrap().id().to_owned();
        self.packages.0.lock().unwrap().insert(id.clone(), bytes);
        id
    }

    fn start_request(&self, package_id: &str) -> StartRequest {
        StartRequest {
            package_id: package_id.to_owned(),
            peer_address: "127.0.0.1:7052".into(),
            msp_id: "Org1MSP".into(),
            logging: ChaincodeLogging::default(),
            tls: Some(ClientCertificate {
                certificate_pem: "CERT".into(),
                key_pem: "KEY".into(),
                certificate_der: Bytes::new(),
                root_pem: "ROOT".into(),
            }),
            log_tag: TAG.into(),
        }
    }

    /// Waits for a line that contains `wanted`.
    async fn line(&self, wanted: &str) -> String {
        let begun = Instant::now();
        loop {
            let found = self
                .lines
                .0
                .lock()
                .unwrap()
                .iter()
                .find(|line| line.contains(wanted))
                .cloned();
            if let Some(line) = found {
                return line;
            }
            let lines = self.lines.0.lock().unwrap().clone();
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "no {wanted:?} in {lines:#?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn have(program: &str, test: &str) -> bool {
    let found = Command::new(program).arg("version").output().is_ok();
    if !found {
        let message = format!("{test} DID NOT RUN: there is no {program}");
        assert!(std::env::var_os("CI").is_none(), "{message}");
        eprintln!("\n*** {message} ***\n");
    }
    found
}

const NODE_PACKAGE: &str = r#"{
  "name": "demo", "version": "1.0.0", "main": "dist/index.js",
  "scripts": { "build": "node build.js", "start": "node dist/index.js" }
}"#;
/// Stands for a compiler: it writes the program that is then started.
const NODE_BUILD: &str = r#"
const fs = require('fs');
fs.mkdirSync('dist');
fs.writeFileSync('dist/index.js', fs.readFileSync('index.js'));
console.log('compiled as ' + process.env.HOME);
"#;
const NODE_MAIN: &str = r#"
const fs = require('fs');
const tried = (name, what) => { try { what(); console.log(name, 'works'); }
                                catch (e) { console.log(name, 'fails:', e.code); } };
const env = process.env;
console.log('args', process.argv.slice(2).join(' '));
console.log('id', env.CORE_CHAINCODE_ID_NAME, 'msp', env.CORE_PEER_LOCALMSPID,
            'tls', env.CORE_PEER_TLS_ENABLED, 'level', env.CORE_CHAINCODE_LOGGING_LEVEL);
const read = (name) => fs.readFileSync(env[name], 'utf8');
console.log('pem', read('CORE_TLS_CLIENT_CERT_FILE'), read('CORE_TLS_CLIENT_KEY_FILE'),
            read('CORE_PEER_TLS_ROOTCERT_FILE'));
console.log('base64', read('CORE_TLS_CLIENT_CERT_PATH'), read('CORE_TLS_CLIENT_KEY_PATH'));
tried('secret', () => fs.readFileSync(SECRET));
tried('own folder', () => fs.writeFileSync('mark', 'x'));
tried('temporary', () => fs.writeFileSync(require('os').tmpdir() + '/mark', 'x'));
console.error('to stderr');
if (env.ALLOCATE) {
    const hoard = [];
    setInterval(() => hoard.push(Buffer.alloc(20 << 20, 1)), 50);
}
setInterval(() => {}, 1000);
"#;

fn node_files(secret: &Path) -> [(&'static str, String); 3] {
    let secret = format!("{:?}", secret.to_string_lossy());
    [
        ("src/package.json", NODE_PACKAGE.to_owned()),
        ("src/build.js", NODE_BUILD.to_owned()),
        ("src/index.js", NODE_MAIN.replace("SECRET", &secret)),
    ]
}

fn secret_of(bench: &Bench) -> PathBuf {
    let secret = bench.folder.path().join("peer/msp/key.pem");
    std::fs::create_dir_all(secret.parent().unwrap()).unwrap();
    std::fs::write(&secret, "secret").unwrap();
    secret
}

fn install_node(bench: &Bench) -> String {
    let files = node_files(&secret_of(bench));
    let files: Vec<(&str, &str)> = files.iter().map(|(n, c)| (*n, c.as_str())).collect();
    bench.install(&ChaincodeKind::Node, ".", &files)
}

#[tokio::test]
async fn a_node_project_is_built_and_run() {
    if !have("npm", "a_node_project_is_built_and_run") {
        return;
    }
    let bench = bench(|_| {});
    let id = install_node(&bench);
    assert_eq!(bench.host.build(&id).await, Ok(Target::Process));
    let log = bench.host.build_log(&id).unwrap();
    for wanted in [
        "$ npm install",
        "$ npm run build",
        "compiled as",
        "build finished",
    ] {
        assert!(log.contains(wanted), "no {wanted:?} in {log}");
    }
    let running = bench.host.start(bench.start_request(&id)).await.unwrap();
    bench.line("to stderr").await;
    for wanted in [
        "args --peer.address 127.0.0.1:7052",
        &format!("id {id} msp Org1MSP tls true level info"),
        "pem CERT KEY ROOT",
        "base64 Q0VSVA== S0VZ",
        "secret fails: ENOENT",
        "temporary works",
    ] {
        let line = bench.line(wanted).await;
        assert_eq!(line, format!("[{TAG}] {wanted}"));
    }
    assert!(bench.line("own folder fails").await.contains("EROFS"));
    running.stop.stop();
    assert_eq!(running.exited.await, "stopped by the peer");
    let left: Vec<_> = std::fs::read_dir(bench.folder.path().join("peer/chaincode"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_chaincode_that_takes_too_much_memory_is_stopped() {
    if !have("npm", "a_chaincode_that_takes_too_much_memory_is_stopped") {
        return;
    }
    let bench = bench(|config| {
        config.run_limits.memory = 256 << 20;
        config.run_environment.insert("ALLOCATE".into(), "1".into());
    });
    let id = install_node(&bench);
    let running = bench.host.start(bench.start_request(&id)).await.unwrap();
    let reason = running.exited.await;
    assert!(
        reason.contains("more than the limit of 256 MiB"),
        "{reason}"
    );
    assert!(
        bench
            .line("more than the limit of 256 MiB")
            .await
            .starts_with(&format!("[{TAG}]"))
    );
}

const GO_MAIN: &str = r#"package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	fmt.Println("args", strings.Join(os.Args[1:], " "))
	fmt.Println("id", os.Getenv("CORE_CHAINCODE_ID_NAME"))
	_, err := os.ReadFile("SECRET")
	fmt.Println("secret", err != nil)
	if os.Getenv("ALLOCATE") != "" {
		var hoard [][]byte
		for {
			block := make([]byte, 20<<20)
			for i := range block {
				block[i] = 1
			}
			hoard = append(hoard, block)
			fmt.Println(len(hoard))
			time.Sleep(50 * time.Millisecond)
		}
	}
	time.Sleep(time.Hour)
}
"#;

fn install_go(bench: &Bench) -> String {
    let main = GO_MAIN.replace("SECRET", &secret_of(bench).to_string_lossy());
    let files = [
        ("src/go.mod", "module example.com/demo\n\ngo 1.20\n"),
        ("src/main.go", &main),
    ];
    bench.install(&ChaincodeKind::Golang, "example.com/demo", &files)
}

#[tokio::test]
async fn a_go_project_is_built_once_and_run_without_its_tool() {
    if !have("go", "a_go_project_is_built_once_and_run_without_its_tool") {
        return;
    }
    let bench = bench(|_| {});
    let id = install_go(&bench);
    bench.host.build(&id).await.unwrap();
    // Another peer of the same host, on which Go is not found, uses the build.
    let mut config = HostConfig::new(
        bench.folder.path().join("cache"),
        bench.folder.path().join("other/chaincode"),
    );
    config.tool_path = Some("/usr/bin:/bin".into());
    let other = LocalHost::new(config, bench.packages.clone(), bench.lines.clone());
    assert_eq!(other.build(&id).await, Ok(Target::Process));
    let running = other.start(bench.start_request(&id)).await.unwrap();
    bench.line("args -peer.address=127.0.0.1:7052").await;
    bench.line(&format!("id {id}")).await;
    bench.line("secret true").await;
    drop(running.stop);
    assert_eq!(running.exited.await, "stopped by the peer");
}

#[tokio::test]
async fn a_go_chaincode_that_takes_too_much_memory_is_stopped() {
    if !have("go", "a_go_chaincode_that_takes_too_much_memory_is_stopped") {
        return;
    }
    let bench = bench(|config| {
        config.run_limits.memory = 128 << 20;
        config.run_environment.insert("ALLOCATE".into(), "1".into());
    });
    let id = install_go(&bench);
    let running = bench.host.start(bench.start_request(&id)).await.unwrap();
    let reason = running.exited.await;
    assert!(
        reason.contains("more than the limit of 128 MiB"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_broken_project_says_why() {
    if !have("go", "a_broken_project_says_why") {
        return;
    }
    let bench = bench(|_| {});
    let files = [
        ("src/go.mod", "module demo\n"),
        ("src/main.go", "package main\n\nfunc main( {}\n"),
    ];
    let id = bench.install(&ChaincodeKind::Golang, "demo", &files);
    let error = bench.host.build(&id).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("main.go:3") && text.contains("exited with 1"),
        "{text}"
    );
    assert!(bench.host.build_log(&id).unwrap().contains("syntax error"));
}

#[tokio::test]
async fn a_slow_build_is_stopped() {
    if !have("npm", "a_slow_build_is_stopped") {
        return;
    }
    let bench = bench(|config| config.build_timeout = Duration::from_secs(3));
    let package = r#"{"main":"none.js","scripts":{"build":"sleep 600","start":"x"}}"#;
    let id = bench.install(&ChaincodeKind::Node, ".", &[("src/package.json", package)]);
    let text = bench.host.build(&id).await.unwrap_err().to_string();
    assert!(
        text.contains("took longer than the limit of 3 seconds"),
        "{text}"
    );
}

#[tokio::test]
async fn what_cannot_be_built_is_refused_with_a_remedy() {
    let bench = bench(|config| config.tool_path = Some("/nonexistent".into()));
    let check = async |id: &str, wanted: &str| {
        let text = bench.host.build(id).await.unwrap_err().to_string();
        assert!(
            text.contains(wanted),
            "{text:?} does not contain {wanted:?}"
        );
    };
    check(
        "demo:00",
        "chaincode package 'demo:00' is not installed on this peer",
    )
    .await;
    let wasm = bench.install(&ChaincodeKind::Other("wasm".into()), ".", &[("src/a", "")]);
    check(&wasm, "Unknown chaincodeType: wasm").await;
    let service = bench.install(&ChaincodeKind::Service, ".", &[("src/a", "")]);
    check(
        &service,
        "connection.json not found in the chaincode package",
    )
    .await;
    let id = bench.install(&ChaincodeKind::Node, ".", &[("src/package.json", "{}")]);
    bench
        .packages
        .0
        .lock()
        .unwrap()
        .insert("demo_1.0:bad".into(), Bytes::from("no package"));
    check(
        "demo_1.0:bad",
        "is not usable: error reading as gzip stream",
    )
    .await;
    let swapped = bench.packages.0.lock().unwrap()[&id].clone();
    bench
        .packages
        .0
        .lock()
        .unwrap()
        .insert("demo_1.0:swapped".into(), swapped);
    check("demo_1.0:swapped", "its contents are those of").await;
}

#[tokio::test]
async fn a_missing_tool_is_an_error_of_the_build() {
    let bench = bench(|config| {
        // The confinement is found, the language's tools are not.
        let tools = config.cache_dir.with_file_name("tools");
        std::fs::create_dir(&tools).unwrap();
        std::os::unix::fs::symlink("/usr/bin/bwrap", tools.join("bwrap")).unwrap();
        config.tool_path = Some(tools.into());
    });
    let id = bench.install(
        &ChaincodeKind::Golang,
        "demo",
        &[("src/go.mod", "module demo\n")],
    );
    let error = bench.host.build(&id).await.unwrap_err();
    assert!(matches!(error, HostError::Build { .. }));
    let text = error.to_string();
    assert!(
        text.contains("needs the program 'go'") && text.contains("install Go"),
        "{text}"
    );
}

#[tokio::test]
async fn a_service_is_described_and_not_built() {
    let bench = bench(|config| {
        config
            .service_variables
            .insert("peername".into(), "peer0org1".into());
    });
    let json =
        r#"{"address":"{{.peername}}_basic:9999","dial_timeout":"10s","tls_required":false}"#;
    let id = bench.install(&ChaincodeKind::Service, "", &[("connection.json", json)]);
    let Ok(Target::Server(endpoint)) = bench.host.build(&id).await else {
        panic!("not a service");
    };
    assert_eq!(endpoint.address, "peer0org1_basic:9999");
    assert_eq!(
        (endpoint.dial_timeout, endpoint.tls),
        (Duration::from_secs(10), None)
    );
}

//! The steps that turn a package's code into something to run, as Fabric's platforms do it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::package::{ChaincodeKind, Package};

use super::cache::Manifest;

/// Where the code archive is unpacked, below the build's folder.
pub(super) const CODE: &str = "code";
/// Where a build puts a product of its own.
pub(super) const OUT: &str = "out";

/// One program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) program: &'static str,
    pub(super) args: Vec<String>,
    pub(super) cwd: PathBuf,
    pub(super) env: BTreeMap<OsString, OsString>,
}

/// All steps, and how to run their result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) manifest: Manifest,
    /// A file the steps must have made.
    pub(super) product: PathBuf,
    /// Not needed afterwards.
    pub(super) discard: Vec<PathBuf>,
}

/// Plans the build of a package whose code lies unpacked in `folder`/code.
pub(super) fn plan(package: &Package, folder: &Path) -> Result<Plan, String> {
    match package.kind() {
        ChaincodeKind::Node => plan_node(folder),
        ChaincodeKind::Golang => plan_go(package.path(), folder),
        ChaincodeKind::Java => plan_java(folder),
        ChaincodeKind::Service => Err("a chaincode service is not built".to_owned()),
        ChaincodeKind::Other(kind) => Err(format!("Unknown chaincodeType: {kind}")),
    }
}

fn step(program: &'static str, args: &[&str], cwd: &Path) -> Step {
    Step {
        program,
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        cwd: cwd.to_owned(),
        env: BTreeMap::new(),
    }
}

fn plan_node(folder: &Path) -> Result<Plan, String> {
    let source = folder.join(CODE).join("src");
    let package = read_package_json(&source)?;
    let script = |name: &str| {
        package["scripts"][name]
            .as_str()
            .map(str::trim)
            .unwrap_or_default()
    };
    let start = script("start");
    if start.is_empty() {
        return Err(
            "package.json has no start script; Node chaincode is started with 'npm start', \
                    usually \"start\": \"fabric-chaincode-node start\""
                .to_owned(),
        );
    }
    let locked = ["package-lock.json", "npm-shrinkwrap.json"]
        .iter()
        .any(|n| source.join(n).is_file());
    let install = if locked { "ci" } else { "install" };
    let steps = if !script("build").is_empty() && !has_main(&source, &package) {
        vec![
            step("npm", &[install, "--include=dev"], &source),
            step("npm", &["run", "build"], &source),
            step("npm", &["prune", "--omit=dev"], &source),
        ]
    } else {
        vec![step("npm", &[install, "--omit=dev"], &source)]
    };
    let (program, args) = node_start(start);
    Ok(Plan {
        steps,
        manifest: Manifest {
            kind: ChaincodeKind::Node.as_str().to_owned(),
            folder: format!("{CODE}/src"),
            program,
            args,
        },
        product: source.join("package.json"),
        discard: Vec::new(),
    })
}

fn read_package_json(source: &Path) -> Result<Value, String> {
    let text = fs::read(source.join("package.json")).map_err(|_| {
        "no package.json found at the root of the chaincode package (src/package.json)".to_owned()
    })?;
    serde_json::from_slice(&text).map_err(|error| format!("package.json is not JSON: {error}"))
}

/// Whether the module's entry is there, that is, whether TypeScript was compiled before.
fn has_main(source: &Path, package: &Value) -> bool {
    let main = package["main"].as_str().unwrap_or("index.js");
    let entry = source.join(main);
    entry.is_file()
        || source.join(format!("{main}.js")).is_file()
        || entry.join("index.js").is_file()
}

/// The program behind the start script: the shim's own launcher without `npm` around it, which
/// would stay in memory, or `npm start` when the script does anything else.
fn node_start(script: &str) -> (String, Vec<String>) {
    let plain = script.strip_prefix("set -x &&").unwrap_or(script).trim();
    let words: Vec<&str> = plain.split_ascii_whitespace().collect();
    let simple = plain
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '/' | '=' | ':'));
    match words.as_slice() {
        ["fabric-chaincode-node", rest @ ..] if simple => (
            "./node_modules/.bin/fabric-chaincode-node".to_owned(),
            rest.iter().map(|word| (*word).to_owned()).collect(),
        ),
        _ => ("npm".to_owned(), vec!["start".to_owned(), "--".to_owned()]),
    }
}

fn plan_go(path: &str, folder: &Path) -> Result<Plan, String> {
    check_import_path(path)?;
    let code = folder.join(CODE);
    let source = code.join("src");
    let product = folder.join(OUT).join("chaincode");
    let output = product.to_string_lossy().into_owned();
    let build = |extra: &[&str], target: &str, cwd: &Path| {
        let mut args = vec!["build", "-v", "-ldflags=-s -w", "-o", &output];
        args.splice(2..2, extra.iter().copied());
        args.push(target);
        step("go", &args, cwd)
    };
    let module = |root: &Path| {
        let vendored = root.join("vendor").is_dir();
        root.join("go.mod").is_file().then_some(if vendored {
            "-mod=vendor"
        } else {
            "-mod=readonly"
        })
    };
    let nested = source.join(path);
    let step = if let Some(mode) = module(&source) {
        build(&[mode], if path.is_empty() { "." } else { path }, &source)
    } else if let Some(mode) = module(&nested) {
        build(&[mode], ".", &nested)
    } else {
        let mut step = build(&[], path, &code);
        step.env.insert("GO111MODULE".into(), "off".into());
        step.env.insert("GOPATH".into(), code.clone().into());
        step
    };
    Ok(Plan {
        steps: vec![step],
        manifest: Manifest {
            kind: ChaincodeKind::Golang.as_str().to_owned(),
            folder: OUT.to_owned(),
            program: "./chaincode".to_owned(),
            args: Vec::new(),
        },
        product,
        discard: vec![code],
    })
}

/// The path goes to a command line and into file names.
fn check_import_path(path: &str) -> Result<(), String> {
    let fine = path.split('/').all(|part| part != "..")
        && !path.starts_with(['-', '/'])
        && path
            .chars()
            .all(|c| c.is_alphanumeric() || "-_.~/+@".contains(c));
    if fine {
        return Ok(());
    }
    Err(format!(
        "the path '{path}' in metadata.json is not the import path of a Go package"
    ))
}

fn plan_java(folder: &Path) -> Result<Plan, String> {
    let source = folder.join(CODE).join("src");
    if !source.join("pom.xml").is_file() {
        return Err(
            "Java chaincode is built with Maven and needs src/pom.xml; build Gradle \
                    projects beforehand and deploy them as a service (type 'ccaas')"
                .to_owned(),
        );
    }
    let jar = source.join("target").join("chaincode.jar");
    Ok(Plan {
        steps: vec![step(
            "mvn",
            &["-B", "-q", "-DskipTests", "package"],
            &source,
        )],
        manifest: Manifest {
            kind: ChaincodeKind::Java.as_str().to_owned(),
            folder: format!("{CODE}/src"),
            program: "java".to_owned(),
            args: vec!["-jar".to_owned(), "target/chaincode.jar".to_owned()],
        },
        product: jar,
        discard: Vec::new(),
    })
}

/// How a built chaincode is told where its peer is.
pub(super) fn address_args(kind: &ChaincodeKind, peer_address: &str) -> Vec<String> {
    match kind {
        ChaincodeKind::Golang => vec![format!("-peer.address={peer_address}")],
        ChaincodeKind::Java => vec!["--peerAddress".to_owned(), peer_address.to_owned()],
        _ => vec!["--peer.address".to_owned(), peer_address.to_owned()],
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

use std::fs;

use bytes::Bytes;

use super::*;
use crate::package::{SourceFile, write_package};

/// Plans the build of a package with these files and shows it as command lines.
fn planned(
    kind: &ChaincodeKind,
    path: &str,
    files: &[(&str, &str)],
) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().unwrap();
    let sources = files
        .iter()
        .map(|(name, contents)| SourceFile {
            name: (*name).to_owned(),
            contents: Bytes::copy_from_slice(contents.as_bytes()),
            executable: false,
        })
        .collect();
    let package = Package::open(&write_package("p", kind, path, sources).unwrap()).unwrap();
    let code = folder.path().join(CODE);
    fs::create_dir(&code).unwrap();
    package.unpack_code(&code).unwrap();
    let plan = plan(&package, folder.path())?;
    let top = folder.path().to_string_lossy().into_owned();
    let mut shown: Vec<String> = plan
        .steps
        .iter()
        .map(|step| {
            let cwd = step.cwd.to_string_lossy().replace(&top, "");
            let env: String = step
                .env
                .iter()
                .map(|(k, v)| format!("{}={} ", k.display(), v.display()).replace(&top, ""))
                .collect();
            format!("{cwd}$ {env}{} {}", step.program, step.args.join(" ")).replace(&top, "")
        })
        .collect();
    let args = plan.manifest.args.join(" ");
    shown.push(format!(
        "{}> {} {args}",
        plan.manifest.folder, plan.manifest.program
    ));
    Ok(shown)
}

#[test]
fn node_projects() {
    let check = |files: &[(&str, &str)], wanted: &[&str]| {
        assert_eq!(planned(&ChaincodeKind::Node, ".", files).unwrap(), wanted);
    };
    let plain = r#"{"scripts":{"start":"fabric-chaincode-node start"}}"#;
    let start = "code/src> ./node_modules/.bin/fabric-chaincode-node start";
    check(
        &[("src/package.json", plain)],
        &["/code/src$ npm install --omit=dev", start],
    );
    check(
        &[("src/package.json", plain), ("src/package-lock.json", "{}")],
        &["/code/src$ npm ci --omit=dev", start],
    );
    let typescript = r#"{"main":"dist/index.js","scripts":{
        "build":"tsc","start":"set -x && fabric-chaincode-node start"}}"#;
    check(
        &[
            ("src/package.json", typescript),
            ("src/npm-shrinkwrap.json", "{}"),
        ],
        &[
            "/code/src$ npm ci --include=dev",
            "/code/src$ npm run build",
            "/code/src$ npm prune --omit=dev",
            start,
        ],
    );
    check(
        &[("src/package.json", typescript), ("src/dist/index.js", "")],
        &["/code/src$ npm install --omit=dev", start],
    );
    let own = r#"{"scripts":{"start":"node index.js && echo bye"}}"#;
    check(
        &[("src/package.json", own)],
        &[
            "/code/src$ npm install --omit=dev",
            "code/src> npm start --",
        ],
    );
    let tricky = r#"{"scripts":{"start":"fabric-chaincode-node start; $(id)"}}"#;
    check(
        &[("src/package.json", tricky)],
        &[
            "/code/src$ npm install --omit=dev",
            "code/src> npm start --",
        ],
    );
}

#[test]
fn go_projects() {
    let check = |path: &str, files: &[(&str, &str)], wanted: &str| {
        let shown = planned(&ChaincodeKind::Golang, path, files).unwrap();
        assert_eq!(shown, [wanted, "out> ./chaincode "]);
    };
    check(
        "example.com/cc",
        &[("src/go.mod", "module example.com/cc")],
        "/code/src$ go build -v -mod=readonly -ldflags=-s -w -o /out/chaincode example.com/cc",
    );
    check(
        "example.com/cc/cmd",
        &[("src/go.mod", ""), ("src/vendor/modules.txt", "")],
        "/code/src$ go build -v -mod=vendor -ldflags=-s -w -o /out/chaincode example.com/cc/cmd",
    );
    check(
        "cc",
        &[("src/cc/go.mod", "module cc")],
        "/code/src/cc$ go build -v -mod=readonly -ldflags=-s -w -o /out/chaincode .",
    );
    check(
        "cc",
        &[("src/cc/main.go", "package main")],
        "/code$ GO111MODULE=off GOPATH=/code go build -v -ldflags=-s -w -o /out/chaincode cc",
    );
    for path in ["-toolexec=/bin/sh", "../x", "/etc", "a b", "a;b", "a/../b"] {
        let error = planned(&ChaincodeKind::Golang, path, &[("src/go.mod", "")]).unwrap_err();
        assert!(error.contains("not the import path"), "{error}");
    }
}

#[test]
fn other_projects() {
    let check = |kind: &ChaincodeKind, files: &[(&str, &str)], wanted: &str| {
        let error = planned(kind, ".", files).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    };
    let java = planned(&ChaincodeKind::Java, ".", &[("src/pom.xml", "<project/>")]).unwrap();
    assert_eq!(java[1], "code/src> java -jar target/chaincode.jar");
    check(
        &ChaincodeKind::Java,
        &[("src/build.gradle", "")],
        "needs src/pom.xml",
    );
    check(
        &ChaincodeKind::Node,
        &[("src/index.js", "")],
        "no package.json found at the root",
    );
    check(
        &ChaincodeKind::Node,
        &[("src/package.json", "{")],
        "package.json is not JSON",
    );
    check(
        &ChaincodeKind::Node,
        &[("src/package.json", "{}")],
        "has no start script",
    );
    check(
        &ChaincodeKind::Other("wasm".into()),
        &[],
        "Unknown chaincodeType: wasm",
    );
}

//! Chaincode packages and zips of source code.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use selvage_chaincode::package::{
    ChaincodeKind, Limits, Package, SourceFile, SourceZip, package_id, validate_label,
    write_package,
};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::golden;
use crate::pick::{Pick, Put};
use crate::reach::reach;

/// Small enough that a bomb is found early.
const LIMITS: Limits = Limits {
    file: 1 << 20,
    expanded: 8 << 20,
    entries: 1000,
    ratio: 200,
};

/// A package that is opened is the same when opened again, and unpacks inside its folder.
pub(super) fn package(input: &[u8]) {
    let Ok(package) = Package::open_with(input, LIMITS) else {
        return;
    };
    reach("opened");
    assert_eq!(package.id(), package_id(package.label(), input));
    assert!(validate_label(package.label()).is_ok());
    assert_eq!(Package::open_with(input, LIMITS).as_ref(), Ok(&package));
    let files = package.statedb_files();
    assert!(
        files
            .iter()
            .all(|f| f.name.starts_with("META-INF/statedb/"))
    );
    unpack(&package);
}

/// What lies beside the folder that code is unpacked into.
const BESIDE: &str = "beside";

fn unpack(package: &Package) {
    // In memory where there is such a place: thousands of folders are made.
    let top = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let top = top.expect("a folder");
    let inside = top.path().join("code");
    std::fs::create_dir(&inside).expect("a folder");
    std::fs::write(top.path().join(BESIDE), BESIDE).expect("a file");
    let unpacked = package.unpack_code(&inside);
    let names: Vec<_> = std::fs::read_dir(top.path())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(
        names.len(),
        2,
        "only the code's folder is written to: {names:?}"
    );
    let beside = std::fs::read(top.path().join(BESIDE)).expect("still there");
    assert_eq!(beside, BESIDE.as_bytes());
    if unpacked.is_ok() {
        reach("unpacked");
        assert!(size_of(&inside) <= LIMITS.expanded);
    }
}

/// Bytes of the files below a folder, in which there is nothing but files and folders.
fn size_of(folder: &Path) -> u64 {
    let mut size = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let about = path.symlink_metadata().expect("about it");
        size += match (about.is_dir(), about.is_file()) {
            (true, _) => size_of(&path),
            (_, true) => about.len(),
            _ => panic!("{} is neither file nor folder", path.display()),
        };
    }
    size
}

fn sample(kind: &ChaincodeKind, files: &[(&str, &str)]) -> Bytes {
    let files = files
        .iter()
        .map(|(name, contents)| SourceFile {
            name: (*name).to_owned(),
            contents: Bytes::copy_from_slice(contents.as_bytes()),
            executable: name.ends_with(".sh"),
        })
        .collect();
    write_package("sample_1.0", kind, "example.com/m", files).expect("a package")
}

pub(super) fn package_seeds() -> Vec<Vec<u8>> {
    let node = sample(
        &ChaincodeKind::Node,
        &[
            ("src/package.json", "{}"),
            ("src/run.sh", "exit 0"),
            ("META-INF/statedb/couchdb/indexes/a.json", "{}"),
        ],
    );
    let service = sample(
        &ChaincodeKind::Service,
        &[("connection.json", r#"{"address":"h:1"}"#)],
    );
    let mut seeds = golden::files("corpus/network", |name| name.ends_with(".tgz"));
    seeds.extend([node.to_vec(), service.to_vec()]);
    seeds
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, contents) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, *contents)
            .expect("into memory");
    }
    builder.into_inner().expect("into memory")
}

/// The input is a tar: as the package itself, and as the code inside one.
pub(super) fn package_tar(input: &[u8]) {
    package(&gzip(&summed(input)));
    let metadata = br#"{"path":"p","type":"golang","label":"l"}"#.as_slice();
    let code = gzip(&summed(input));
    let outer = tar(&[("metadata.json", metadata), ("code.tar.gz", &code)]);
    package(&gzip(&outer));
}

/// A tar whose headers have the right sums, wherever that makes them headers.
fn summed(input: &[u8]) -> Vec<u8> {
    let mut out = input.to_vec();
    for block in out.chunks_exact_mut(512) {
        if block[257..262] != *b"ustar" {
            continue;
        }
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    out
}

pub(super) fn package_tar_seeds() -> Vec<Vec<u8>> {
    let plain = tar(&[
        ("src/go.mod", b"module m"),
        ("src/main.go", b"package main"),
        ("META-INF/statedb/couchdb/indexes/a.json", b"{}"),
    ]);
    let long = "d/".repeat(120) + "f";
    let deep = tar(&[(&long, b"x"), ("connection.json", b"{}")]);
    let code = gzip(&plain);
    let metadata = br#"{"path":"p","type":"node","label":"l"}"#;
    let outer = tar(&[("metadata.json", metadata), ("code.tar.gz", &code)]);
    vec![plain, deep, outer]
}

/// A zip that is taken becomes a package that is taken.
pub(super) fn source_zip(input: &[u8]) {
    for wanted in [None, Some(ChaincodeKind::Golang)] {
        let Ok(source) = SourceZip::open(input, wanted.as_ref(), &LIMITS) else {
            continue;
        };
        assert!(wanted.is_none_or(|kind| kind == *source.kind()));
        let file = source
            .into_package("sample")
            .expect("what was taken can be written");
        let package = Package::open(&file).expect("and be opened");
        unpack(&package);
    }
}

fn zip(files: &BTreeMap<String, Vec<u8>>) -> Option<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in files {
        let options = SimpleFileOptions::default();
        writer.start_file(name.as_str(), options).ok()?;
        writer.write_all(contents).ok()?;
    }
    Some(writer.finish().ok()?.into_inner())
}

fn trees() -> Vec<Vec<(&'static str, &'static str)>> {
    vec![
        vec![
            ("package.json", "{}"),
            ("lib/a.js", "x"),
            ("node_modules/b/c.js", "y"),
        ],
        vec![
            ("p/go.mod", "module example.com/m // it\n"),
            ("p/cmd/main.go", "package main\n"),
            ("p/META-INF/statedb/couchdb/indexes/i.json", "{}"),
        ],
        vec![
            ("deep/er/main.go", " package main // so\n"),
            ("deep/er/x.go", "package main"),
        ],
        vec![("java/pom.xml", "<project/>"), ("__MACOSX/._pom.xml", "")],
        vec![
            ("go.mod", "module \"..\"\n"),
            ("vendor/a/main.go", "package main"),
        ],
    ]
}

pub(super) fn source_zip_seeds() -> Vec<Vec<u8>> {
    trees()
        .into_iter()
        .filter_map(|tree| {
            let files = tree
                .into_iter()
                .map(|(n, c)| (n.to_owned(), c.as_bytes().to_vec()));
            zip(&files.collect())
        })
        .collect()
}

/// Pieces in turn are names and contents; the zip around them is whole.
pub(super) fn source_tree(input: &[u8]) {
    let mut pick = Pick::new(input);
    let mut files = BTreeMap::new();
    while !pick.is_empty() && files.len() < 50 {
        let name = pick.text();
        files.insert(name, pick.piece().to_vec());
    }
    if let Some(file) = zip(&files) {
        source_zip(&file);
    }
}

pub(super) fn source_tree_seeds() -> Vec<Vec<u8>> {
    trees()
        .into_iter()
        .map(|tree| {
            let put = |put: Put, (name, contents): (&str, &str)| put.piece(name).piece(contents);
            tree.into_iter().fold(Put::default(), put).rest([])
        })
        .collect()
}

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::*;

const CHINESE: &str =
    "链代码文件解压失败，可能原因是压缩包格式或内容错误，或未包含有效的链代码文件。";

/// A gzipped tar written as carelessly as a stranger may.
fn tgz(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for (name, kind, contents) in entries {
        let mut header = Header::new_ustar();
        // The library refuses bad names, so they are put in by hand.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(contents.len() as u64);
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        builder.append(&header, *contents).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn file<'a>(name: &'a str, contents: &'a [u8]) -> (&'a str, EntryType, &'a [u8]) {
    (name, EntryType::Regular, contents)
}

const METADATA: &[u8] = br#"{"path":"x","type":"node","label":"cc_1.0"}"#;

fn with_code(code: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    tgz(&[
        file("metadata.json", METADATA),
        file("code.tar.gz", &tgz(code)),
    ])
}

#[test]
fn a_package_has_label_kind_path_and_id() {
    let bytes = with_code(&[
        file("src/package.json", b"{}"),
        file("META-INF/statedb/couchdb/indexes/a.json", b"{\"index\":{}}"),
    ]);
    let package = Package::open(&bytes).unwrap();
    let hash = hex::encode(selvage_crypto::sha256(&bytes));
    assert_eq!(package.id(), format!("cc_1.0:{hash}"));
    assert_eq!((package.label(), package.path()), ("cc_1.0", "x"));
    assert_eq!(package.kind(), &ChaincodeKind::Node);
    assert_eq!(package.statedb_files().len(), 1);
    assert_eq!(package.statedb_files()[0].contents, "{\"index\":{}}");
    let folder = tempfile::tempdir().unwrap();
    package.unpack_code(folder.path()).unwrap();
    assert_eq!(
        std::fs::read(folder.path().join("src/package.json")).unwrap(),
        b"{}"
    );
}

#[test]
fn labels_follow_fabrics_rule() {
    let good = "0 a a++b a+b a- a--b a-bb a.b a__b a_b aa v1.0.0";
    let bad = [
        "", ".", ":", "_", "a#", "a$", "a%", "a::b", "a:b", "a a", "é", "a\n", "-a",
    ];
    for label in good.split(' ') {
        assert_eq!(validate_label(label), Ok(()), "{label}");
    }
    for label in bad {
        let text = validate_label(label).unwrap_err().to_string();
        assert_eq!(
            text,
            format!(
                "invalid label '{label}'. Label must be non-empty, can only consist of \
                 alphanumerics, symbols from '.+-_', and can only begin with alphanumerics"
            )
        );
    }
}

#[test]
fn kinds_are_read_in_any_case() {
    let check = |text: &str, kind: ChaincodeKind| assert_eq!(ChaincodeKind::parse(text), kind);
    check("golang", ChaincodeKind::Golang);
    check("GOLANG", ChaincodeKind::Golang);
    check("Node", ChaincodeKind::Node);
    check("javascript", ChaincodeKind::Node);
    check("java", ChaincodeKind::Java);
    check("ccaas", ChaincodeKind::Service);
    check("external", ChaincodeKind::Service);
    check("wasm", ChaincodeKind::Other("wasm".into()));
}

#[test]
fn bad_packages_are_refused_with_a_cause() {
    let code = tgz(&[file("src/package.json", b"{}")]);
    let whole = with_code(&[file("src/package.json", &[b'x'; 5000])]);
    let check = |bytes: &[u8], wanted: &str| {
        let text = Package::open(bytes).unwrap_err().to_string();
        assert!(
            text.contains(wanted),
            "{text:?} does not contain {wanted:?}"
        );
    };
    check(b"", "error reading as gzip stream: unexpected EOF");
    check(
        b"PK\x03\x04 this is a zip file",
        "error reading as gzip stream: gzip: invalid header",
    );
    check(&tgz(&[]), "did not find a code package inside the package");
    check(
        &tgz(&[file("metadata.json", METADATA)]),
        "did not find a code package inside the package",
    );
    check(
        &tgz(&[file("code.tar.gz", &code)]),
        "did not find any package metadata (missing metadata.json)",
    );
    check(
        &tgz(&[file("metadata.json", b"{"), file("code.tar.gz", &code)]),
        "could not unmarshal metadata.json as json: ",
    );
    check(
        &tgz(&[
            file("metadata.json", br#"{"label":"a b"}"#),
            file("code.tar.gz", &code),
        ]),
        "invalid label 'a b'",
    );
    check(
        &tgz(&[("metadata.json", EntryType::Symlink, b"")]),
        "tar entry metadata.json is not a regular file, type 50",
    );
    check(
        &tgz(&[("folder/", EntryType::Directory, b"")]),
        "tar entry folder/ is not a regular file, type 53",
    );
    check(
        &tgz(&[
            file("metadata.json", METADATA),
            file("metadata.json", METADATA),
        ]),
        "entry 'metadata.json' appears more than once",
    );
    check(
        &tgz(&[file("metadata.json", METADATA), file("code.tar.gz", b"no")]),
        "gzip stream",
    );
    for cut in [11, 100, whole.len() / 2, whole.len() - 9] {
        assert!(Package::open(&whole[..cut]).is_err(), "cut at {cut}");
    }
    let other = br#"{"path":"","type":"node","label":"l"}"#;
    let twice = tgz(&[
        file("metadata.json", other),
        file("code.tar.gz", &whole[..200]),
    ]);
    assert!(
        Package::open(&twice).is_err(),
        "a truncated code archive is found out"
    );
}

#[test]
fn code_must_stay_in_its_folder() {
    let check = |entry: (&str, EntryType, &[u8]), wanted: &str| {
        let text = Package::open(&with_code(&[entry])).unwrap_err().to_string();
        assert!(
            text.contains(wanted),
            "{text:?} does not contain {wanted:?}"
        );
    };
    for name in [
        "../x",
        "src/../../x",
        "/etc/passwd",
        "src\\..\\x",
        "C:/x",
        "a/\u{7}",
    ] {
        check(
            file(name, b"x"),
            "paths must be relative and stay inside the package",
        );
    }
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Fifo,
    ] {
        check(
            ("src/link", kind, b""),
            "only files and folders may be in chaincode code",
        );
    }
    let twice = with_code(&[file("src/a", b"1"), file("src/./a", b"2")]);
    let text = Package::open(&twice).unwrap_err().to_string();
    assert_eq!(text, "entry 'src/a' appears more than once in the package");
    // A file where another entry needs a folder fails while unpacking, and nothing gets out.
    let clash = Package::open(&with_code(&[file("src", b"1"), file("src/a", b"2")])).unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        clash.unpack_code(folder.path()),
        Err(PackageError::Unpack(..))
    ));
}

#[test]
fn limits_hold() {
    let small = Limits {
        file: 4000,
        expanded: 50_000,
        entries: 5,
        ratio: 200,
    };
    let check = |bytes: &[u8], wanted: &str| {
        let text = Package::open_with(bytes, small).unwrap_err().to_string();
        assert!(
            text.contains(wanted),
            "{text:?} does not contain {wanted:?}"
        );
    };
    let names: Vec<String> = (0..6).map(|n| format!("src/{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| file(name, b"")).collect();
    check(
        &with_code(&many),
        "the number of entries exceeds the limit of 5",
    );
    let noise: Vec<u8> = (0..5000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    check(
        &with_code(&[file("src/a", &noise)]),
        "the size of the file exceeds the limit of 4000",
    );
    check(
        &with_code(&[file("src/a", &vec![0; 200_000])]),
        "the total size of its files",
    );
    // The default limits stop a bomb long before it has expanded.
    let bomb = with_code(&[file("src/a", &vec![0; 40 << 20])]);
    assert_eq!(Package::open(&bomb).unwrap_err(), PackageError::Bomb(200));
}

#[test]
fn writing_is_deterministic_and_reads_back() {
    let files = || {
        vec![
            SourceFile {
                name: "src/run.sh".into(),
                contents: "#!/bin/sh".into(),
                executable: true,
            },
            SourceFile {
                name: "src/package.json".into(),
                contents: "{}".into(),
                executable: false,
            },
        ]
    };
    let mut reversed = files();
    reversed.reverse();
    let first = write_package("a_1", &ChaincodeKind::Node, ".", files()).unwrap();
    let second = write_package("a_1", &ChaincodeKind::Node, ".", reversed).unwrap();
    assert_eq!(first, second);
    // Pinned, because a change of these bytes would change the id of everybody's packages.
    let package = Package::open(&first).unwrap();
    assert_eq!((package.label(), package.path()), ("a_1", "."));
    let folder = tempfile::tempdir().unwrap();
    package.unpack_code(folder.path()).unwrap();
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(folder.path().join("src/run.sh"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111);
    let bad = |name: &str| {
        let file = SourceFile {
            name: name.into(),
            contents: "".into(),
            executable: false,
        };
        write_package("a", &ChaincodeKind::Node, "", vec![file.clone(), file]).unwrap_err()
    };
    assert!(matches!(bad("a"), PackageError::Duplicate(_)));
    let file = SourceFile {
        name: "../a".into(),
        contents: "".into(),
        executable: false,
    };
    let error = write_package("a", &ChaincodeKind::Node, "", vec![file]).unwrap_err();
    assert!(matches!(error, PackageError::Traversal(_)));
    assert!(write_package("a b", &ChaincodeKind::Node, "", Vec::new()).is_err());
}

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, contents) in files {
        writer.start_file(*name, options).unwrap();
        writer.write_all(contents).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn open_zip(bytes: &[u8]) -> Result<SourceZip, ZipError> {
    SourceZip::open(bytes, None, &Limits::default())
}

#[test]
fn zips_become_packages() {
    let go_main: &[u8] = b"// hello\npackage main\n\nfunc main() {}\n";
    let check = |files: &[(&str, &[u8])], kind: ChaincodeKind, path: &str, wanted: &[&str]| {
        let source = open_zip(&zip_of(files)).unwrap();
        assert_eq!(source.kind(), &kind);
        let package = Package::open(&source.into_package("z_1").unwrap()).unwrap();
        assert_eq!((package.kind(), package.path()), (&kind, path));
        let folder = tempfile::tempdir().unwrap();
        package.unpack_code(folder.path()).unwrap();
        for name in wanted {
            assert!(folder.path().join(name).is_file(), "{name} is missing");
        }
        assert!(!folder.path().join("src/node_modules").exists());
    };
    check(
        &[
            ("package.json", b"{}"),
            ("lib/index.js", b""),
            ("node_modules/a/package.json", b"{}"),
            ("META-INF/statedb/couchdb/indexes/i.json", b"{}"),
        ],
        ChaincodeKind::Node,
        ".",
        &[
            "src/package.json",
            "src/lib/index.js",
            "META-INF/statedb/couchdb/indexes/i.json",
        ],
    );
    check(
        &[
            ("asset/package.json", b"{}"),
            ("asset/index.js", b""),
            ("__MACOSX/asset/._x", b""),
        ],
        ChaincodeKind::Node,
        ".",
        &["src/package.json", "src/index.js"],
    );
    check(
        &[
            ("go.mod", b"module example.com/asset // c\n\ngo 1.21\n"),
            ("main.go", go_main),
        ],
        ChaincodeKind::Golang,
        "example.com/asset",
        &["src/go.mod", "src/main.go"],
    );
    check(
        &[
            ("asset/go.mod", b"module asset\n"),
            ("asset/cmd/cc/main.go", go_main),
        ],
        ChaincodeKind::Golang,
        "asset/cmd/cc",
        &["src/go.mod", "src/cmd/cc/main.go"],
    );
    // As Windows archivers write it, without a module, with its libraries along.
    check(
        &[
            ("asset\\main.go", go_main),
            ("asset\\vendor\\x\\x.go", go_main),
        ],
        ChaincodeKind::Golang,
        "asset",
        &["src/asset/main.go", "src/asset/vendor/x/x.go"],
    );
    check(
        &[("pom.xml", b"<project/>"), ("src/main/java/A.java", b"")],
        ChaincodeKind::Java,
        ".",
        &["src/pom.xml", "src/src/main/java/A.java"],
    );
}

#[test]
fn every_chaincode_of_a_zip_is_told_once() {
    let candidates = |files: &[(&str, &[u8])], wanted: Option<&ChaincodeKind>| {
        let zip = zip_of(files);
        let found = SourceZip::candidates(&zip, wanted, &Limits::default()).unwrap();
        let kind = |c: &Candidate| (c.folder.clone(), c.kind.as_str().to_owned());
        found.iter().map(kind).collect::<Vec<_>>()
    };
    let named = |all: &[(&str, &str)]| {
        let owned = |(f, k): &(&str, &str)| ((*f).to_owned(), (*k).to_owned());
        all.iter().map(owned).collect::<Vec<_>>()
    };
    let one: &[(&str, &[u8])] = &[
        ("cc/package.json", b"{}"),
        ("cc/web/package.json", b"{}"),
        ("cc/tools/go.mod", b"module a\n"),
    ];
    assert_eq!(candidates(one, None), named(&[("cc", "node")]));
    let two: &[(&str, &[u8])] = &[
        ("a/package.json", b"{}"),
        ("ab/go.mod", b"module a\n"),
        ("ab/main.go", b"package main\n"),
    ];
    let both = [("a", "node"), ("ab", "golang")];
    assert_eq!(candidates(two, None), named(&both));
    assert_eq!(
        candidates(two, Some(&ChaincodeKind::Node)),
        named(&both[..1])
    );
    let mixed: &[(&str, &[u8])] = &[("package.json", b"{}"), ("go.mod", b"module a\n")];
    assert_eq!(candidates(mixed, None).len(), 2);
}

#[test]
fn a_zip_with_several_chaincodes_is_refused_with_their_names() {
    let several =
        |files: &[(&str, &[u8])]| open_zip(&zip_of(files)).unwrap_err().source.to_string();
    let files: &[(&str, &[u8])] = &[
        ("package.json", b"{}"),
        ("go.mod", b"module a\n"),
        ("deep/er/pom.xml", b"<project/>"),
    ];
    let text = several(files);
    assert!(text.contains("the top (golang), the top (node);"), "{text}");
    let many: Vec<(String, &[u8])> = (0..20)
        .map(|n| (format!("{n}/package.json"), b"{}".as_slice()))
        .collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(n, c)| (n.as_str(), *c)).collect();
    let text = several(&many);
    assert!(text.contains(", and 8 more; zip one of them"), "{text}");
}

#[test]
fn the_language_asked_for_is_taken() {
    let both = zip_of(&[("go/go.mod", b"module a\n"), ("node/package.json", b"{}")]);
    let open = |kind| SourceZip::open(&both, Some(&kind), &Limits::default());
    assert_eq!(
        open(ChaincodeKind::Node).unwrap().kind(),
        &ChaincodeKind::Node
    );
    assert_eq!(
        open(ChaincodeKind::Golang).unwrap().kind(),
        &ChaincodeKind::Golang
    );
    let problem = open(ChaincodeKind::Java).unwrap_err().source;
    assert_eq!(problem, ZipProblem::OtherLanguage("java".into()));
}

#[test]
fn bad_zips_get_the_text_of_the_service() {
    let good = zip_of(&[("package.json", b"{}"), ("index.js", &[b'x'; 4000])]);
    let check = |bytes: &[u8], wanted: &str| {
        let error = open_zip(bytes).unwrap_err();
        assert_eq!(error.to_string(), CHINESE);
        let cause = error.source.to_string();
        assert!(
            cause.contains(wanted),
            "{cause:?} does not contain {wanted:?}"
        );
    };
    check(b"", "not a readable zip");
    check(
        b"this is no zip at all, just some text",
        "not a readable zip",
    );
    check(&good[..good.len() / 2], "not a readable zip");
    check(&zip_of(&[]), "the archive is empty");
    check(&zip_of(&[("folder/", b"")]), "the archive is empty");
    check(&zip_of(&[("readme.txt", b"hello")]), "no chaincode found");
    check(
        &zip_of(&[("package.json", b"not json")]),
        "no chaincode found",
    );
    check(
        &zip_of(&[("lib.go", b"package lib\n")]),
        "no chaincode found",
    );
    check(
        &zip_of(&[("../package.json", b"{}")]),
        "stay inside the package",
    );
    check(
        &zip_of(&[("/package.json", b"{}")]),
        "stay inside the package",
    );
    check(
        &zip_of(&[("a\\..\\..\\package.json", b"{}")]),
        "stay inside the package",
    );
    check(
        &zip_of(&[("package.json", b"{}"), ("./package.json", b"{}")]),
        "appears more than once",
    );
    check(
        &zip_of(&[("package.json", b"{}"), ("zeros", &vec![0; 60 << 20])]),
        "expands to more than 200 times its size",
    );
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer
        .add_symlink("package.json", "/etc/passwd", SimpleFileOptions::default())
        .unwrap();
    check(
        &writer.finish().unwrap().into_inner(),
        "only files and folders",
    );
    // One wrong byte in compressed data fails its checksum.
    let mut damaged = good.clone();
    damaged[43] ^= 0x55;
    assert_eq!(open_zip(&damaged).unwrap_err().to_string(), CHINESE);
}

#[test]
fn a_zip_from_the_linux_tool_is_read() {
    // Written by Info-ZIP 3.0: `zip -r asset.zip asset`, with its extra fields and folders.
    let bytes = include_bytes!("testdata/info-zip.zip");
    let source = open_zip(bytes).unwrap();
    assert_eq!(source.kind(), &ChaincodeKind::Node);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Package::open(&bytes).is_err());
        prop_assert!(open_zip(&bytes).is_err());
    }

    #[test]
    fn any_damage_is_survived(at in 0usize..400, flip in 1u8..) {
        let mut bytes = with_code(&[file("src/package.json", b"{}")]);
        let at = at % bytes.len();
        bytes[at] ^= flip;
        // Damage in a time stamp may go unnoticed; what matters is that nothing panics.
        let _ = Package::open(&bytes);
        let mut bytes = zip_of(&[("package.json", b"{}")]);
        let at = at % bytes.len();
        bytes[at] ^= flip;
        let _ = open_zip(&bytes);
    }
}

//! Bad chaincode packages and bad zips, installed on a running peer: each is refused with cause and
//! remedy, nothing of it stays, and the network goes on.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Cursor, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use selvage_chaincode::package::{ChaincodeKind, Limits, SourceFile, SourceZip, write_package};
use selvage_network_tests::{Service, Told, cases, in_log, run_cases, says, selvage_in, told};
use tar::{Builder, EntryType, Header};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

#[tokio::test(flavor = "multi_thread")]
async fn bad_packages_and_zips() {
    let service = Arc::new(Service::up(&[]));
    let cases = cases![service;
        an_empty_file,
        text_that_is_no_package,
        a_truncated_package,
        a_package_without_metadata,
        a_package_without_code,
        a_package_with_a_bad_label,
        a_package_that_climbs_out_of_its_folder,
        a_package_with_a_link,
        a_package_that_is_a_bomb,
        a_package_of_an_unknown_type,
        a_package_that_cannot_be_built,
        a_package_that_is_there_already,
        a_zip_that_is_no_zip,
        a_truncated_zip,
        an_empty_zip,
        a_zip_without_chaincode,
        a_zip_that_is_a_bomb,
        a_zip_that_climbs_out_of_its_folder,
    ];
    run_cases(service, cases).await;
}

/// Installs a package, expects a refusal that begins with Fabric's words and has cause and remedy,
/// and that nothing stays behind.
async fn refused(service: &Service, package: Vec<u8>, cause: &str, remedy: &str) -> Told {
    let admin = service.peer_admin();
    let before = admin.installed().await.unwrap();
    let error = admin.install(package).await.unwrap_err();
    says(
        &error.text(),
        &["failed to invoke backing implementation of 'InstallChaincode': "],
    );
    let told = told(&error.text(), cause, remedy);
    assert_eq!(
        admin.installed().await.unwrap(),
        before,
        "something was installed"
    );
    told
}

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
        if *kind == EntryType::Symlink {
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

const METADATA: &[u8] = br#"{"path":"x","type":"node","label":"bad_1.0"}"#;

fn with_code(code: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let code = tgz(code);
    tgz(&[file("metadata.json", METADATA), file("code.tar.gz", &code)])
}

const PACKAGE_AGAIN: &str = "peer lifecycle chaincode package";
const COPY_AGAIN: &str = "copy it again as a whole";

async fn an_empty_file(service: Arc<Service>) -> Told {
    let cause = "could not parse as a chaincode install package: error reading as gzip stream: \
                 unexpected EOF";
    refused(&service, Vec::new(), cause, PACKAGE_AGAIN).await
}

async fn text_that_is_no_package(service: Arc<Service>) -> Told {
    let cause = "could not parse as a chaincode install package: error reading as gzip stream";
    let text = b"hello, I am a chaincode package".to_vec();
    refused(&service, text, cause, PACKAGE_AGAIN).await
}

async fn a_truncated_package(service: Arc<Service>) -> Told {
    // Noise, so that there is something to cut off.
    let noise: Vec<u8> = (0..20_000_u32)
        .flat_map(|i| {
            i.wrapping_mul(2_654_435_761)
                .rotate_left(i % 32)
                .to_le_bytes()
        })
        .collect();
    let whole = with_code(&[file("src/package.json", b"{}"), file("src/noise", &noise)]);
    let cause = "could not parse as a chaincode install package: ";
    let _ = refused(&service, whole[..5].to_vec(), cause, PACKAGE_AGAIN).await;
    let half = whole[..whole.len() / 2].to_vec();
    let _ = refused(&service, half, cause, COPY_AGAIN).await;
    let most = whole[..whole.len() - 1].to_vec();
    refused(&service, most, cause, COPY_AGAIN).await
}

async fn a_package_without_metadata(service: Arc<Service>) -> Told {
    let package = tgz(&[file("code.tar.gz", &tgz(&[]))]);
    refused(&service, package, "missing metadata.json", PACKAGE_AGAIN).await
}

async fn a_package_without_code(service: Arc<Service>) -> Told {
    let package = tgz(&[file("metadata.json", METADATA)]);
    let cause = "did not find a code package inside the package";
    refused(&service, package, cause, PACKAGE_AGAIN).await
}

async fn a_package_with_a_bad_label(service: Arc<Service>) -> Told {
    let metadata = br#"{"path":"x","type":"node","label":"../../bad"}"#;
    let code = tgz(&[file("src/package.json", b"{}")]);
    let package = tgz(&[file("metadata.json", metadata), file("code.tar.gz", &code)]);
    let cause = "invalid label '../../bad'. Label must be";
    refused(
        &service,
        package,
        cause,
        "package it again under such a label",
    )
    .await
}

/// A path to climb to, and what proves that nobody did.
fn outside() -> (String, std::path::PathBuf) {
    let name = format!("selvage-climbed-{}", std::process::id());
    (
        format!("{}tmp/{name}", "../".repeat(12)),
        std::path::Path::new("/tmp").join(name),
    )
}

async fn a_package_that_climbs_out_of_its_folder(service: Arc<Service>) -> Told {
    let (climbing, target) = outside();
    let absolute = target.to_string_lossy().into_owned();
    let mut last = None;
    for name in [climbing.as_str(), absolute.as_str(), "src/../../../x"] {
        let package = with_code(&[file("src/package.json", b"{}"), file(name, b"climbed")]);
        let cause = format!("entry '{name}' is refused: paths must be relative and stay inside");
        let remedy = "take this entry out of the source folder";
        last = Some(refused(&service, package, &cause, remedy).await);
    }
    assert!(!target.exists());
    last.unwrap()
}

async fn a_package_with_a_link(service: Arc<Service>) -> Told {
    let package = with_code(&[("src/passwords", EntryType::Symlink, b"")]);
    refused(
        &service,
        package,
        "entry 'src/passwords' is refused: only files and folders",
        "put a file in its place",
    )
    .await
}

async fn a_package_that_is_a_bomb(service: Arc<Service>) -> Told {
    let zeros = vec![0; 64 << 20];
    let package = with_code(&[file("src/package.json", b"{}"), file("src/zeros", &zeros)]);
    assert!(package.len() < 1 << 20);
    let remedy = "leave out what the build does not need";
    refused(&service, package, "expands to more than", remedy).await
}

async fn a_package_of_an_unknown_type(service: Arc<Service>) -> Told {
    let metadata = br#"{"path":"x","type":"cobol","label":"bad_1.0"}"#;
    let code = tgz(&[file("src/main.cob", b"x")]);
    let package = tgz(&[file("metadata.json", metadata), file("code.tar.gz", &code)]);
    let cause = "could not build chaincode: Unknown chaincodeType: cobol";
    refused(&service, package, cause, "runs as a service of your own").await
}

async fn a_package_that_cannot_be_built(service: Arc<Service>) -> Told {
    let source = |name: &str, contents: &'static str| SourceFile {
        name: name.to_owned(),
        contents: contents.into(),
        executable: false,
    };
    let files = vec![
        source("src/go.mod", "module broken.example/cc\n\ngo 1.21\n"),
        source(
            "src/main.go",
            "package main\n\nfunc main() { undefinedFunction() }\n",
        ),
    ];
    let kind = ChaincodeKind::Golang;
    let package = write_package("broken_1.0", &kind, "broken.example/cc", files).unwrap();
    let (cause, remedy) = ("undefinedFunction", "correct this, and install it again");
    let _ = refused(&service, package.to_vec(), cause, remedy).await;
    // The same again is judged again, not taken for installed.
    let cause = "could not build chaincode: ";
    refused(&service, package.to_vec(), cause, remedy).await
}

async fn a_package_that_is_there_already(service: Arc<Service>) -> Told {
    let admin = service.peer_admin();
    let known = admin.installed().await.unwrap()[0].package_id.clone();
    let package = admin.installed_package(&known).await.unwrap();
    let cause = "chaincode already successfully installed (package ID '";
    // Programs look for the whole text, so the remedy is in the log.
    let _ = refused(&service, package.to_vec(), cause, &known).await;
    in_log(
        &service,
        "chaincode is installed already",
        "install other code under another label",
    )
    .await
}

/// A bad zip is refused where zips are turned into packages, with the words of the service and the
/// cause, to which the command that sends it adds the remedy; a peer that is given the zip itself
/// refuses it too.
async fn refused_zip(service: &Service, zip: Vec<u8>, cause: &str) -> Told {
    let error = SourceZip::open(&zip, None, &Limits::default()).unwrap_err();
    says(&error.to_string(), &["链代码文件解压失败"]);
    says(&error.source.to_string(), &[cause]);
    let file = service.folder().join("bad.zip");
    std::fs::write(&file, &zip).unwrap();
    let deployed = selvage_in(service.folder(), &["deploy", "bad", file.to_str().unwrap()]);
    assert!(!deployed.status.success(), "it was deployed");
    let _ = told(
        &String::from_utf8_lossy(&deployed.stderr),
        cause,
        "give the chaincode's source folder, a zip of it",
    );
    let gzip = "could not parse as a chaincode install package: error reading as gzip stream";
    refused(service, zip, gzip, PACKAGE_AGAIN).await
}

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in files {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .unwrap();
        writer.write_all(contents).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

async fn a_zip_that_is_no_zip(service: Arc<Service>) -> Told {
    let cause = "not a readable zip archive";
    let _ = refused_zip(&service, b"this is no zip".to_vec(), cause).await;
    refused_zip(&service, Vec::new(), cause).await
}

async fn a_truncated_zip(service: Arc<Service>) -> Told {
    let whole = zip_of(&[("package.json", b"{}"), ("index.js", &[b'x'; 4000])]);
    let half = whole[..whole.len() / 2].to_vec();
    refused_zip(&service, half, "not a readable zip archive").await
}

async fn an_empty_zip(service: Arc<Service>) -> Told {
    refused_zip(&service, zip_of(&[]), "the archive is empty").await
}

async fn a_zip_without_chaincode(service: Arc<Service>) -> Told {
    let zip = zip_of(&[("readme.txt", b"hello")]);
    refused_zip(&service, zip, "expected a package.json (Node), a go.mod").await
}

async fn a_zip_that_is_a_bomb(service: Arc<Service>) -> Told {
    let zip = zip_of(&[("package.json", b"{}"), ("zeros", &vec![0; 64 << 20])]);
    assert!(zip.len() < 1 << 20);
    refused_zip(&service, zip, "expands to more than").await
}

async fn a_zip_that_climbs_out_of_its_folder(service: Arc<Service>) -> Told {
    let (climbing, target) = outside();
    let zip = zip_of(&[("package.json", b"{}"), (climbing.as_str(), b"climbed")]);
    let told = refused_zip(&service, zip, "stay inside the package").await;
    assert!(!target.exists());
    told
}

//! From a file somebody sent to a package for peers.

use bytes::Bytes;
use selvage_chaincode::package::{
    ChaincodeKind, Limits, Package, SourceZip, ZipError, package_id, validate_label,
};
use selvage_manager_api::{ApiError, ErrorCode};

/// Longest file that is taken.
pub(crate) const MOST_FILE: usize = 64 << 20;
/// What a zip or package may expand to: it is held in memory for a moment.
const MOST_EXPANDED: u64 = 256 << 20;

/// The first bytes of a gzip stream, as Fabric's packages are.
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What can be done about a file that cannot be used.
const REMEDY: &str = "send a zip of the chaincode's source folder, or a package made by `peer \
                      lifecycle chaincode package`";

/// What is said of one.
const UNUSABLE: &str = "this chaincode cannot be used";

/// A package, ready to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub(crate) package_id: String,
    /// `golang`, `node`, `java` or `ccaas`.
    pub(crate) language: String,
    pub(crate) package: Bytes,
}

/// Reads BCS's `chaincode_language`, and the words others use for the same.
pub(crate) fn language(word: &str) -> Result<ChaincodeKind, ApiError> {
    match word.to_ascii_lowercase().as_str() {
        "golang" | "go" => Ok(ChaincodeKind::Golang),
        "node" | "nodejs" | "node.js" | "javascript" | "typescript" => Ok(ChaincodeKind::Node),
        "java" => Ok(ChaincodeKind::Java),
        _ => Err(ApiError::bad(
            "chaincode_language must be golang, node or java",
        )),
    }
}

/// What a zip or package may have.
pub(super) fn limits() -> Limits {
    Limits {
        file: MOST_FILE as u64,
        expanded: MOST_EXPANDED,
        ..Limits::default()
    }
}

/// Makes a package of a source zip, or looks through a package. Uses the processor for a while.
pub(crate) fn prepare(
    name: &str,
    version: &str,
    wanted: Option<&ChaincodeKind>,
    file: Bytes,
) -> Result<Prepared, ApiError> {
    let limits = limits();
    if file.starts_with(&GZIP) {
        return fabric_package(wanted, file, limits);
    }
    let source = SourceZip::open(&file, wanted, &limits).map_err(|e| bad_zip(&e))?;
    let label = format!("{name}_{version}");
    validate_label(&label).map_err(|e| ApiError::bad(e.to_string()))?;
    let language = source.kind().as_str().to_owned();
    let package = source
        .into_package(&label)
        .map_err(|e| bad_file(&e.to_string()))?;
    Ok(Prepared {
        package_id: package_id(&label, &package),
        language,
        package,
    })
}

fn fabric_package(
    wanted: Option<&ChaincodeKind>,
    file: Bytes,
    limits: Limits,
) -> Result<Prepared, ApiError> {
    let package = Package::open_with(&file, limits).map_err(|e| bad_file(&e.to_string()))?;
    let kind = package.kind();
    if let ChaincodeKind::Other(other) = kind {
        return Err(bad_file(&format!(
            "chaincode of type '{other}' cannot be built here, only golang, node, java and ccaas"
        )));
    }
    if let Some(wanted) = wanted.filter(|w| *w != kind) {
        return Err(bad_file(&format!(
            "its chaincode is of type {}, not {}",
            kind.as_str(),
            wanted.as_str()
        )));
    }
    Ok(Prepared {
        package_id: package.id().to_owned(),
        language: kind.as_str().to_owned(),
        package: file,
    })
}

/// BCS's sentence, then the cause and the remedy.
fn bad_zip(error: &ZipError) -> ApiError {
    let message = format!("{error}{}", why(&error.source.to_string()));
    ApiError::new(ErrorCode::BadChaincodeFile, message)
}

fn bad_file(cause: &str) -> ApiError {
    let message = format!("{UNUSABLE}{}", why(cause));
    ApiError::new(ErrorCode::BadChaincodeFile, message)
}

fn why(cause: &str) -> String {
    format!(" ({cause}); {REMEDY}")
}

/// The text of a failure without the sentence that only users of BCS's API expect.
pub(super) fn plain(error: ApiError) -> String {
    let because = error.message.find(" (");
    match (error.code, because) {
        (ErrorCode::BadChaincodeFile, Some(at)) => {
            format!("{UNUSABLE}{}", error.message.get(at..).unwrap_or_default())
        }
        _ => error.message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaincode::testing::{package_of, zip_of};

    fn refused(file: Vec<u8>, wanted: Option<&ChaincodeKind>) -> String {
        let error = prepare("assets", "1.0", wanted, file.into()).expect_err("refused");
        assert_eq!(error.code, ErrorCode::BadChaincodeFile);
        assert!(error.message.contains("send a zip"), "{error}");
        error.message
    }

    #[test]
    fn zips_and_packages_become_the_same_thing() {
        let zip = zip_of(&[("cc/package.json", b"{}"), ("cc/index.js", b"")]);
        let one = prepare("assets", "1.0", None, zip.clone().into()).expect("a zip");
        assert_eq!(one.language, "node");
        let hash = hex::encode(selvage_crypto::sha256(&one.package));
        assert_eq!(one.package_id, format!("assets_1.0:{hash}"));
        let again = prepare("assets", "1.0", None, zip.into()).expect("a zip");
        assert_eq!(one, again, "the same code gives the same package");
        let two = prepare("other", "9", None, one.package.clone()).expect("a package");
        assert_eq!(
            two, one,
            "a package stays what it is, whatever it is called"
        );
    }

    #[test]
    fn bad_files_are_refused_with_cause_and_remedy() {
        let chinese =
            "链代码文件解压失败，可能原因是压缩包格式或内容错误，或未包含有效的链代码文件。";
        let bomb = zip_of(&[("package.json", b"{}"), ("zeros", &vec![0; 64 << 20])]);
        let node: &[(&str, &[u8])] = &[("package.json", b"{}")];
        let climbing = zip_of(&[("package.json", b"{}"), ("../../x", b"")]);
        let mut cut = zip_of(&[("package.json", b"{}"), ("index.js", &[b'x'; 4000])]);
        cut.truncate(cut.len() / 2);
        let cases: [(Vec<u8>, Option<&ChaincodeKind>, &str); 8] = [
            (Vec::new(), None, "not a readable zip"),
            (b"this is no zip".to_vec(), None, "not a readable zip"),
            (cut, None, "not a readable zip"),
            (zip_of(&[]), None, "the archive is empty"),
            (zip_of(&[("a.txt", b"")]), None, "expected a package.json"),
            (bomb, None, "expands to more than"),
            (climbing, None, "stay inside the package"),
            (zip_of(node), Some(&ChaincodeKind::Golang), "no golang"),
        ];
        for (file, wanted, cause) in cases {
            let text = refused(file, wanted);
            assert!(text.starts_with(chinese), "{text}");
            assert!(text.contains(cause), "{cause:?} is missing in: {text}");
        }
        let good = package_of("node", &[("src/package.json", b"{}")]);
        for (file, wanted, cause) in [
            (good[..good.len() / 2].to_vec(), None, "tar"),
            (package_of("cobol", &[("src/a", b"")]), None, "'cobol'"),
            (good, Some(&ChaincodeKind::Java), "type node, not java"),
        ] {
            let text = refused(file, wanted);
            assert!(text.contains(cause), "{cause:?} is missing in: {text}");
        }
    }

    #[test]
    fn the_command_line_speaks_one_language() {
        let error = prepare("a", "1", None, zip_of(&[]).into()).expect_err("empty");
        let text = plain(error);
        let begin = "this chaincode cannot be used (the archive is empty); send a zip";
        assert!(text.starts_with(begin), "{text}");
        assert_eq!(plain(ApiError::bad("as it is (is)")), "as it is (is)");
    }

    #[test]
    fn languages_have_several_names() {
        for (word, kind) in [
            ("golang", ChaincodeKind::Golang),
            ("Node.js", ChaincodeKind::Node),
            ("java", ChaincodeKind::Java),
        ] {
            assert_eq!(language(word).expect("known"), kind);
        }
        assert!(language("cobol").is_err());
    }
}

//! The sample chaincode, carried as source and packaged when it is asked for.

use bytes::Bytes;
use selvage_chaincode::package::{ChaincodeKind, SourceFile, package_id, write_package};
use selvage_manager_api::ApiError;

use crate::fabric::ChaincodePlan;

/// Name under which the sample is committed.
pub const SAMPLE_NAME: &str = "assets";
/// Its version.
pub const SAMPLE_VERSION: &str = "1.0";

/// The source of the sample in one language.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// `node` or `go`.
    pub language: &'static str,
    /// Paths relative to the chaincode's folder, with their contents.
    pub files: &'static [(&'static str, &'static [u8])],
}

/// Makes the package of the sample in a language.
pub(crate) fn plan(samples: &[Sample], language: &str) -> Result<ChaincodePlan, ApiError> {
    let found = samples
        .iter()
        .find(|s| s.language == language && !s.files.is_empty());
    let Some(sample) = found else {
        return Err(ApiError::not_built(&format!(
            "the sample chaincode in {language}"
        )));
    };
    let kind = match language {
        "go" => ChaincodeKind::Golang,
        _ => ChaincodeKind::Node,
    };
    let files = sample
        .files
        .iter()
        .map(|(name, contents)| SourceFile {
            name: format!("src/{name}"),
            contents: Bytes::from_static(contents),
            executable: false,
        })
        .collect();
    let label = format!("{SAMPLE_NAME}_{SAMPLE_VERSION}");
    let package = write_package(&label, &kind, &module(sample), files)
        .map_err(|e| ApiError::bad(format!("the sample chaincode cannot be packaged: {e}")))?;
    Ok(ChaincodePlan {
        name: SAMPLE_NAME.to_owned(),
        version: SAMPLE_VERSION.to_owned(),
        probe: &["AssetExists", "asset1"],
        package_id: package_id(&label, &package),
        package,
    })
}

/// The module path in `go.mod`; other languages need none.
fn module(sample: &Sample) -> String {
    let go_mod = sample.files.iter().find(|(name, _)| *name == "go.mod");
    go_mod
        .and_then(|(_, text)| std::str::from_utf8(text).ok())
        .and_then(|text| text.lines().find_map(|l| l.strip_prefix("module ")))
        .map_or_else(String::new, |m| m.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvage_chaincode::package::Package;

    #[test]
    fn the_package_is_the_same_each_time_and_opens() {
        let sample = Sample {
            language: "go",
            files: &[
                ("go.mod", b"module a.example/b\n\ngo 1.24\n"),
                ("main.go", b"package main"),
            ],
        };
        let one = plan(&[sample], "go").expect("packaged");
        let two = plan(&[sample], "go").expect("packaged");
        assert_eq!(one.package, two.package);
        let package = Package::open(&one.package).expect("opens");
        assert_eq!(
            (package.label(), package.path()),
            ("assets_1.0", "a.example/b")
        );
        assert!(plan(&[sample], "node").is_err());
    }
}

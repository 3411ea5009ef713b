//! What the conformance tests share: the tools that `make setup` installs.
//!
//! These tests hold the project against things it does not own: packages published by others, their
//! SDKs, and bytes written by real Fabric networks.

use std::path::{Path, PathBuf};

/// The top of the checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .map_or_else(|| here.to_path_buf(), Path::to_path_buf)
}

/// The Python that `make setup` prepared with the packages of `requirements.txt`, or `None` after
/// saying loudly that the calling test cannot run.
///
/// # Panics
/// In CI, when it is missing.
pub fn python(test: &str) -> Option<PathBuf> {
    let python = root().join("build/venv/bin/python");
    if python.exists() {
        return Some(python);
    }
    let message = format!(
        "{test} DID NOT RUN: no {}; run `make setup`",
        python.display()
    );
    assert!(std::env::var_os("CI").is_none(), "{message}");
    eprintln!("\n*** {message} ***\n");
    None
}

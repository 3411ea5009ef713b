//! What tests of several crates share: where the bytes written by real Fabric networks lie.

use std::path::PathBuf;

/// The folder with bytes written by real Fabric networks, or `None` after saying loudly that the
/// calling test cannot run.
///
/// `SELVAGE_GOLDEN` names it; otherwise it is `shared/golden` beside the checkout. It is not part
/// of the repository because it is large. In CI its absence is a failure, not a skip.
///
/// # Panics
/// In CI, when the folder is missing.
pub fn golden_dir(test: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
    let dir = std::env::var_os("SELVAGE_GOLDEN").map_or(beside, PathBuf::from);
    if dir.join("corpus").is_dir() {
        return Some(dir);
    }
    let message = format!("{test} DID NOT RUN: no golden data at {}", dir.display());
    assert!(std::env::var_os("CI").is_none(), "{message}");
    eprintln!("\n*** {message} ***\n");
    None
}

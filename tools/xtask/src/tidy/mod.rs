//! Each check looks at one concern and returns a sentence per finding.

use std::error::Error;
use std::path::Path;
use std::process::Command;

mod arch;
mod paths;
mod sources;

/// A sentence that names the place, what is wrong and what to do.
pub(crate) type Finding = String;

/// Runs every check.
///
/// # Errors
/// When a tool that a check needs does not run at all.
pub(crate) fn run(root: &Path, with_lints: bool) -> Result<Vec<Finding>, Box<dyn Error>> {
    let files = tracked_files(root)?;
    let mut findings = arch::check(root)?;
    findings.extend(paths::check(root, &files)?);
    findings.extend(sources::check(root, &files)?);
    if with_lints {
        findings.extend(tool(
            root,
            &["fmt", "--all", "--check"],
            "run `cargo fmt --all`",
        )?);
        let clippy = [
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        findings.extend(tool(root, &clippy, "mend what clippy names above")?);
    }
    Ok(findings)
}

fn tool(root: &Path, arguments: &[&str], remedy: &str) -> Result<Option<Finding>, Box<dyn Error>> {
    let status = Command::new("cargo")
        .args(arguments)
        .current_dir(root)
        .status()?;
    let name = arguments.first().unwrap_or(&"");
    Ok((!status.success()).then(|| format!("cargo {name} is not content: {remedy}")))
}

/// What git tracks or would track, relative to the root.
fn tracked_files(root: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let listed = String::from_utf8(output.stdout)?;
    Ok(listed
        .lines()
        .filter(|f| root.join(f).is_file())
        .map(String::from)
        .collect())
}

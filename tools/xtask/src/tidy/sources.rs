//! Rules for source files that a compiler does not know.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use super::Finding;

/// The longest source file; `arch.toml` [long_files] names exceptions with a reason.
const LINES_MAX: usize = 800;

/// Text that must not stand in a commit, and what to do instead. The first half of each is cut off,
/// so that this file does not find itself.
fn forbidden() -> Vec<(String, &'static str)> {
    let rule = |a: &str, b: &str, why| (format!("{a}{b}"), why);
    vec![
        rule(
            "to",
            "do!(",
            "write it, or return an error that says it is not there",
        ),
        rule(
            "unimple",
            "mented!(",
            "write it, or return an error that says it is not there",
        ),
        rule(
            "#[ig",
            "nore",
            "mend the test, or say at run time that it did not run",
        ),
        rule("FIX", "ME", "mend it, or write it into an issue"),
        rule(
            "/wo",
            "rk/",
            "a path of one machine does not belong in a commit",
        ),
        rule(
            "registry.npm",
            "js.org",
            "name packages, not registry hosts",
        ),
        rule("proxy.gol", "ang.org", "name packages, not registry hosts"),
    ]
}

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<Finding>, Box<dyn Error>> {
    let arch: toml::Table = toml::from_str(&std::fs::read_to_string(root.join("arch.toml"))?)?;
    let long: BTreeMap<String, String> = match arch.get("long_files") {
        Some(value) => value.clone().try_into()?,
        None => BTreeMap::new(),
    };
    let rules = forbidden();
    let mut findings = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(root.join(file)) else {
            continue; // not text
        };
        findings.extend(length(file, &text, long.contains_key(file)));
        for (number, line) in text.lines().enumerate() {
            for (word, remedy) in &rules {
                if line.contains(word) {
                    findings.push(format!("{file}:{} has {word}: {remedy}", number + 1));
                }
            }
        }
    }
    for file in long.keys().filter(|f| !files.contains(f)) {
        findings.push(format!(
            "arch.toml [long_files] names {file}, which does not exist"
        ));
    }
    Ok(findings)
}

fn length(file: &str, text: &str, excepted: bool) -> Option<Finding> {
    let source = [".rs", ".ts", ".tsx", ".go", ".java", ".py"]
        .iter()
        .any(|e| file.ends_with(e));
    let lines = text.lines().count();
    (source && lines > LINES_MAX && !excepted)
        .then(|| format!("{file} has {lines} lines: split it by concern (at most {LINES_MAX})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_found_unless_excepted() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert!(length("a.rs", &long, false).is_some());
        assert!(length("a.rs", &long, true).is_none());
        assert!(length("a.md", &long, false).is_none());
        assert!(length("a.rs", "x\n", false).is_none());
    }
}

//! Every path that a document of ours names must exist, and so must the targets of its links.

use std::error::Error;
use std::path::Path;

use super::Finding;

/// Files that a build makes: documents may name them although git does not have them.
const MADE: [&str; 4] = ["build/", "target/", "web/dist", ".selvage"];

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<Finding>, Box<dyn Error>> {
    let mut findings = Vec::new();
    let tops: Vec<&str> = files
        .iter()
        .filter_map(|f| f.split_once('/'))
        .map(|f| f.0)
        .collect();
    for file in files.iter().filter(|f| f.ends_with(".md")) {
        let text = std::fs::read_to_string(root.join(file))?;
        let folder = root.join(file).parent().unwrap_or(root).to_path_buf();
        for (number, line) in outside_fences(&text) {
            for path in quoted_paths(line, &tops) {
                if !root.join(&path).exists() && !made(&path) {
                    findings.push(format!(
                        "{file}:{number} names `{path}`, which does not exist"
                    ));
                }
            }
            for link in links(line) {
                if !folder.join(link).exists() {
                    findings.push(format!(
                        "{file}:{number} links to {link}, which does not exist"
                    ));
                }
            }
        }
    }
    Ok(findings)
}

fn made(path: &str) -> bool {
    MADE.iter().any(|m| path.starts_with(m))
}

fn outside_fences(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(i, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((i + 1, line))
    })
}

/// What stands between backticks and looks like a path below one of the top folders.
fn quoted_paths(line: &str, tops: &[&str]) -> Vec<String> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted
        .filter(|q| q.contains('/') && !q.contains([' ', '*', '{', '<', '$', '…']))
        .filter(|q| tops.iter().any(|t| q.split('/').next() == Some(*t)))
        .map(|q| {
            q.split("::")
                .next()
                .unwrap_or(q)
                .trim_end_matches('/')
                .to_owned()
        })
        .collect()
}

fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split('#').next().unwrap_or(target))
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, paths: &[&str]) {
        assert_eq!(quoted_paths(line, &["crates", "docs"]), paths, "{line}");
    }

    #[test]
    fn paths_in_backticks() {
        check(
            "see `crates/a/src/lib.rs` and `docs/`",
            &["crates/a/src/lib.rs", "docs"],
        );
        check("not `other/thing`, not `a b/c`, not crates/a", &[]);
        check("module `crates/a/src/b.rs::Thing`", &["crates/a/src/b.rs"]);
    }

    #[test]
    fn targets_of_links() {
        let found: Vec<_> = links("[a](docs/a.md#part) [b](https://x) [c](#here)").collect();
        assert_eq!(found, ["docs/a.md"]);
    }

    #[test]
    fn fenced_blocks_are_examples() {
        let text = "`crates/a`\n```\n`crates/b`\n```\n`crates/c`";
        let lines: Vec<_> = outside_fences(text).map(|l| l.0).collect();
        assert_eq!(lines, [1, 5]);
    }
}

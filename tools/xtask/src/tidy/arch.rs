//! Crate arrows, owners of external crates and licences, from `arch.toml` and `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::Finding;

#[derive(Deserialize)]
struct Arch {
    arrows: BTreeMap<String, Vec<String>>,
    owners: BTreeMap<String, Vec<String>>,
    no_async: NoAsync,
    licences: Licences,
}

#[derive(Deserialize)]
struct NoAsync {
    crates: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Licences {
    allowed: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    license: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

pub(super) fn check(root: &Path) -> Result<Vec<Finding>, Box<dyn Error>> {
    let arch: Arch = toml::from_str(&std::fs::read_to_string(root.join("arch.toml"))?)?;
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(format!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    Ok(compare(&arch, &serde_json::from_slice(&output.stdout)?))
}

fn compare(arch: &Arch, metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = BTreeSet::new();
    let ours = |p: &&Package| metadata.workspace_members.contains(&p.id);
    for package in metadata.packages.iter().filter(ours) {
        let Some(arrows) = arch.arrows.get(&package.name) else {
            findings.push(format!(
                "{} is not listed in arch.toml [arrows]",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            if dependency.path.is_some() {
                findings.extend(arrow(&package.name, arrows, dependency));
            } else {
                used.insert(dependency.name.as_str());
                findings.extend(owner(arch, &package.name, dependency));
            }
        }
    }
    for name in arch.owners.keys().filter(|n| !used.contains(n.as_str())) {
        findings.push(format!(
            "arch.toml [owners] names {name}, which nothing uses"
        ));
    }
    let members: BTreeSet<&str> = metadata
        .packages
        .iter()
        .filter(ours)
        .map(|p| p.name.as_str())
        .collect();
    for name in arch.arrows.keys().filter(|n| !members.contains(n.as_str())) {
        findings.push(format!(
            "arch.toml [arrows] names {name}, which does not exist"
        ));
    }
    for package in metadata.packages.iter().filter(|p| !ours(p)) {
        findings.extend(licence(&arch.licences.allowed, package));
    }
    findings
}

fn arrow(from: &str, allowed: &[String], to: &Dependency) -> Option<Finding> {
    // Tests may lean on shared test code, and on a crate that builds what they look at.
    let free = to.kind.as_deref() == Some("dev") || allowed.iter().any(|a| a == "*");
    (!free && !allowed.contains(&to.name)).then(|| {
        format!(
            "{from} depends on {}: an arrow that arch.toml does not allow",
            to.name
        )
    })
}

fn owner(arch: &Arch, from: &str, to: &Dependency) -> Option<Finding> {
    let dev = to.kind.as_deref() == Some("dev");
    if !dev && to.name == "tokio" && arch.no_async.crates.contains(from) {
        return Some(format!(
            "{from} depends on tokio, but it is a crate without async"
        ));
    }
    let Some(owners) = arch.owners.get(&to.name) else {
        return Some(format!(
            "{} (in {from}) has no owner in arch.toml [owners]",
            to.name
        ));
    };
    let free = dev
        || arch
            .arrows
            .get(from)
            .is_some_and(|a| a.iter().any(|x| x == "*"));
    (!free && !owners.iter().any(|o| o == "*" || o == from)).then(|| {
        format!(
            "{from} uses {}, which belongs to {}",
            to.name,
            owners.join(", ")
        )
    })
}

/// SPDX expressions as they occur in manifests: alternatives by OR (or the old slash), all parts
/// of an AND needed.
fn licence(allowed: &BTreeSet<String>, package: &Package) -> Option<Finding> {
    let Some(expression) = &package.license else {
        return Some(format!("{} names no licence", package.name));
    };
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let fine = plain
        .split(" AND ")
        .all(|part| part.split(" OR ").any(|l| allowed.contains(l.trim())));
    (!fine).then(|| {
        format!(
            "{} has the licence {expression}, which is not allowed",
            package.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arch() -> Arch {
        toml::from_str(
            r#"
            arrows = { low = [], high = ["low"] }
            owners = { tokio = ["*"], fjall = ["high"] }
            no_async = { crates = ["low"] }
            licences = { allowed = ["MIT", "Apache-2.0"] }
            "#,
        )
        .unwrap()
    }

    fn check(from: &str, to: &str, path: bool, expected: Option<&str>) {
        let path = if path { "\"x\"" } else { "null" };
        let dependency = |n: &str, p: &str| format!(r#"{{"name":"{n}","kind":null,"path":{p}}}"#);
        let package = |n: &str, d: &str| {
            format!(r#"{{"id":"{n}","name":"{n}","license":null,"dependencies":[{d}]}}"#)
        };
        // Both external crates are used where they may be, so that only the asked arrow shows.
        let used = [dependency("tokio", "null"), dependency("fjall", "null")].join(",");
        let asked = dependency(to, path);
        let (low, high) = match from {
            "low" => (asked, used),
            _ => (String::new(), format!("{used},{asked}")),
        };
        let json = format!(
            r#"{{"packages":[{},{}],"workspace_members":["low","high"]}}"#,
            package("low", &low),
            package("high", &high)
        );
        let findings = compare(&arch(), &serde_json::from_str(&json).unwrap());
        assert_eq!(
            findings.first().map(String::as_str),
            expected,
            "{from} -> {to}"
        );
    }

    #[test]
    fn arrows_and_owners() {
        check("high", "low", true, None);
        let wrong = "low depends on high: an arrow that arch.toml does not allow";
        check("low", "high", true, Some(wrong));
        check(
            "low",
            "fjall",
            false,
            Some("low uses fjall, which belongs to high"),
        );
        let asynchronous = "low depends on tokio, but it is a crate without async";
        check("low", "tokio", false, Some(asynchronous));
        let unowned = "serde (in high) has no owner in arch.toml [owners]";
        check("high", "serde", false, Some(unowned));
    }

    #[test]
    fn licences_are_spdx_expressions() {
        let check = |text: &str, fine: bool| {
            let package = Package {
                id: "x".into(),
                name: "x".into(),
                license: Some(text.into()),
                dependencies: Vec::new(),
            };
            assert_eq!(
                licence(&arch().licences.allowed, &package).is_none(),
                fine,
                "{text}"
            );
        };
        check("MIT OR Apache-2.0", true);
        check("MIT/Unknown", true);
        check("GPL-3.0", false);
        check("(MIT OR GPL-3.0) AND Apache-2.0", true);
        check("MIT AND GPL-3.0", false);
    }
}

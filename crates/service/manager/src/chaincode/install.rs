//! Installing a chaincode on peers.

use bytes::Bytes;
use futures::StreamExt;
use selvage_chaincode::package::ChaincodeKind;
use selvage_manager_api::chaincode::{InstallChaincodeResponse, TargetPeer};
use selvage_manager_api::{ApiError, ErrorCode};

use super::package::{self, Prepared};
use super::{Desk, Say, failure};
use crate::clock;
use crate::fabric::{At, Site};
use crate::store::ChaincodeRow;

/// Installations at once, after the first one has built the package. A package is copied several
/// times on its way, so more would only cost memory.
const AT_ONCE: usize = 2;

/// A chaincode somebody sent.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) language: Option<ChaincodeKind>,
    pub(crate) description: String,
    /// Every peer when absent.
    pub(crate) targets: Option<Vec<TargetPeer>>,
    pub(crate) file: Bytes,
}

impl Desk {
    /// `POST /chaincode`: makes a package of the file and installs it.
    pub(crate) async fn install(
        &self,
        upload: Upload,
        say: Say<'_>,
    ) -> Result<InstallChaincodeResponse, ApiError> {
        let targets = chosen(&self.site, upload.targets.as_deref())?;
        let (name, version) = (upload.name.clone(), upload.version.clone());
        let work = move || {
            let (file, wanted) = (upload.file, upload.language);
            package::prepare(&upload.name, &upload.version, wanted.as_ref(), file)
        };
        let prepared = tokio::task::spawn_blocking(work)
            .await
            .map_err(super::cut_short)??;
        self.refuse_other_code(&name, &version, &prepared).await?;
        let failures = self.install_on(&targets, &prepared, say).await?;
        let now = clock::now_ns();
        let row = ChaincodeRow {
            name,
            version,
            package_id: prepared.package_id.clone(),
            language: prepared.language,
            description: upload.description,
            install_ns: now,
            update_ns: now,
        };
        self.store.put_chaincode(&self.instance, &row).await?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(InstallChaincodeResponse {
            total_peer_num: count(targets.len()),
            success_peer_num: count(targets.len() - failures.len()),
            fail_peer_num: count(failures.len()),
            fail_peers: failures,
            package_id: prepared.package_id,
        })
    }

    /// A version names one code only; otherwise organisations would run different code under the
    /// same name without seeing it.
    async fn refuse_other_code(
        &self,
        name: &str,
        version: &str,
        prepared: &Prepared,
    ) -> Result<(), ApiError> {
        let survey = self.survey().await?;
        let mut packages = survey
            .peers
            .iter()
            .filter_map(|p| survey.package_on(p, name, version));
        match packages.find(|p| p.package_id != prepared.package_id) {
            None => Ok(()),
            Some(other) => Err(ApiError::new(
                ErrorCode::VersionTaken,
                format!(
                    "{name} {version} is installed with other code ({}); choose another version",
                    other.package_id
                ),
            )),
        }
    }

    /// Installs on one peer after the other until one has built it, then on the rest. Answers who
    /// could not and why, or the first reason when nobody could.
    async fn install_on(
        &self,
        targets: &[At<'_>],
        prepared: &Prepared,
        say: Say<'_>,
    ) -> Result<Vec<String>, ApiError> {
        let mut failures = Vec::new();
        let mut left = targets.iter();
        let mut reason = None;
        let mut built = false;
        for at in left.by_ref() {
            say(format!("building and installing on {}", at.node.name));
            match self.fabric.install(*at, &prepared.package).await {
                Ok(()) => {
                    built = true;
                    break;
                }
                Err(error) => {
                    let text = error.to_string();
                    // The others are on the same host and would only fail later.
                    if failure::is_build(&text) {
                        return Err(failure::install(&text));
                    }
                    failures.push(format!("{}: {text}", at.node.name));
                    reason.get_or_insert(text);
                }
            }
        }
        if let (false, Some(text)) = (built, reason) {
            return Err(failure::install(&text));
        }
        let one = async |at: At<'_>| {
            say(format!("installing on {}", at.node.name));
            let done = self.fabric.install(at, &prepared.package).await;
            done.map_err(|e| format!("{}: {e}", at.node.name))
        };
        let mut waiting = Vec::new();
        for at in left {
            waiting.push(one(*at));
        }
        let rest = futures::stream::iter(waiting);
        let outcomes: Vec<_> = rest.buffered(AT_ONCE).collect().await;
        failures.extend(outcomes.into_iter().filter_map(Result::err));
        Ok(failures)
    }
}

/// The peers a request names.
fn chosen<'a>(site: &'a Site, targets: Option<&[TargetPeer]>) -> Result<Vec<At<'a>>, ApiError> {
    let Some(targets) = targets else {
        return Ok(site.peers().collect());
    };
    if targets.is_empty() {
        return Err(ApiError::bad(
            "target_peers is empty; leave it out to install on every peer",
        ));
    }
    let mut chosen: Vec<At<'a>> = Vec::new();
    for target in targets {
        let found = site.peers().find(|at| is_meant(target, at));
        let at = found.ok_or_else(|| no_such_peer(site, target))?;
        if !chosen.iter().any(|c| c.node.name == at.node.name) {
            chosen.push(at);
        }
    }
    Ok(chosen)
}

fn is_meant(target: &TargetPeer, at: &At<'_>) -> bool {
    let agrees = |given: &Option<String>, is: &[&str]| {
        let given = given.as_deref().filter(|g| !g.is_empty());
        given.is_none_or(|g| is.contains(&g))
    };
    let named = [&target.peer_id, &target.peer_name]
        .iter()
        .any(|n| n.as_deref().is_some_and(|n| !n.is_empty()));
    let (org, node) = (at.org, at.node);
    let number = node.name.rsplit('-').next().unwrap_or_default();
    let short = format!("peer-{number}");
    named
        && agrees(&target.org_id, &[&org.hash])
        && agrees(&target.org_name, &[&org.name])
        && agrees(&target.peer_id, &[&node.name, &node.domain])
        && agrees(&target.peer_name, &[&node.name, &node.domain, &short])
}

fn no_such_peer(site: &Site, target: &TargetPeer) -> ApiError {
    let asked = [
        &target.peer_id,
        &target.peer_name,
        &target.org_name,
        &target.org_id,
    ];
    let asked: Vec<String> = asked
        .into_iter()
        .flatten()
        .filter(|t| !t.is_empty())
        .map(|t| t.chars().take(64).collect())
        .collect();
    let known: Vec<&str> = site.peers().map(|at| at.node.name.as_str()).collect();
    ApiError::new(
        ErrorCode::NoSuchPeer,
        format!(
            "target_peers: the instance has no peer {}; it has {}",
            asked.join(" "),
            known.join(", ")
        ),
    )
}

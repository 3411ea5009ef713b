//! Fabric's lifecycle, driven: approve for every organisation, commit, initialise, and wait until
//! the chaincode answers.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use selvage_client::{Definition, Invocation};
use selvage_manager_api::chaincode::InitArgs;
use selvage_proto::lifecycle::query_chaincode_definitions_result::ChaincodeDefinition as Committed;

use crate::error::ManagerError;
use crate::fabric::{At, ChaincodePlan, Fabric, Site};
use crate::network::ChannelPlan;

/// Pause between looks at something that will come about by itself.
const LOOK: Duration = Duration::from_millis(25);
/// Pause between calls of a chaincode that is not running yet.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a chaincode may take to answer once it is defined.
const START: Duration = Duration::from_secs(120);
/// Starts that may fail for good before nobody waits any longer; a first one may meet a host that
/// is busy building.
const STARTS: u32 = 3;
/// A function that contracts made with Fabric's contract API answer and that changes nothing. Other
/// chaincodes answer that they do not know it, which shows as well that they run.
const HARMLESS: &str = "org.hyperledger.fabric:GetMetadata";

/// How far instantiating has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Approve,
    Commit,
    Init,
    Start,
}

/// Where it broke off, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) stage: Stage,
    pub(super) reason: String,
}

fn at_stage(stage: Stage) -> impl Fn(ManagerError) -> Broken {
    move |error| Broken {
        stage,
        reason: error.to_string(),
    }
}

/// A definition and what runs it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) definition: Definition,
    /// Package ids by an organisation's hash; those without one endorse nothing.
    pub(super) packages: BTreeMap<String, String>,
    /// Nodes that have the package.
    pub(super) runs_on: Vec<String>,
    pub(super) init: Option<InitArgs>,
    /// What was in force before, and can be again.
    pub(super) before: Option<Before>,
}

/// An earlier definition whose packages are still there.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) definition: Definition,
    pub(super) packages: BTreeMap<String, String>,
}

/// Approves, commits, initialises and waits until the chaincode answers wherever it is installed.
pub(super) async fn instantiate(
    fabric: &dyn Fabric,
    site: &Site,
    channel: &ChannelPlan,
    wanted: &Wanted,
    say: &(dyn Fn(String) + Send + Sync),
) -> Result<(), Broken> {
    let definition = &wanted.definition;
    let package = |hash: &str| wanted.packages.get(hash).map(String::as_str);
    say("approving for every organisation".to_owned());
    approve(fabric, site, channel, definition, &package)
        .await
        .map_err(at_stage(Stage::Approve))?;
    say(format!("committing in the channel {}", channel.name));
    fabric
        .commit(site, channel, definition)
        .await
        .map_err(at_stage(Stage::Commit))?;
    let arrived = |d: &Committed| d.name == definition.name && d.sequence >= definition.sequence;
    arrive(fabric, site, channel, &arrived)
        .await
        .map_err(at_stage(Stage::Commit))?;
    if let Some(init) = &wanted.init {
        say(format!("calling {} to initialise it", init.func_name));
        let mut call = Invocation::new(&definition.name, &init.func_name).args(&init.args);
        call.is_init = true;
        fabric
            .submit(site, channel, &call)
            .await
            .map_err(at_stage(Stage::Init))?;
    }
    say("waiting until it answers".to_owned());
    let runs = |at: &At<'_>| wanted.runs_on.contains(&at.node.name);
    let peers = site.peers_in(channel).filter(runs);
    try_join_all(peers.map(|at| answers(fabric, at, channel, &definition.name))).await?;
    Ok(())
}

/// Puts an earlier definition in force again, after one that does not work was committed. It gets a
/// sequence of its own, as Fabric's ledger has no way back.
pub(super) async fn go_back(
    fabric: &dyn Fabric,
    site: &Site,
    channel: &ChannelPlan,
    before: &Before,
) -> Result<(), ManagerError> {
    let definition = &before.definition;
    let package = |hash: &str| before.packages.get(hash).map(String::as_str);
    approve(fabric, site, channel, definition, &package).await?;
    fabric.commit(site, channel, definition).await?;
    let arrived = |d: &Committed| d.name == definition.name && d.sequence >= definition.sequence;
    arrive(fabric, site, channel, &arrived).await
}

async fn approve<'a>(
    fabric: &dyn Fabric,
    site: &Site,
    channel: &ChannelPlan,
    definition: &Definition,
    package: &(dyn Fn(&str) -> Option<&'a str> + Sync),
) -> Result<(), ManagerError> {
    let members = site.network.members(channel);
    try_join_all(members.map(|o| fabric.approve(site, channel, o, definition, package(&o.hash))))
        .await?;
    // The commit is endorsed by peers of several organisations, which must have seen the same.
    fabric.level(site, channel).await
}

/// Waits until every peer of the channel has seen a definition: a transaction is good only there.
async fn arrive(
    fabric: &dyn Fabric,
    site: &Site,
    channel: &ChannelPlan,
    is_it: &(dyn Fn(&Committed) -> bool + Sync),
) -> Result<(), ManagerError> {
    let arrivals = site.peers_in(channel).map(|at| async move {
        while !fabric.definitions(at, channel).await?.iter().any(is_it) {
            tokio::time::sleep(LOOK).await;
        }
        Ok::<(), ManagerError>(())
    });
    try_join_all(arrivals).await?;
    Ok(())
}

/// Waits until a chaincode answers on a peer.
async fn answers(
    fabric: &dyn Fabric,
    at: At<'_>,
    channel: &ChannelPlan,
    name: &str,
) -> Result<(), Broken> {
    let call = Invocation::new(name, HARMLESS);
    let broken = |reason: String| Broken {
        stage: Stage::Start,
        reason: format!("{}: {reason}", at.node.name),
    };
    let mut last = "no answer yet".to_owned();
    let mut ends = 0;
    let wait = async {
        loop {
            let answer = fabric.call(at, channel, &call).await;
            match answer.map_err(|e| broken(e.to_string()))? {
                Ok(()) => return Ok(()),
                Err(text) if came_from_chaincode(&text) => return Ok(()),
                Err(text) => last = text,
            }
            ends += u32::from(ended(&last));
            if ends >= STARTS {
                return Err(broken(last.clone()));
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    match tokio::time::timeout(START, wait).await {
        Ok(outcome) => outcome,
        Err(_) => Err(broken(format!(
            "{last} (not done within {} s)",
            START.as_secs()
        ))),
    }
}

/// Whether a refusal was the chaincode's own, not its peer's. Peers name the transaction when there
/// was no answer to pass on, and the chaincode when they do not know it.
fn came_from_chaincode(text: &str) -> bool {
    !text.contains("failed to execute transaction") && !text.contains("make sure the chaincode")
}

/// Whether the chaincode cannot be started, rather than is starting.
fn ended(text: &str) -> bool {
    ["registration failed", "error building", "error starting"]
        .iter()
        .any(|words| text.contains(words))
}

/// Installs a chaincode on every peer of a channel, approves it for every organisation and commits
/// it, leaving out what is done already. Whether it answers is seen by [`Fabric::smoke`].
pub(crate) async fn deploy_plan(
    fabric: &dyn Fabric,
    site: &Site,
    channel: &ChannelPlan,
    plan: &ChaincodePlan,
) -> Result<(), ManagerError> {
    let installs = site.peers_in(channel);
    try_join_all(installs.map(|at| fabric.install(at, &plan.package))).await?;
    let is_it = |d: &Committed| d.name == plan.name && d.version == plan.version;
    let done = match site.peers_in(channel).next() {
        Some(first) => fabric.definitions(first, channel).await?.iter().any(is_it),
        None => true,
    };
    if !done {
        let definition = Definition::new(&plan.name, &plan.version, 1);
        let package = |_: &str| Some(plan.package_id.as_str());
        approve(fabric, site, channel, &definition, &package).await?;
        fabric.commit(site, channel, &definition).await?;
    }
    arrive(fabric, site, channel, &is_it).await
}

/// The definitions of a channel, from the first peer that answers.
pub(crate) async fn definitions(
    fabric: &dyn Fabric,
    site: &Site,
    channel: &ChannelPlan,
) -> Result<Vec<Committed>, ManagerError> {
    let mut last = ManagerError::Driver(format!("the channel {} has no peers", channel.name));
    for at in site.peers_in(channel) {
        match fabric.definitions(at, channel).await {
            Ok(all) => return Ok(all),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_refusal_is_told_from_a_chaincodes() {
        for (text, own) in [
            (
                "You've asked to invoke a function that does not exist",
                true,
            ),
            (
                "error in simulation: transaction returned with failure: no",
                true,
            ),
            (
                "error in simulation: failed to execute transaction a: could not launch \
                 chaincode b: chaincode registration failed: it exited with 1",
                false,
            ),
            (
                "make sure the chaincode b has been successfully defined on channel c",
                false,
            ),
        ] {
            assert_eq!(came_from_chaincode(text), own, "{text}");
        }
        assert!(ended("chaincode registration failed: it exited with 1"));
        assert!(!ended("timeout expired while starting chaincode"));
    }
}

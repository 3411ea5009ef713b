//! Chaincode of an instance: from an uploaded file to packages on peers, and from there to
//! definitions in channels. The API (`http::chaincode`) and `selvage deploy` meet here.
//!
//! * [`package`]: what was sent, made into a package;
//! * [`lifecycle`]: approve, commit, initialise, wait until it answers;
//! * [`survey`]: what the peers have; [`view`]: how BCS shows it;
//! * [`policy`], [`collections`]: BCS's words for who endorses and who knows;
//! * [`failure`]: BCS's codes for what went wrong;
//! * [`folder`]: source folders for `selvage deploy`.

mod collections;
mod deploy;
mod failure;
mod folder;
mod install;
mod lifecycle;
mod package;
mod policy;
mod survey;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use selvage_chaincode::package::Package;
use selvage_client::{Definition, EndorsementPolicy};
use selvage_manager_api::chaincode::{
    ChaincodeInstalls, ChaincodeInstantiations, ChaincodeList, ChaincodeVersions,
    InstantiateChaincodeRequest, InstantiateChaincodeResponse,
};
use selvage_manager_api::{ApiError, ErrorCode};
use selvage_proto::lifecycle::query_chaincode_definitions_result::ChaincodeDefinition as Committed;

use crate::clock;
use crate::error::ManagerError;
use crate::fabric::{At, Fabric, Site};
use crate::network::{ChannelPlan, Network};
use crate::service::Manager;
use crate::store::{FailedRow, InstanceRow, Store};
use lifecycle::{Before, Broken, Stage, Wanted};
use survey::Survey;
use view::View;

pub use deploy::{DeployAnswer, DeployRequest};
pub use folder::{Source, read_source};
pub(crate) use install::Upload;
pub(crate) use lifecycle::{definitions, deploy_plan};
pub(crate) use package::{MOST_FILE, language};

/// Languages remembered of packages that were not installed through the API.
const LANGUAGES: usize = 1000;

/// Somebody who is told what happens.
type Say<'a> = &'a (dyn Fn(String) + Send + Sync);

/// An instantiation that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    channel: String,
    name: String,
    version: String,
}

/// What is going on with chaincode, by instance.
#[derive(Debug, Default)]
pub(crate) struct Chaincodes {
    running: Mutex<HashMap<String, Running>>,
    /// Deployments by `selvage deploy`, from before they build.
    deploying: Mutex<HashMap<String, Running>>,
    /// Of packages, by id.
    languages: Mutex<HashMap<String, String>>,
}

/// Which work a turn is for.
type Work = fn(&Chaincodes) -> &Mutex<HashMap<String, Running>>;

/// Keeps others from the same work in the same instance.
struct Turn {
    chaincodes: Arc<Chaincodes>,
    work: Work,
    instance: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        (self.work)(&self.chaincodes).lock().remove(&self.instance);
    }
}

impl Chaincodes {
    /// Two definitions of one chaincode at the same time would claim the same sequence.
    fn turn(self: &Arc<Self>, instance: &str, running: Running) -> Result<Turn, ApiError> {
        self.take(|c| &c.running, "instantiated", instance, running)
    }

    /// Whoever deploys while another does would build for minutes and then be refused.
    fn deploying(self: &Arc<Self>, instance: &str, running: Running) -> Result<Turn, ApiError> {
        if let Some(other) = self.running.lock().get(instance) {
            return Err(busy(other, "instantiated"));
        }
        self.take(|c| &c.deploying, "deployed", instance, running)
    }

    fn take(
        self: &Arc<Self>,
        work: Work,
        doing: &str,
        instance: &str,
        running: Running,
    ) -> Result<Turn, ApiError> {
        let mut all = work(self).lock();
        if let Some(other) = all.get(instance) {
            return Err(busy(other, doing));
        }
        all.insert(instance.to_owned(), running);
        Ok(Turn {
            chaincodes: Arc::clone(self),
            work,
            instance: instance.to_owned(),
        })
    }
}

fn busy(other: &Running, doing: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Busy,
        format!(
            "the chaincode {} {} is being {doing} in the channel {}; try again when that has ended",
            other.name, other.version, other.channel
        ),
    )
}

/// An instance's chaincode, with everything that answering about it takes.
pub(crate) struct Desk {
    pub(crate) instance: String,
    pub(crate) site: Site,
    pub(crate) fabric: Arc<dyn Fabric>,
    pub(crate) store: Store,
    pub(crate) chaincodes: Arc<Chaincodes>,
}

impl Manager {
    /// The desk of an instance that is there and is not being made or unmade.
    pub(crate) fn chaincode_desk(&self, row: &InstanceRow) -> Result<Arc<Desk>, ApiError> {
        row.require_ready()?;
        Ok(Arc::new(Desk {
            instance: row.id.clone(),
            site: self.site(row).ok_or_else(ApiError::busy)?,
            fabric: Arc::clone(&self.inner.fabric),
            store: self.inner.store.clone(),
            chaincodes: Arc::clone(&self.inner.chaincodes),
        }))
    }
}

fn no_answer(network: &Network) -> ApiError {
    let peers: Vec<&str> = network
        .peers
        .iter()
        .flat_map(|o| o.nodes.iter().map(|n| n.name.as_str()))
        .collect();
    ApiError::new(
        ErrorCode::SystemError,
        format!(
            "no peer answered ({}); see whether they run",
            peers.join(", ")
        ),
    )
}

fn cut_short(_: tokio::task::JoinError) -> ManagerError {
    ManagerError::Driver("reading a package broke off".to_owned())
}

impl Desk {
    async fn survey(&self) -> Result<Survey<'_>, ApiError> {
        let kept = self.store.chaincodes(&self.instance).await?;
        let survey = Survey::take(self.fabric.as_ref(), &self.site, kept).await;
        if !survey.has_answers() {
            return Err(no_answer(&self.site.network));
        }
        Ok(survey)
    }

    async fn view(&self) -> Result<View<'_>, ApiError> {
        let survey = self.survey().await?;
        Ok(View {
            network: &self.site.network,
            survey,
            failed: self.store.failed_instantiations(&self.instance).await?,
            running: self.chaincodes.running.lock().get(&self.instance).cloned(),
        })
    }

    /// A view of one chaincode, which has to be known.
    async fn view_of(&self, name: &str) -> Result<View<'_>, ApiError> {
        let view = self.view().await?;
        if view.survey.names().contains(name) {
            return Ok(view);
        }
        let name: String = name.chars().take(64).collect();
        Err(ApiError::new(
            ErrorCode::NoSuchChaincode,
            format!("no peer of this instance has the chaincode {name}; GET /chaincodes lists all"),
        ))
    }

    /// `GET /chaincodes`.
    pub(crate) async fn list(&self, offset: u64, limit: u32) -> Result<ChaincodeList, ApiError> {
        let view = self.view().await?;
        let names = view.survey.names();
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut chaincodes = Vec::new();
        for name in names.iter().skip(skip).take(limit as usize) {
            let language = self.language_of(&view.survey, name).await;
            chaincodes.push(view.info(name, language));
        }
        Ok(ChaincodeList {
            count: u32::try_from(names.len()).unwrap_or(u32::MAX),
            chaincodes,
        })
    }

    /// `GET /chaincode/versions`.
    pub(crate) async fn versions(&self, name: &str) -> Result<ChaincodeVersions, ApiError> {
        Ok(self.view_of(name).await?.versions(name))
    }

    /// `GET /chaincode/install`.
    pub(crate) async fn installs(&self, name: &str) -> Result<ChaincodeInstalls, ApiError> {
        Ok(self.view_of(name).await?.installs(name))
    }

    /// `GET /chaincode/instantiate`.
    pub(crate) async fn instantiations(
        &self,
        name: &str,
    ) -> Result<ChaincodeInstantiations, ApiError> {
        Ok(self.view_of(name).await?.instantiations(name))
    }

    /// The language of a chaincode's newest version: as it was installed, else out of the package
    /// of a peer, which is looked into once.
    async fn language_of(&self, survey: &Survey<'_>, name: &str) -> String {
        let Some(version) = survey.versions(name).pop() else {
            return String::new();
        };
        if let Some(row) = survey.row(name, &version) {
            return row.language.clone();
        }
        let mut peers = survey.peers.iter();
        let found = peers.find_map(|p| Some((p.at, survey.package_on(p, name, &version)?)));
        let Some((at, installed)) = found else {
            return String::new();
        };
        let id = &installed.package_id;
        if let Some(known) = self.chaincodes.languages.lock().get(id) {
            return known.clone();
        }
        let Ok(file) = self.fabric.package(at, id).await else {
            return String::new();
        };
        let open = move || Package::open(&file).map(|p| p.kind().as_str().to_owned());
        let opened = tokio::task::spawn_blocking(open).await.map_err(cut_short);
        let language = opened.ok().and_then(Result::ok).unwrap_or_default();
        let mut languages = self.chaincodes.languages.lock();
        if languages.len() < LANGUAGES {
            languages.insert(id.clone(), language.clone());
        }
        language
    }

    fn channel(&self, name: &str) -> Result<&ChannelPlan, ApiError> {
        let network = &self.site.network;
        network.channel(name).ok_or_else(|| {
            let known: Vec<&str> = network.channels.iter().map(|c| c.name.as_str()).collect();
            ApiError::new(
                ErrorCode::BadChannelName,
                format!(
                    "Invalid channel name. This instance has the channels {}",
                    known.join(", ")
                ),
            )
        })
    }

    /// `POST /chaincode/instantiate`: defines an installed version in a channel, or upgrades it.
    pub(crate) async fn instantiate(
        &self,
        request: &InstantiateChaincodeRequest,
        say: Say<'_>,
    ) -> Result<InstantiateChaincodeResponse, ApiError> {
        let (name, version) = (&request.chaincode_name, &request.chaincode_version);
        let channel = self.channel(&request.channel_name)?;
        let running = Running {
            channel: channel.name.clone(),
            name: name.clone(),
            version: version.clone(),
        };
        let _turn = self.chaincodes.turn(&self.instance, running)?;
        let wanted = self.wanted(request, channel).await?;
        let package_id = wanted.packages.values().next().cloned().unwrap_or_default();
        let done =
            lifecycle::instantiate(self.fabric.as_ref(), &self.site, channel, &wanted, say).await;
        if let Err(broken) = done {
            return Err(self.gone_wrong(channel, &wanted, broken, say).await?);
        }
        self.store
            .instantiated(
                &self.instance,
                &channel.name,
                name,
                version,
                clock::now_ns(),
            )
            .await?;
        Ok(InstantiateChaincodeResponse {
            chaincode_name: name.clone(),
            chaincode_version: version.clone(),
            channel_name: channel.name.clone(),
            sequence: wanted.definition.sequence,
            package_id,
            result: "success".to_owned(),
        })
    }

    /// Keeps why instantiating failed. When a definition was committed that does not work, the one
    /// before comes into force again.
    async fn gone_wrong(
        &self,
        channel: &ChannelPlan,
        wanted: &Wanted,
        mut broken: Broken,
        say: Say<'_>,
    ) -> Result<ApiError, ApiError> {
        let kind = failure::kind_of(&broken);
        let committed = matches!(broken.stage, Stage::Init | Stage::Start);
        if let (true, Some(before)) = (committed, &wanted.before) {
            let version = &before.definition.version;
            say(format!("going back to version {version}"));
            let fabric = self.fabric.as_ref();
            let outcome = lifecycle::go_back(fabric, &self.site, channel, before).await;
            broken.reason += &match outcome {
                Ok(()) => format!("; the earlier version {version} is in force again"),
                Err(error) => format!("; going back to version {version} failed too: {error}"),
            };
        }
        let failed = FailedRow {
            channel: channel.name.clone(),
            name: wanted.definition.name.clone(),
            version: wanted.definition.version.clone(),
            code: kind.code.to_owned(),
            reason: kind.reason.to_owned(),
            detail: broken.reason.clone(),
        };
        self.store
            .put_failed_instantiation(&self.instance, &failed)
            .await?;
        let mut error = failure::instantiate(kind, &broken);
        if kind.is_of_process()
            && let Some(log) = self.log_of(channel, wanted, &broken)
        {
            let Definition { name, version, .. } = &wanted.definition;
            error.message += "; ";
            error.message += &failure::last_words(&log, name, version);
        }
        Ok(error)
    }

    /// The log of the peer where a chaincode failed, as far as that is known.
    fn log_of(&self, channel: &ChannelPlan, wanted: &Wanted, broken: &Broken) -> Option<PathBuf> {
        let runs = |at: &At<'_>| wanted.runs_on.contains(&at.node.name);
        let peers: Vec<At<'_>> = self.site.peers_in(channel).filter(runs).collect();
        let named = peers.iter().find(|at| {
            let rest = broken.reason.strip_prefix(&at.node.name);
            rest.is_some_and(|rest| rest.starts_with(':'))
        });
        let node = named.or(peers.first())?.node;
        let folder = self.site.folders.node(node);
        Some(folder.join("log").join(format!("{}.log", node.name)))
    }

    /// Checks a request against what is there, and makes the definition of it. Nothing is changed.
    async fn wanted(
        &self,
        request: &InstantiateChaincodeRequest,
        channel: &ChannelPlan,
    ) -> Result<Wanted, ApiError> {
        let (name, version) = (&request.chaincode_name, &request.chaincode_version);
        let endorsers = request
            .endorsement_policy
            .as_ref()
            .map(|p| policy::endorsers(p, &self.site, channel))
            .transpose()?;
        let asked = request.private_data.as_deref().filter(|t| !t.is_empty());
        let collections = asked.map(collections::parse).transpose()?;
        let init = request.init_variable.clone();
        let init = init.filter(|i| !i.func_name.is_empty());
        if request
            .init_variable
            .as_ref()
            .is_some_and(|i| init.is_none() && !i.args.is_empty())
        {
            return Err(ApiError::missing("init_variable.func_name"));
        }

        let survey = self.survey().await?;
        let (packages, runs_on) = installed_in(&survey, channel, name, version)?;
        if let Some(endorsers) = &endorsers {
            require_installed(endorsers, &packages, name, version)?;
        }
        let current = self.current(channel, name).await?;
        if init.is_some()
            && current
                .as_ref()
                .is_some_and(|c| c.init_required && c.version == *version)
        {
            return Err(ApiError::bad(format!(
                "{name} {version} is initialised already in the channel {}, and a version is \
                 initialised once; install a new version, or leave out init_variable",
                channel.name
            )));
        }
        let kept = current.as_ref();
        let definition = Definition {
            name: name.clone(),
            version: version.clone(),
            sequence: kept.map_or(0, |c| c.sequence) + 1,
            endorsement: endorsers.map(|e| e.policy).unwrap_or_else(|| {
                let kept = kept.map(|c| c.validation_parameter.clone());
                kept.map_or(EndorsementPolicy::Default, EndorsementPolicy::Committed)
            }),
            collections: collections.or_else(|| kept.and_then(|c| c.collections.clone())),
            init_required: init.is_some(),
            ..Definition::default()
        };
        Ok(Wanted {
            before: current.and_then(|c| before(&survey, channel, c, &definition)),
            definition,
            packages,
            runs_on,
            init,
        })
    }

    /// The definition in force, when all peers of the channel agree on what is newest.
    async fn current(
        &self,
        channel: &ChannelPlan,
        name: &str,
    ) -> Result<Option<Committed>, ApiError> {
        let unwell = |e: ManagerError| ApiError::new(ErrorCode::SystemError, e.to_string());
        self.fabric
            .level(&self.site, channel)
            .await
            .map_err(unwell)?;
        let all = definitions(self.fabric.as_ref(), &self.site, channel).await;
        Ok(all.map_err(unwell)?.into_iter().find(|d| d.name == name))
    }
}

/// The definition in force as it can come back after `next`: with its policy and its packages, but
/// with the collections of `next`, because a collection cannot be taken away again.
fn before(
    survey: &Survey<'_>,
    channel: &ChannelPlan,
    current: Committed,
    next: &Definition,
) -> Option<Before> {
    let (packages, _) = installed_in(survey, channel, &current.name, &current.version).ok()?;
    Some(Before {
        packages,
        definition: Definition {
            name: current.name,
            version: current.version,
            sequence: next.sequence + 1,
            endorsement: EndorsementPolicy::Committed(current.validation_parameter),
            collections: next.collections.clone(),
            // An initialisation in between would be taken for that of another version.
            init_required: current.init_required && !next.init_required,
            ..Definition::default()
        },
    })
}

/// Refuses a policy that the installed chaincode could not satisfy.
fn require_installed(
    endorsers: &policy::Endorsers<'_>,
    packages: &BTreeMap<String, String>,
    name: &str,
    version: &str,
) -> Result<(), ApiError> {
    let has = |hash: &str| packages.contains_key(hash);
    let lacking = endorsers.orgs.iter().find(|o| !has(&o.hash));
    let enough = match endorsers.all {
        true => lacking.is_none(),
        false => endorsers.orgs.iter().any(|o| has(&o.hash)),
    };
    match lacking {
        Some(org) if !enough => Err(ApiError::bad(format!(
            "the organisation {} is to endorse, but none of its peers has {name} {version}; \
             install it there first",
            org.name
        ))),
        _ => Ok(()),
    }
}

/// Refuses when a peer of the channel is away: what an organisation approves is kept by those of its
/// peers that took part.
fn require_answers(survey: &Survey<'_>, channel: &ChannelPlan) -> Result<(), ApiError> {
    let mut peers = survey.peers.iter();
    let away = peers.find(|p| channel.orgs.contains(&p.at.org.name) && p.installed.is_none());
    away.map_or(Ok(()), |seen| {
        Err(ApiError::new(
            ErrorCode::SystemError,
            format!(
                "{} does not answer, and every peer of the channel has to approve; see whether \
                 it runs and try again",
                seen.at.node.name
            ),
        ))
    })
}

/// Which organisations of a channel have a version, and which of their peers. Every peer has to
/// answer.
fn installed_in(
    survey: &Survey<'_>,
    channel: &ChannelPlan,
    name: &str,
    version: &str,
) -> Result<(BTreeMap<String, String>, Vec<String>), ApiError> {
    require_answers(survey, channel)?;
    let (mut packages, mut runs_on) = (BTreeMap::new(), Vec::new());
    for seen in &survey.peers {
        let (org, node) = (seen.at.org, seen.at.node);
        if !channel.orgs.contains(&org.name) {
            continue;
        }
        if let Some(package) = survey.package_on(seen, name, version) {
            packages.insert(org.hash.clone(), package.package_id.clone());
            runs_on.push(node.name.clone());
        }
    }
    if !packages.is_empty() {
        return Ok((packages, runs_on));
    }
    let versions = survey.versions(name).join(", ");
    let cut = |text: &str| text.chars().take(64).collect::<String>();
    Err(ApiError::new(
        ErrorCode::NoSuchChaincode,
        format!(
            "no peer of the channel {} has {} {}; install it first ({})",
            channel.name,
            cut(name),
            cut(version),
            if versions.is_empty() {
                "no version of it is installed".to_owned()
            } else {
                format!("installed: {versions}")
            }
        ),
    ))
}

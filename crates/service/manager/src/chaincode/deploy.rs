//! `selvage deploy`: install on every peer, instantiate in a channel.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use selvage_manager_api::ApiError;
use selvage_manager_api::chaincode::InstantiateChaincodeRequest;
use serde::{Deserialize, Serialize};

use super::package::plain;
use super::survey::next_version;
use super::{Desk, Running, Say, Upload, language, require_answers};
use crate::error::ManagerError;
use crate::network::ChannelPlan;
use crate::service::Manager;

/// Version of a chaincode that has none yet.
const FIRST_VERSION: &str = "1.0";
/// How often somebody who waits is told that work goes on.
const STILL: Duration = Duration::from_secs(10);
/// Versions that are passed over because they are taken.
const TAKEN: usize = 1000;

/// What `selvage deploy` asks for; the file comes beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployRequest {
    /// Name in the channel.
    pub name: String,
    /// Version; without it the first is 1.0 and later ones count up.
    pub version: Option<String>,
    /// `node`, `go` or `java`; found out when absent.
    pub language: Option<String>,
    /// Channel; the network's first when absent.
    pub channel: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployAnswer {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Channel.
    pub channel: String,
    /// Fabric's sequence.
    pub sequence: i64,
    /// Fabric's package id.
    pub package_id: String,
}

/// Fabric's rules for names and versions, which are wider than BCS's.
fn check(name: &str, version: Option<&str>) -> Result<(), ManagerError> {
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    if name.len() > 64 || !name.split(['-', '_']).all(plain) {
        return Err(ManagerError::Option(format!(
            "'{name}' is no name for a chaincode: use up to 64 letters and digits, with single '-' \
             or '_' between them"
        )));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.+-".contains(&b);
    let fits = |v: &str| !v.is_empty() && v.len() <= 64 && v.bytes().all(allowed);
    if let Some(version) = version.filter(|v| !fits(v)) {
        return Err(ManagerError::Option(format!(
            "'{version}' is no version: use up to 64 letters, digits and '.', '-', '_', '+'"
        )));
    }
    Ok(())
}

fn refused(error: ApiError) -> ManagerError {
    ManagerError::Option(plain(error))
}

impl Manager {
    /// `selvage deploy`, for the network that `selvage up` made. `say` gets a line per step, and
    /// one now and then while nothing else happens.
    pub(crate) async fn deploy(
        &self,
        request: DeployRequest,
        file: Bytes,
        say: Say<'_>,
    ) -> Result<DeployAnswer, ManagerError> {
        let row = self.first_light().await?.ok_or_else(|| {
            ManagerError::Option("there is no network yet; make one with `selvage up`".to_owned())
        })?;
        let desk = self.chaincode_desk(&row).map_err(refused)?;
        let chaincode = request.name.clone();
        let chaincode = chaincode.as_str();
        let began = tokio::time::Instant::now();
        let last = Mutex::new("begun".to_owned());
        let heard = |line: String| {
            // Whoever asked may hang up; what became of it is in the log then.
            tracing::info!(chaincode, "deploying: {line}");
            last.lock().clone_from(&line);
            say(line);
        };
        let work = desk.deploy(request, file, &heard);
        tokio::pin!(work);
        loop {
            match tokio::time::timeout(STILL, &mut work).await {
                Ok(Ok(done)) => {
                    tracing::info!(chaincode, version = done.version, "deployed");
                    return Ok(done);
                }
                Ok(Err(error)) => {
                    tracing::warn!(chaincode, %error, "not deployed");
                    return Err(error);
                }
                Err(_) => {
                    let seconds = began.elapsed().as_secs();
                    let doing = last.lock().clone();
                    say(format!("still {doing} ({seconds} s)"));
                }
            }
        }
    }
}

impl Desk {
    /// Installs a chaincode on every peer and instantiates it, or upgrades it.
    pub(crate) async fn deploy(
        &self,
        request: DeployRequest,
        file: Bytes,
        say: Say<'_>,
    ) -> Result<DeployAnswer, ManagerError> {
        check(&request.name, request.version.as_deref())?;
        let network = &self.site.network;
        let channel = request.channel.clone();
        let channel = channel.or_else(|| network.channels.first().map(|c| c.name.clone()));
        let channel = channel.unwrap_or_default();
        let plan = self.channel(&channel).map_err(refused)?;
        let kind = request.language.as_deref().map(language);
        let kind = kind.transpose().map_err(refused)?;
        let version = match request.version {
            Some(version) => version,
            None => self.free_version(&channel, &request.name).await?,
        };
        let running = Running {
            channel: channel.clone(),
            name: request.name.clone(),
            version: version.clone(),
        };
        let turn = self.chaincodes.deploying(&self.instance, running);
        let _turn = turn.map_err(refused)?;
        self.refuse_in_vain(plan, &request.name, &version).await?;
        let upload = Upload {
            name: request.name.clone(),
            version: version.clone(),
            language: kind,
            description: String::new(),
            targets: None,
            file,
        };
        say(format!("preparing {} {version}", request.name));
        let installed = self.install(upload, say).await.map_err(refused)?;
        if !installed.fail_peers.is_empty() {
            return Err(ManagerError::Driver(format!(
                "{} {version} is not on every peer, so nothing was committed; see whether the \
                 peers run and deploy it again with --version {version}: {}",
                request.name,
                installed.fail_peers.join("; ")
            )));
        }
        let wanted = InstantiateChaincodeRequest {
            chaincode_name: request.name,
            chaincode_version: version,
            channel_name: channel,
            endorsement_policy: None,
            init_variable: None,
            private_data: None,
        };
        let done = self.instantiate(&wanted, say).await.map_err(refused)?;
        Ok(DeployAnswer {
            name: done.chaincode_name,
            version: done.chaincode_version,
            channel: done.channel_name,
            sequence: done.sequence,
            package_id: done.package_id,
        })
    }

    /// Refuses what would come to nothing after minutes of building: a deployment while a peer is
    /// away, and a version that is in force and installed everywhere. One that a peer lacks is
    /// deployed again.
    async fn refuse_in_vain(
        &self,
        channel: &ChannelPlan,
        name: &str,
        version: &str,
    ) -> Result<(), ManagerError> {
        let survey = self.survey().await.map_err(refused)?;
        require_answers(&survey, channel).map_err(refused)?;
        let channel = channel.name.as_str();
        let defined = survey.definition(channel, name);
        let mut peers = survey.peers.iter();
        if defined.is_none_or(|d| d.version != version)
            || !peers.all(|p| survey.package_on(p, name, version).is_some())
        {
            return Ok(());
        }
        Err(ManagerError::Option(format!(
            "{name} {version} is in force in the channel {channel} already; choose another version, \
             or leave out --version to take the next one"
        )))
    }

    /// The version after the one in the channel that no peer has yet.
    async fn free_version(&self, channel: &str, name: &str) -> Result<String, ManagerError> {
        let survey = self.survey().await.map_err(refused)?;
        let current = survey.definition(channel, name);
        let mut version =
            current.map_or_else(|| FIRST_VERSION.to_owned(), |d| next_version(&d.version));
        let taken = survey.versions(name);
        for _ in 0..TAKEN {
            if !taken.contains(&version) {
                break;
            }
            version = next_version(&version);
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_follow_fabric() {
        for name in ["basic", "asset-transfer_2", "A"] {
            check(name, Some("v1.0+x")).expect(name);
        }
        let long = "a".repeat(65);
        for name in ["", "-a", "a--b", "a.b", "资产", &long] {
            assert!(check(name, None).is_err(), "{name}");
        }
        for version in ["", "1,0", "1 0", "../1"] {
            assert!(check("basic", Some(version)).is_err(), "{version}");
        }
    }
}

//! Installing packages, and keeping the chaincode of committed definitions running, so that no
//! transaction waits for a build or a start (Fabric: `lifecycle.go`, `custodian.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use selvage_chaincode::package::Package;
use selvage_chaincode::runtime::LaunchRequest;
use selvage_net::CancellationToken;

use super::Chaincodes;
use super::store::PackageStore;
use crate::channels::PeerChannel;
use crate::report;
use crate::scc::{CommittedState, InstalledPackage, Packages, defined_chaincodes};

impl Packages for Chaincodes {
    fn install(&self, package: Bytes) -> BoxFuture<'_, Result<(String, String), String>> {
        Box::pin(self.install_package(package))
    }

    fn list(&self) -> Vec<InstalledPackage> {
        let references = self.references();
        let used_by = |id: &str| {
            let of_package = references.iter().filter(|r| r.package_id == id);
            let entry = |r: &Reference| (r.channel.clone(), r.name.clone(), r.version.clone());
            of_package.map(entry).collect()
        };
        let packages = self.packages.list().into_iter();
        packages
            .map(|(package_id, label)| InstalledPackage {
                references: used_by(&package_id),
                package_id,
                label,
            })
            .collect()
    }

    fn load(&self, package_id: &str) -> Result<Bytes, String> {
        self.packages.load(package_id).map_err(|e| report(&e))
    }
}

/// A committed definition that runs an installed package.
struct Reference {
    channel: String,
    name: String,
    version: String,
    package_id: String,
}

impl Chaincodes {
    async fn install_package(&self, package: Bytes) -> Result<(String, String), String> {
        let bytes = package.clone();
        let opened = tokio::task::spawn_blocking(move || Package::open(&bytes));
        let opened = opened
            .await
            .map_err(|e| format!("the package could not be read: {e}"))?;
        let label = opened
            .map_err(|e| {
                format!(
                    "could not parse as a chaincode install package: {}; {}",
                    report(&e),
                    e.advice()
                )
            })?
            .label()
            .to_owned();
        let id = PackageStore::id_of(&label, &package);
        let lock = self
            .installing
            .lock()
            .entry(id.clone())
            .or_default()
            .clone();
        let outcome = {
            let _alone = lock.lock().await;
            self.keep_and_build(&id, &label, package).await
        };
        let mut installing = self.installing.lock();
        // This call and the map hold one each; anything above is another call that waits.
        if Arc::strong_count(&lock) <= 2 {
            installing.remove(&id);
        }
        drop(installing);
        outcome?;
        tracing::info!(package_id = %id, "Successfully installed chaincode");
        self.start_defined();
        Ok((id, label))
    }

    async fn keep_and_build(&self, id: &str, label: &str, package: Bytes) -> Result<(), String> {
        if self.packages.contains(id) {
            // Programs look for the whole of what is answered.
            tracing::warn!(
                package_id = id,
                "chaincode is installed already: approve its package ID, or install other code \
                 under another label"
            );
            return Err(format!(
                "chaincode already successfully installed (package ID '{id}')"
            ));
        }
        let (store, owned) = (self.packages.clone(), label.to_owned());
        let saved = tokio::task::spawn_blocking(move || store.save(&owned, &package)).await;
        let saved = saved
            .map_err(|e| e.to_string())
            .and_then(|s| s.map_err(|e| report(&e)));
        saved.map_err(|e| format!("could not save cc install package: {e}"))?;
        let build = tokio::time::timeout(self.install_timeout, self.runtime.build(id)).await;
        let failure = match build {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => report(&error),
            Err(_) => {
                let seconds = self.install_timeout.as_secs();
                format!("the build took longer than {seconds} s (chaincode.installTimeout)")
            }
        };
        if let Err(error) = self.packages.remove(id) {
            tracing::error!(package_id = %id, error = %report(&error), "cannot remove a package");
        }
        Err(format!(
            "could not build chaincode: {failure}\nNothing was installed: correct this, and install \
             it again"
        ))
    }

    /// Keeps the chaincode of a channel running from now on: what is defined already, and what
    /// later blocks define. The task ends when `shutdown` is cancelled.
    pub fn follow(&self, channel: &Arc<PeerChannel>, shutdown: CancellationToken) {
        let Some(me) = self.me.upgrade() else { return };
        let channel = channel.clone();
        tokio::spawn(async move {
            let mut height = channel.height_watch();
            let mut seen = None;
            loop {
                let generation = channel.lifecycle_generation();
                if seen != Some(generation) {
                    seen = Some(generation);
                    me.start_defined();
                }
                tokio::select! {
                    changed = height.changed() => if changed.is_err() { return },
                    () = shutdown.cancelled() => return,
                }
            }
        });
    }

    /// Starts every chaincode that is defined, approved and installed, and stops what no
    /// definition uses any more. Returns at once.
    fn start_defined(&self) {
        let references = self.references();
        let wanted: BTreeSet<String> = references.iter().map(|r| r.package_id.clone()).collect();
        let unused: Vec<String> = {
            let mut started = self.started.lock();
            let unused = started.difference(&wanted).cloned().collect();
            *started = wanted;
            unused
        };
        for package_id in unused {
            let runtime = self.runtime.clone();
            tokio::spawn(async move { runtime.stop(&package_id).await });
        }
        for reference in references {
            let runtime = self.runtime.clone();
            let request = LaunchRequest {
                package_id: reference.package_id,
                name: reference.name,
                version: reference.version,
            };
            tokio::spawn(async move {
                if let Err(error) = runtime.launch(&request).await {
                    let error = report(&error);
                    let chaincode = request.name;
                    tracing::warn!(chaincode, %error, "chaincode is not running yet");
                }
            });
        }
    }

    /// The chaincodes a channel has defined, with their sequences.
    pub(crate) fn defined(&self, channel: &PeerChannel) -> Result<BTreeMap<String, i64>, String> {
        let query = channel.ledger().query().map_err(|e| report(&e))?;
        let names = defined_chaincodes(&mut CommittedState(query))?;
        let mut out = BTreeMap::new();
        for name in names {
            if let Some(definition) = channel.definition(&name).map_err(|e| report(&e))? {
                out.insert(name, definition.sequence);
            }
        }
        Ok(out)
    }

    fn references(&self) -> Vec<Reference> {
        let mut out = Vec::new();
        for channel in self.channels.list() {
            match self.references_of(&channel) {
                Ok(references) => out.extend(references),
                Err(error) => {
                    let channel = channel.id();
                    tracing::error!(channel, error, "cannot read chaincode definitions");
                }
            }
        }
        out
    }

    fn references_of(&self, channel: &PeerChannel) -> Result<Vec<Reference>, String> {
        let query = channel.ledger().query().map_err(|e| report(&e))?;
        let names = defined_chaincodes(&mut CommittedState(query))?;
        let mut out = Vec::new();
        for name in names {
            let Some(local) = self.local_chaincode(channel, &name)? else {
                continue;
            };
            if let Some(package_id) = local.package_id.clone().filter(|_| local.approved) {
                out.push(Reference {
                    channel: channel.id().to_owned(),
                    version: local.definition.version().to_owned(),
                    name,
                    package_id,
                });
            }
        }
        Ok(out)
    }
}

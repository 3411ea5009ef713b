//! Peers without processes, and files to send them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Write};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use selvage_chaincode::package::{ChaincodeKind, Package, SourceFile, write_package};
use selvage_client::{Definition, EndorsementPolicy, Invocation};
use selvage_proto::lifecycle::query_chaincode_definitions_result::ChaincodeDefinition as Committed;
use selvage_proto::lifecycle::query_installed_chaincodes_result::{
    Chaincode, InstalledChaincode as Installed, References,
};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::error::ManagerError;
use crate::fabric::{Answer, At, ChaincodePlan, Fabric, Site};
use crate::network::{ChannelPlan, Node, Org};

pub(crate) fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in files {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .expect("an entry");
        writer.write_all(contents).expect("contents");
    }
    writer.finish().expect("a zip").into_inner()
}

pub(crate) fn package_of(kind: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let files = files.iter().map(|(name, contents)| SourceFile {
        name: (*name).to_owned(),
        contents: Bytes::copy_from_slice(contents),
        executable: false,
    });
    let kind = ChaincodeKind::parse(kind);
    write_package("label_1", &kind, "x", files.collect())
        .expect("a package")
        .to_vec()
}

/// Peers that remember what they are told. Everything is kept by a peer's name.
#[derive(Default)]
pub(crate) struct Peers {
    pub(crate) packages: Mutex<BTreeMap<String, Vec<(String, Bytes)>>>,
    pub(crate) committed: Mutex<Vec<Committed>>,
    /// Organisation, sequence, package.
    pub(crate) approved: Mutex<Vec<(String, i64, Option<String>)>>,
    /// Peers that do not answer.
    pub(crate) away: Mutex<BTreeSet<String>>,
    /// What installing, committing and initialising fail with.
    pub(crate) build_error: Mutex<Option<String>>,
    pub(crate) commit_error: Mutex<Option<String>>,
    pub(crate) init_error: Mutex<Option<String>>,
    /// What the next calls of a chaincode are answered with.
    pub(crate) answers: Mutex<Vec<Result<(), String>>>,
    /// Functions that were called to initialise.
    pub(crate) inits: Mutex<Vec<Vec<Bytes>>>,
    pub(crate) installs: Mutex<Vec<String>>,
}

fn driver(text: impl Into<String>) -> ManagerError {
    ManagerError::Driver(text.into())
}

impl Peers {
    fn answer(&self, at: At<'_>) -> Result<String, ManagerError> {
        let name = at.node.name.clone();
        if self.away.lock().contains(&name) {
            return Err(driver(format!("{name}: transport error")));
        }
        Ok(name)
    }
}

impl Fabric for Peers {
    fn join_orderer<'a>(&'a self, _: &'a Site, _: &'a Node, _: &'a ChannelPlan) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn orderer_channels<'a>(&'a self, _: &'a Site, _: &'a Node) -> Answer<'a, Vec<String>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn join_peer<'a>(
        &'a self,
        _: &'a Site,
        _: &'a Org,
        _: &'a Node,
        _: &'a ChannelPlan,
    ) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn peer_channels<'a>(
        &'a self,
        site: &'a Site,
        org: &'a Org,
        node: &'a Node,
    ) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            self.answer(At { site, org, node })?;
            let channels = site.network.channels.iter();
            let own = channels.filter(|c| c.orgs.contains(&org.name));
            Ok(own.map(|c| c.name.clone()).collect())
        })
    }

    fn install<'a>(&'a self, at: At<'a>, package: &'a Bytes) -> Answer<'a, ()> {
        Box::pin(async move {
            let name = self.answer(at)?;
            self.installs.lock().push(name.clone());
            if let Some(error) = self.build_error.lock().clone() {
                return Err(driver(format!(
                    "{name}: could not build chaincode: {error}"
                )));
            }
            let id = Package::open(package).expect("a package").id().to_owned();
            let mut packages = self.packages.lock();
            let own = packages.entry(name).or_default();
            if !own.iter().any(|(known, _)| *known == id) {
                own.push((id, package.clone()));
            }
            Ok(())
        })
    }

    fn installed<'a>(&'a self, at: At<'a>) -> Answer<'a, Vec<Installed>> {
        Box::pin(async move {
            let name = self.answer(at)?;
            let packages = self.packages.lock();
            let own = packages.get(&name).into_iter().flatten();
            let committed = self.committed.lock();
            let approved = self.approved.lock();
            let uses = |id: &str| -> Vec<Chaincode> {
                let uses = |d: &&Committed| {
                    approved.iter().any(|(org, sequence, package)| {
                        *org == at.org.hash
                            && *sequence == d.sequence
                            && package.as_deref() == Some(id)
                    })
                };
                let own = committed.iter().filter(uses);
                own.map(|d| Chaincode {
                    name: d.name.clone(),
                    version: d.version.clone(),
                })
                .collect()
            };
            Ok(own
                .map(|(id, _)| Installed {
                    package_id: id.clone(),
                    label: id.split(':').next().unwrap_or_default().to_owned(),
                    references: [(
                        "channel".to_owned(),
                        References {
                            chaincodes: uses(id),
                        },
                    )]
                    .into(),
                })
                .collect())
        })
    }

    fn package<'a>(&'a self, at: At<'a>, package_id: &'a str) -> Answer<'a, Bytes> {
        Box::pin(async move {
            let name = self.answer(at)?;
            let packages = self.packages.lock();
            let mut own = packages.get(&name).into_iter().flatten();
            let found = own.find(|(id, _)| id == package_id);
            found
                .map(|(_, package)| package.clone())
                .ok_or_else(|| driver("not there"))
        })
    }

    fn definitions<'a>(&'a self, at: At<'a>, _: &'a ChannelPlan) -> Answer<'a, Vec<Committed>> {
        Box::pin(async move {
            self.answer(at)?;
            let mut newest = BTreeMap::new();
            for definition in self.committed.lock().iter() {
                newest.insert(definition.name.clone(), definition.clone());
            }
            Ok(newest.into_values().collect())
        })
    }

    fn level<'a>(&'a self, site: &'a Site, channel: &'a ChannelPlan) -> Answer<'a, ()> {
        Box::pin(async move {
            for at in site.peers_in(channel) {
                self.answer(at)?;
            }
            Ok(())
        })
    }

    fn approve<'a>(
        &'a self,
        _: &'a Site,
        _: &'a ChannelPlan,
        org: &'a Org,
        definition: &'a Definition,
        package_id: Option<&'a str>,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let package = package_id.map(str::to_owned);
            let approval = (org.hash.clone(), definition.sequence, package);
            self.approved.lock().push(approval);
            Ok(())
        })
    }

    fn commit<'a>(
        &'a self,
        _: &'a Site,
        _: &'a ChannelPlan,
        definition: &'a Definition,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            if let Some(error) = self.commit_error.lock().clone() {
                return Err(driver(error));
            }
            let policy = match &definition.endorsement {
                EndorsementPolicy::Committed(bytes) => bytes.clone(),
                EndorsementPolicy::Signature(text) | EndorsementPolicy::Channel(text) => {
                    text.clone().into()
                }
                EndorsementPolicy::Signers(policy) => policy.encode_to_vec().into(),
                EndorsementPolicy::Default => Bytes::new(),
            };
            self.committed.lock().push(Committed {
                name: definition.name.clone(),
                version: definition.version.clone(),
                sequence: definition.sequence,
                validation_parameter: policy,
                collections: definition.collections.clone(),
                init_required: definition.init_required,
                ..Committed::default()
            });
            Ok(())
        })
    }

    fn call<'a>(
        &'a self,
        at: At<'a>,
        _: &'a ChannelPlan,
        _: &'a Invocation,
    ) -> Answer<'a, Result<(), String>> {
        Box::pin(async move {
            self.answer(at)?;
            Ok(self.answers.lock().pop().unwrap_or(Ok(())))
        })
    }

    fn submit<'a>(
        &'a self,
        _: &'a Site,
        _: &'a ChannelPlan,
        call: &'a Invocation,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            assert!(call.is_init, "only initialisations are submitted");
            if let Some(error) = self.init_error.lock().clone() {
                return Err(driver(error));
            }
            self.inits.lock().push(call.args.clone());
            Ok(())
        })
    }

    fn smoke<'a>(
        &'a self,
        _: &'a Site,
        _: &'a ChannelPlan,
        _: Option<&'a ChaincodePlan>,
    ) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

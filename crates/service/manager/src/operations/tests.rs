//! Every step done twice, failed once and taken back. Only the processes and their answers are
//! replaced; names, folders, keys, blocks and the database are real.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use selvage_client::{Definition, Invocation};
use selvage_manager_api::consensus::Consensus;
use selvage_manager_api::operation::{OperationStatus, OperationType};
use selvage_manager_api::validate::CreateSpec;
use selvage_proto::lifecycle::query_chaincode_definitions_result::ChaincodeDefinition as Committed;
use selvage_proto::lifecycle::query_installed_chaincodes_result::InstalledChaincode as Installed;

use super::*;
use crate::driver::{Driver, NodeSpec, Observation};
use crate::error::ManagerError;
use crate::fabric::{Answer, At, ChaincodePlan, Fabric, Site};
use crate::network::{ChannelPlan, Folders, Node, Org, testing};
use crate::store::{
    Added, InstanceRow, InstanceState, NewInstance, OperationFilter, OperationParams, OperationRow,
    Project, Store,
};

/// Stands in for processes and nodes; fails once at the named place.
#[derive(Default)]
struct Stand {
    running: Mutex<BTreeMap<String, NodeSpec>>,
    joined: Mutex<Vec<String>>,
    calls: Mutex<Vec<String>>,
    committed: Mutex<Vec<Committed>>,
    fail_at: Mutex<Option<String>>,
}

impl Stand {
    fn call(&self, what: &str) -> Result<(), ManagerError> {
        self.calls.lock().push(what.to_owned());
        let mut fail = self.fail_at.lock();
        if fail.as_deref() == Some(what) {
            *fail = None;
            return Err(ManagerError::Driver(format!("{what}: injected fault")));
        }
        Ok(())
    }
}

impl Driver for Stand {
    fn apply(&self, spec: NodeSpec) -> BoxFuture<'_, Result<(), ManagerError>> {
        Box::pin(async move {
            self.call(&format!("start {}", spec.program))?;
            assert!(
                spec.dir.join("msp/signcerts").exists(),
                "keys come before nodes"
            );
            self.running.lock().insert(spec.id.clone(), spec);
            Ok(())
        })
    }

    fn remove<'a>(&'a self, spec: &'a NodeSpec) -> BoxFuture<'a, Result<(), ManagerError>> {
        Box::pin(async move {
            self.call("stop")?;
            self.running.lock().remove(&spec.id);
            Ok(())
        })
    }

    fn observe<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Observation>> {
        Box::pin(async move {
            self.running.lock().get(id).map(|_| Observation {
                healthy: true,
                pid: Some(1),
                restarts: 0,
                detail: String::new(),
            })
        })
    }

    fn stop_all(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.running.lock().clear() })
    }
}

impl Fabric for Stand {
    fn join_orderer<'a>(
        &'a self,
        site: &'a Site,
        node: &'a Node,
        channel: &'a ChannelPlan,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            self.call("join orderer")?;
            assert!(site.folders.genesis(&channel.name).exists());
            self.joined.lock().push(node.name.clone());
            Ok(())
        })
    }

    fn orderer_channels<'a>(&'a self, _: &'a Site, _: &'a Node) -> Answer<'a, Vec<String>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn join_peer<'a>(
        &'a self,
        _: &'a Site,
        _: &'a Org,
        node: &'a Node,
        _: &'a ChannelPlan,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            self.call("join peer")?;
            self.joined.lock().push(node.name.clone());
            Ok(())
        })
    }

    fn peer_channels<'a>(
        &'a self,
        _: &'a Site,
        _: &'a Org,
        _: &'a Node,
    ) -> Answer<'a, Vec<String>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn install<'a>(&'a self, _: At<'a>, _: &'a Bytes) -> Answer<'a, ()> {
        Box::pin(async { self.call("chaincode") })
    }

    fn installed<'a>(&'a self, _: At<'a>) -> Answer<'a, Vec<Installed>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn package<'a>(&'a self, _: At<'a>, _: &'a str) -> Answer<'a, Bytes> {
        Box::pin(async { Ok(Bytes::new()) })
    }

    fn definitions<'a>(&'a self, _: At<'a>, _: &'a ChannelPlan) -> Answer<'a, Vec<Committed>> {
        Box::pin(async { Ok(self.committed.lock().clone()) })
    }

    fn level<'a>(&'a self, _: &'a Site, _: &'a ChannelPlan) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn approve<'a>(
        &'a self,
        _: &'a Site,
        _: &'a ChannelPlan,
        _: &'a Org,
        _: &'a Definition,
        package_id: Option<&'a str>,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            assert_eq!(package_id, Some("basic_1.0:aa"));
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
            self.committed.lock().push(Committed {
                name: definition.name.clone(),
                version: definition.version.clone(),
                sequence: definition.sequence,
                ..Committed::default()
            });
            Ok(())
        })
    }

    fn call<'a>(
        &'a self,
        _: At<'a>,
        _: &'a ChannelPlan,
        _: &'a Invocation,
    ) -> Answer<'a, Result<(), String>> {
        Box::pin(async { Ok(Ok(())) })
    }

    fn submit<'a>(&'a self, _: &'a Site, _: &'a ChannelPlan, _: &'a Invocation) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn smoke<'a>(
        &'a self,
        _: &'a Site,
        _: &'a ChannelPlan,
        _: Option<&'a ChaincodePlan>,
    ) -> Answer<'a, ()> {
        Box::pin(async { self.call("verify") })
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    folders: Folders,
    store: Store,
    stand: Arc<Stand>,
    spec: CreateSpec,
    project: Project,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(&dir.path().join("db")).await.expect("database");
        let project = Project {
            project_id: "p".into(),
            domain_id: "d".into(),
            quota: 5,
        };
        store
            .add_tenant(&project, ("ak", "sk"), ("admin", "hash"))
            .await
            .expect("tenant");
        Self {
            folders: Folders::new(dir.path().join("instances/i")),
            _dir: dir,
            store,
            stand: Arc::default(),
            spec: CreateSpec {
                consensus: Consensus::Raft,
                orderers: 3,
                ..testing::spec()
            },
            project,
        }
    }

    fn plan(&self) -> Plan {
        creation(CreateParts {
            instance: "i".into(),
            spec: self.spec.clone(),
            folders: self.folders.clone(),
            store: self.store.clone(),
            driver: Arc::clone(&self.stand) as Arc<dyn Driver>,
            fabric: Arc::clone(&self.stand) as Arc<dyn Fabric>,
            host: "127.0.0.1".into(),
            listen: "127.0.0.1".parse().expect("address"),
            chaincode: Some(ChaincodePlan {
                name: "basic".into(),
                version: "1.0".into(),
                probe: &["Exists", "x"],
                package_id: "basic_1.0:aa".into(),
                package: Bytes::new(),
            }),
        })
    }

    fn names(plan: &Plan) -> Vec<StepName> {
        plan.stages.iter().flatten().map(|s| s.name()).collect()
    }

    async fn begin(&self, kind: OperationType, plan: &Plan) -> OperationRow {
        let now = crate::clock::now_ns();
        let record = fresh_record(
            kind,
            now,
            &self.project,
            "i",
            &self.spec,
            &Self::names(plan),
        );
        OperationRow {
            started_ns: now,
            undoing: false,
            params: OperationParams { with_storage: true },
            record,
        }
    }

    /// Writes a creation down, as the service does before it answers.
    async fn begin_creation(&self, plan: &Plan) -> OperationRow {
        let row = self.begin(OperationType::Create, plan).await;
        let new = NewInstance {
            id: "i",
            project_id: "p",
            created_ns: row.started_ns,
            spec: &self.spec,
            password_hash: "hash",
        };
        let added = self.store.add_instance(&new, &row, 5).await.expect("added");
        assert_eq!(added, Added::Yes);
        row
    }

    async fn run(&self, row: OperationRow, plan: Plan) -> OperationStatus {
        run(self.store.clone(), row, plan)
            .await
            .expect("the store works")
    }

    async fn create(&self) -> OperationStatus {
        let plan = self.plan();
        let row = self.begin_creation(&plan).await;
        self.run(row, plan).await
    }

    async fn instance(&self) -> Option<InstanceRow> {
        self.store.instance("i").await.expect("read")
    }

    async fn unfinished(&self) -> Vec<OperationRow> {
        self.store.unfinished_operations().await.expect("list")
    }

    async fn last(&self) -> OperationRow {
        let filter = OperationFilter::default();
        self.store
            .operations("p", &filter)
            .await
            .expect("records")
            .1
            .remove(0)
    }

    async fn assert_nothing_is_left(&self) {
        assert!(self.stand.running.lock().is_empty(), "processes are left");
        assert!(!self.folders.root().exists(), "folders are left");
        assert!(self.instance().await.is_none(), "the row is left");
        assert!(
            self.store.ports().await.expect("read").is_empty(),
            "ports are left"
        );
    }
}

#[tokio::test]
async fn a_creation_makes_everything_and_a_deletion_leaves_nothing() {
    let bench = Bench::new().await;
    assert_eq!(bench.create().await, OperationStatus::Finished);
    let instance = bench.instance().await.expect("there");
    assert_eq!(instance.state, InstanceState::Ready);
    assert_eq!(bench.stand.running.lock().len(), 6);
    let joined: BTreeSet<String> = bench.stand.joined.lock().iter().cloned().collect();
    assert_eq!(joined.len(), 6, "three orderers and three peers");
    let record = bench.last().await.record;
    assert_eq!(record.operation_status, OperationStatus::Finished);
    let preparation = &record.operation_process["Preparation"];
    assert_eq!(preparation.status, OperationStatus::Finished);
    let step = &preparation.sub_steps["Generate basic configurations"];
    assert!(step.start_time > 0 && step.end_time >= step.start_time);
    assert_eq!(status_of_creation(&record).bcs.status, "finished");

    let plan = deletion(DeleteParts {
        instance: "i".into(),
        network: instance.network,
        folders: bench.folders.clone(),
        store: bench.store.clone(),
        driver: Arc::clone(&bench.stand) as Arc<dyn Driver>,
        listen: "127.0.0.1".parse().expect("address"),
        with_storage: true,
    });
    let row = bench.begin(OperationType::Delete, &plan).await;
    let begun = async || {
        let store = &bench.store;
        let begun = store.begin_operation(&row, InstanceState::Deleting).await;
        begun.expect("the store works")
    };
    assert!(begun().await);
    assert!(!begun().await, "one change at a time");
    assert_eq!(bench.run(row, plan).await, OperationStatus::Finished);
    bench.assert_nothing_is_left().await;
}

#[tokio::test]
async fn every_step_may_be_done_twice() {
    let bench = Bench::new().await;
    assert_eq!(bench.create().await, OperationStatus::Finished);
    let before = bench.instance().await.expect("there").network;
    let admin = bench.folders.root().join("orgs");
    let files = |root: &std::path::Path| {
        let mut all = BTreeMap::new();
        let mut waiting = vec![root.to_owned()];
        while let Some(folder) = waiting.pop() {
            for entry in std::fs::read_dir(folder).expect("folder").flatten() {
                if entry.path().is_dir() {
                    waiting.push(entry.path());
                } else {
                    all.insert(entry.path(), std::fs::read(entry.path()).expect("file"));
                }
            }
        }
        all
    };
    let kept = files(&admin);
    let plan = bench.plan();
    for step in plan.stages.iter().flatten() {
        step.act_or_check().await;
    }
    let after = bench.instance().await.expect("there").network;
    assert_eq!(before, after, "names and ports stay");
    assert_eq!(kept, files(&admin), "keys stay");
    for step in plan
        .stages
        .iter()
        .rev()
        .flatten()
        .chain(plan.stages.iter().rev().flatten())
    {
        step.undo().await.expect("taken back, twice");
    }
}

impl dyn Step {
    async fn act_or_check(&self) {
        if !self.check().await.expect("check") {
            self.act(&StepLog::default()).await.expect("again");
        }
    }
}

#[tokio::test]
async fn a_failure_at_any_step_takes_everything_back_and_a_retry_succeeds() {
    let faults = [
        "start orderer",
        "start peer",
        "join orderer",
        "join peer",
        "chaincode",
        "verify",
    ];
    for fault in faults {
        let bench = Bench::new().await;
        *bench.stand.fail_at.lock() = Some(fault.to_owned());
        assert_eq!(bench.create().await, OperationStatus::Failed, "{fault}");
        bench.assert_nothing_is_left().await;
        let record = bench.last().await.record;
        assert_eq!(record.operation_status, OperationStatus::Failed);
        let literal = format!("{fault}: injected fault");
        assert!(record.desc.contains(&literal), "{}", record.desc);
        let failed: Vec<_> = record
            .operation_process
            .values()
            .flat_map(|p| p.sub_steps.values())
            .filter(|s| s.status == OperationStatus::Failed)
            .collect();
        assert_eq!(failed.len(), 1, "{fault}");
        let detail = failed[0].detail.as_deref().expect("a reason");
        assert_eq!(detail, format!("[{}]{literal}", failed[0].substep_name));
        assert_eq!(status_of_creation(&record).bcs.status, "failed");
        assert_eq!(
            bench.create().await,
            OperationStatus::Finished,
            "retry after {fault}"
        );
    }
}

#[tokio::test]
async fn a_full_or_unwritable_volume_is_a_failed_step() {
    let bench = Bench::new().await;
    // A file where the folder should be: nothing can be made below it.
    let parent = bench.folders.root().parent().expect("parent").to_owned();
    std::fs::write(&parent, b"in the way").expect("file");
    assert_eq!(bench.create().await, OperationStatus::Failed);
    let record = bench.last().await.record;
    assert!(
        record.desc.starts_with("[Create network storage]"),
        "{}",
        record.desc
    );
    assert!(bench.instance().await.is_none());
    std::fs::remove_file(&parent).expect("removed");
    assert_eq!(bench.create().await, OperationStatus::Finished);
}

#[tokio::test]
async fn a_crash_in_the_middle_is_resumed_forward_and_backward() {
    let bench = Bench::new().await;
    let plan = bench.plan();
    bench.begin_creation(&plan).await;
    // The manager dies after the keys were made.
    for step in plan.stages.iter().flatten().take(3) {
        step.act_or_check().await;
    }
    let found = bench.unfinished().await;
    assert_eq!(found.len(), 1);
    let row = found.into_iter().next().expect("one");
    assert_eq!(
        bench.run(row, bench.plan()).await,
        OperationStatus::Finished
    );
    assert!(bench.unfinished().await.is_empty());

    // And another dies while it takes steps back.
    let mut row = bench.last().await;
    row.undoing = true;
    row.record.operation_status = OperationStatus::Processing;
    assert_eq!(bench.run(row, bench.plan()).await, OperationStatus::Failed);
    bench.assert_nothing_is_left().await;
}

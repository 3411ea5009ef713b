//! The manager itself: requests in, operations out, and the reconciler that keeps what should run
//! running.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use selvage_manager_api::instance::{CreateNewBlockchainResponse, CreateRequestBody};
use selvage_manager_api::operation::OperationType;
use selvage_manager_api::validate;
use selvage_manager_api::{ApiError, ErrorCode};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::access::{self, Access};
use crate::auth::password;
use crate::browser::Browser;
use crate::chaincode::Chaincodes;
use crate::clock;
use crate::data_dir::DataDir;
use crate::driver::local::{LocalDriver, Programs};
use crate::driver::{Driver, Observation};
use crate::error::ManagerError;
use crate::fabric::{Fabric, Site};
use crate::network::{ChannelPlan, Folders, Network, Node, Org, OrgKind, node_config};
use crate::nodes::Nodes;
use crate::operations::{self, CreateParts, DeleteParts, Plan, creation, deletion, fresh_record};
use crate::sample::{self, Sample};
use crate::store::{
    Added, InstanceRow, InstanceState, NewInstance, OperationParams, OperationRow, Project, Store,
};

/// How often the reconciler looks.
const RECONCILE: Duration = Duration::from_secs(5);

/// Name of a detached manager's log in the data folder.
pub const LOG_FILE: &str = "manager.log";

/// How a manager is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the node programs are.
    pub programs: Programs,
    /// Address at which clients and nodes dial nodes.
    pub node_host: String,
    /// Address nodes listen on.
    pub node_listen: IpAddr,
    /// Sample chaincode that creations may ask for.
    pub samples: Vec<Sample>,
}

/// The manager. Cheap to clone.
#[derive(Clone)]
pub struct Manager {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) data: DataDir,
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) fabric: Arc<dyn Fabric>,
    pub(crate) browser: Browser,
    pub(crate) chaincodes: Arc<Chaincodes>,
    pub(crate) access: Access,
    /// Address of the console with its scheme, once it listens.
    pub(crate) portal: Mutex<String>,
    /// Process of each node whose channels were looked at since it started.
    looked_at: Mutex<HashMap<String, i32>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Manager {
    /// Opens the data folder's database, makes the first tenant if there is none, starts the nodes
    /// of ready instances and goes on with interrupted operations.
    pub async fn start(data: DataDir, settings: Settings) -> Result<Self, ManagerError> {
        let store = Store::open(&data.path().join("selvage.db")).await?;
        let access = access::first_tenant(&store, data.path()).await?;
        let driver: Arc<dyn Driver> = Arc::new(LocalDriver::new(
            settings.programs.clone(),
            data.path().join(LOG_FILE),
        ));
        let nodes = Nodes::new();
        let inner = Inner {
            browser: Browser::new(store.clone(), nodes.clone()),
            fabric: Arc::new(nodes),
            data,
            settings,
            store,
            driver,
            chaincodes: Arc::default(),
            access,
            portal: Mutex::default(),
            looked_at: Mutex::default(),
            tasks: Mutex::default(),
        };
        let manager = Self {
            inner: Arc::new(inner),
        };
        manager.resume().await?;
        let reconciler = manager.clone();
        manager
            .inner
            .tasks
            .lock()
            .spawn(async move { reconciler.reconcile().await });
        Ok(manager)
    }

    /// The first tenant's access.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.inner.access
    }

    /// Says where console and API answer, such as `http://127.0.0.1:30603`.
    pub fn set_portal(&self, url: &str) {
        url.clone_into(&mut self.inner.portal.lock());
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.inner.data.path()
    }

    /// Ends operations and nodes and closes the database. Operations go on at the next start.
    pub async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock());
        tasks.shutdown().await;
        self.inner.browser.stop();
        self.inner.driver.stop_all().await;
        self.inner.store.close().await;
    }

    pub(crate) fn folders(&self, instance: &str) -> Folders {
        Folders::new(self.inner.data.instance(instance))
    }

    /// Names, ports and folders of an instance, once they are decided.
    pub(crate) fn site(&self, row: &InstanceRow) -> Option<Site> {
        let network = row.network.clone()?;
        Some(Site {
            network: Arc::new(network),
            folders: self.folders(&row.id),
        })
    }

    /// Operation 7.
    pub(crate) async fn create(
        &self,
        project: &Project,
        body: &CreateRequestBody,
    ) -> Result<CreateNewBlockchainResponse, ApiError> {
        let spec = validate::create(body)?;
        if let Some(language) = &spec.sample_chaincode {
            sample::plan(&self.inner.settings.samples, language)?;
        }
        for program in ["peer", "orderer"] {
            self.inner
                .settings
                .programs
                .find(program)
                .map_err(|e| ApiError::new(ErrorCode::SystemError, e.to_string()))?;
        }
        let secret = body.resource_password.clone().unwrap_or_default();
        let password_hash = hash_password(secret).await?;
        let id = uuid::Uuid::new_v4().to_string();
        let now = clock::now_ns();
        let plan = self.creation_plan(&id, &spec)?;
        let record = fresh_record(
            OperationType::Create,
            now,
            project,
            &id,
            &spec,
            &step_names(&plan),
        );
        let row = OperationRow {
            started_ns: now,
            undoing: false,
            params: OperationParams::default(),
            record,
        };
        let new = NewInstance {
            id: &id,
            project_id: &project.project_id,
            created_ns: now,
            spec: &spec,
            password_hash: &password_hash,
        };
        match self
            .inner
            .store
            .add_instance(&new, &row, project.quota)
            .await?
        {
            Added::Yes => {}
            Added::NameTaken => return Err(ApiError::name_taken()),
            Added::NoQuota => {
                return Err(ApiError::new(
                    ErrorCode::QuotaExceeded,
                    format!(
                        "Insufficient cluster quota: the project may have {} instances; \
                         delete one first",
                        project.quota
                    ),
                ));
            }
        }
        let operation_id = row.record.operation_id.clone();
        self.spawn(row, plan);
        Ok(CreateNewBlockchainResponse {
            blockchain_id: id,
            blockchain_name: spec.name,
            operation_id,
        })
    }

    /// Operation 8.
    pub(crate) async fn delete(
        &self,
        project: &Project,
        instance: &InstanceRow,
        with_storage: bool,
    ) -> Result<String, ApiError> {
        match instance.state {
            InstanceState::Creating => {
                return Err(ApiError::new(
                    ErrorCode::BeingCreated,
                    "Operation failed. The BCS service is being created.",
                ));
            }
            InstanceState::Deleting | InstanceState::Ready => {}
        }
        let params = OperationParams { with_storage };
        let plan = self.deletion_plan(instance, params);
        let now = clock::now_ns();
        let record = fresh_record(
            OperationType::Delete,
            now,
            project,
            &instance.id,
            &instance.spec,
            &step_names(&plan),
        );
        let row = OperationRow {
            started_ns: now,
            undoing: false,
            params,
            record,
        };
        if !self
            .inner
            .store
            .begin_operation(&row, InstanceState::Deleting)
            .await?
        {
            return Err(ApiError::busy());
        }
        self.inner.browser.forget(&instance.id);
        let operation_id = row.record.operation_id.clone();
        self.spawn(row, plan);
        Ok(operation_id)
    }

    fn creation_plan(&self, id: &str, spec: &validate::CreateSpec) -> Result<Plan, ApiError> {
        let chaincode = match &spec.sample_chaincode {
            Some(language) => Some(sample::plan(&self.inner.settings.samples, language)?),
            None => None,
        };
        Ok(creation(CreateParts {
            instance: id.to_owned(),
            spec: spec.clone(),
            folders: self.folders(id),
            store: self.inner.store.clone(),
            driver: Arc::clone(&self.inner.driver),
            fabric: Arc::clone(&self.inner.fabric),
            host: self.inner.settings.node_host.clone(),
            listen: self.inner.settings.node_listen,
            chaincode,
        }))
    }

    fn deletion_plan(&self, row: &InstanceRow, params: OperationParams) -> Plan {
        deletion(DeleteParts {
            instance: row.id.clone(),
            network: row.network.clone(),
            folders: self.folders(&row.id),
            store: self.inner.store.clone(),
            driver: Arc::clone(&self.inner.driver),
            listen: self.inner.settings.node_listen,
            with_storage: params.with_storage,
        })
    }

    fn spawn(&self, row: OperationRow, plan: Plan) {
        let store = self.inner.store.clone();
        let id = row.record.operation_id.clone();
        let mut tasks = self.inner.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            match operations::run(store, row, plan).await {
                Ok(status) => tracing::info!(operation = id, status = status.wire(), "ended"),
                Err(error) => tracing::error!(operation = id, %error, "could not be kept"),
            }
        });
    }

    /// Does work that goes on when whoever asked for it hangs up: half of it must not stay undone.
    pub(crate) async fn detached<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ManagerError> + Send + 'static,
    {
        let (done, outcome) = oneshot::channel();
        {
            let mut tasks = self.inner.tasks.lock();
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move {
                // Nobody may be waiting any more.
                let _ = done.send(work.await);
            });
        }
        let stopping = || ManagerError::Driver("the service is stopping".to_owned());
        outcome.await.unwrap_or_else(|_| Err(stopping().into()))
    }

    /// Goes on with operations that a crash or stop interrupted.
    async fn resume(&self) -> Result<(), ManagerError> {
        for row in self.inner.store.unfinished_operations().await? {
            let id = row.record.blockchain_id.clone();
            let Some(instance) = self.inner.store.instance(&id).await? else {
                continue;
            };
            let plan = match OperationType::from_wire(&row.record.operation_type) {
                Some(OperationType::Create) => self
                    .creation_plan(&id, &instance.spec)
                    .map_err(|e| ManagerError::Option(e.to_string()))?,
                Some(OperationType::Delete) => self.deletion_plan(&instance, row.params),
                None => continue,
            };
            tracing::info!(
                operation = row.record.operation_id,
                "going on with an operation"
            );
            self.spawn(row, plan);
        }
        Ok(())
    }

    /// Compares what should run with what does, for ever.
    async fn reconcile(&self) {
        loop {
            if let Err(error) = self.reconcile_once().await {
                tracing::warn!(%error, "could not compare what should run with what does");
            }
            tokio::time::sleep(RECONCILE).await;
        }
    }

    async fn reconcile_once(&self) -> Result<(), ManagerError> {
        for row in self.inner.store.instances(None).await? {
            if row.state != InstanceState::Ready {
                continue;
            }
            let Some(site) = self.site(&row) else {
                continue;
            };
            for (org, node) in site.network.nodes() {
                let spec = node_config::prepare(
                    &row.id,
                    &site.network,
                    &site.folders,
                    org,
                    node,
                    self.inner.settings.node_listen,
                )?;
                if let Err(error) = self.inner.driver.apply(spec).await {
                    tracing::warn!(node = node.name, %error, "a node cannot be run");
                }
            }
            self.rejoin(&row.id, &site).await;
        }
        Ok(())
    }

    /// A node that lost its data folder comes back empty; it is made to join its channels again.
    /// Looked at once per start of a node.
    async fn rejoin(&self, instance: &str, site: &Site) {
        for (org, node) in site.network.nodes() {
            let id = node_config::node_id(instance, node);
            let seen = self.inner.driver.observe(&id).await;
            let Some(pid) = seen.filter(|o| o.healthy).and_then(|o| o.pid) else {
                continue;
            };
            if self.inner.looked_at.lock().get(&id) == Some(&pid) {
                continue;
            }
            let mut done = true;
            for channel in &site.network.channels {
                if let Err(error) = self.rejoin_channel(site, org, node, channel).await {
                    done = false;
                    tracing::warn!(node = node.name, channel = channel.name, %error, "not joined");
                }
            }
            if done {
                self.inner.looked_at.lock().insert(id, pid);
            }
        }
    }

    /// An orderer of a cluster is the exception: without the log that it lost it could break promises
    /// it made to the others.
    async fn rejoin_channel(
        &self,
        site: &Site,
        org: &Org,
        node: &Node,
        channel: &ChannelPlan,
    ) -> Result<(), ManagerError> {
        let fabric = &self.inner.fabric;
        match org.kind {
            OrgKind::Orderer if org.nodes.len() > 1 => {
                let known = fabric.orderer_channels(site, node).await?;
                if known.contains(&channel.name) {
                    return Ok(());
                }
                Err(ManagerError::Driver(
                    "its blocks and its log are gone, so it takes no part any more and the other \
                     orderers go on without it; remove it from the channel's consenters and add \
                     it with a new certificate"
                        .to_owned(),
                ))
            }
            OrgKind::Orderer => fabric.join_orderer(site, node, channel).await,
            OrgKind::Peer if channel.orgs.contains(&org.name) => {
                fabric.join_peer(site, org, node, channel).await
            }
            OrgKind::Peer => Ok(()),
        }
    }

    /// Looks at every node of an instance, all at once.
    pub(crate) async fn observe<'a>(
        &self,
        instance: &str,
        network: &'a Network,
    ) -> Vec<(&'a Org, &'a Node, Option<Observation>)> {
        let looks = network.nodes().map(|(org, node)| async move {
            let id = node_config::node_id(instance, node);
            (org, node, self.inner.driver.observe(&id).await)
        });
        join_all(looks).await
    }
}

fn step_names(plan: &Plan) -> Vec<operations::StepName> {
    plan.stages.iter().flatten().map(|s| s.name()).collect()
}

/// Hashing takes tens of milliseconds, so it happens beside the threads that answer.
pub(crate) async fn hash_password(password: String) -> Result<String, ManagerError> {
    tokio::task::spawn_blocking(move || password::hash(&password))
        .await
        .unwrap_or_else(|e| Err(ManagerError::Driver(format!("hashing broke off: {e}"))))
}

/// As [`hash_password`], for checking.
pub(crate) async fn verify_password(
    password: String,
    stored: String,
) -> Result<bool, ManagerError> {
    tokio::task::spawn_blocking(move || password::verify(&password, &stored))
        .await
        .unwrap_or_else(|e| Err(ManagerError::Driver(format!("hashing broke off: {e}"))))
}

//! Deleting an instance: its nodes, then its data, then what is known of it. Nothing is taken back;
//! a deletion that failed is asked for again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::create::{blocking, stop_nodes};
use super::{Plan, Step, StepLog, StepName};
use crate::driver::Driver;
use crate::error::ManagerError;
use crate::files;
use crate::network::{Folders, Network};
use crate::store::Store;

const NODES: StepName = StepName {
    process: "DeleteBlockchainService",
    substep: "Stop nodes",
};
const STORAGE: StepName = StepName {
    process: "DeleteBlockchainService",
    substep: "Delete network storage",
};

/// What the steps work with.
pub(crate) struct DeleteParts {
    pub(crate) instance: String,
    pub(crate) network: Option<Network>,
    pub(crate) folders: Folders,
    pub(crate) store: Store,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) listen: IpAddr,
    /// Whether ledgers and keys go too; they stay on the disk otherwise.
    pub(crate) with_storage: bool,
}

struct DeleteStep {
    nodes: bool,
    parts: Arc<DeleteParts>,
}

/// The plan of a deletion.
pub(crate) fn deletion(parts: DeleteParts) -> Plan {
    let parts = Arc::new(parts);
    let step = |nodes| {
        Box::new(DeleteStep {
            nodes,
            parts: Arc::clone(&parts),
        }) as Box<dyn Step>
    };
    let stages = vec![vec![step(true)], vec![step(false)]];
    Plan {
        stages,
        succeed: Box::new(move || {
            let parts = Arc::clone(&parts);
            Box::pin(async move { parts.store.remove_instance(&parts.instance).await })
        }),
        fail: Box::new(|| Box::pin(async { Ok(()) })),
    }
}

impl Step for DeleteStep {
    fn name(&self) -> StepName {
        if self.nodes { NODES } else { STORAGE }
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(120)
    }

    fn check(&self) -> BoxFuture<'_, Result<bool, ManagerError>> {
        Box::pin(async { Ok(false) })
    }

    fn act<'a>(&'a self, log: &'a StepLog) -> BoxFuture<'a, Result<(), ManagerError>> {
        Box::pin(async move {
            let parts = &self.parts;
            if self.nodes {
                let Some(network) = &parts.network else {
                    return Ok(());
                };
                let driver = parts.driver.as_ref();
                return stop_nodes(
                    &parts.instance,
                    network,
                    &parts.folders,
                    driver,
                    parts.listen,
                )
                .await;
            }
            if !parts.with_storage {
                log.say(format!("kept {}", parts.folders.root().display()));
                return Ok(());
            }
            let folders = parts.folders.clone();
            log.say(format!("deleting {}", folders.root().display()));
            blocking(move || files::remove_dir(folders.root())).await
        })
    }

    fn undo(&self) -> BoxFuture<'_, Result<(), ManagerError>> {
        Box::pin(async { Ok(()) })
    }
}

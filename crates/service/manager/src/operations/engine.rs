//! Running a plan.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use selvage_manager_api::operation::OperationStatus;
use tokio::sync::Mutex;

use super::record;
use crate::clock;
use crate::error::ManagerError;
use crate::store::{OperationRow, Store};

/// How often taking back a step is tried.
const UNDO_TRIES: u32 = 3;
/// How long taking back a step may take.
const UNDO_LIMIT: Duration = Duration::from_secs(60);

/// Where a step stands in the record: BCS's two levels of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepName {
    /// Key of `operation_process`.
    pub(crate) process: &'static str,
    /// Key of `sub_steps`.
    pub(crate) substep: &'static str,
}

/// One step. All three actions may be repeated and may follow a crash at any point.
pub(crate) trait Step: Send + Sync {
    /// Its place in the record.
    fn name(&self) -> StepName;
    /// How long doing it may take.
    fn deadline(&self) -> Duration;
    /// Whether there is nothing left to do.
    fn check(&self) -> BoxFuture<'_, Result<bool, ManagerError>>;
    /// Does it.
    fn act<'a>(&'a self, log: &'a StepLog) -> BoxFuture<'a, Result<(), ManagerError>>;
    /// Takes it back.
    fn undo(&self) -> BoxFuture<'_, Result<(), ManagerError>>;
}

/// Lines for the record, in the step's own words.
#[derive(Debug, Default)]
pub(crate) struct StepLog {
    lines: parking_lot::Mutex<Vec<String>>,
}

impl StepLog {
    /// Most lines one step may leave.
    const MOST: usize = 100;

    /// Adds a line.
    pub(crate) fn say(&self, line: impl Into<String>) {
        let mut lines = self.lines.lock();
        if lines.len() < Self::MOST {
            lines.push(line.into());
        }
    }
}

/// The last action of a plan.
pub(crate) type Finish =
    Box<dyn Fn() -> BoxFuture<'static, Result<(), ManagerError>> + Send + Sync>;

/// Stages of steps, and what follows them.
pub(crate) struct Plan {
    /// Stages in order; the steps of one run at the same time.
    pub(crate) stages: Vec<Vec<Box<dyn Step>>>,
    /// After the last stage.
    pub(crate) succeed: Finish,
    /// After everything was taken back.
    pub(crate) fail: Finish,
}

/// The record while the plan runs: changed and kept under one lock, so that what is on the disk
/// never goes backwards.
struct Progress {
    store: Store,
    row: Mutex<OperationRow>,
}

impl Progress {
    async fn change(&self, change: impl FnOnce(&mut OperationRow)) -> Result<(), ManagerError> {
        let mut row = self.row.lock().await;
        change(&mut row);
        row.record.record_time = clock::now_ms();
        self.store.save_operation(&row).await
    }
}

/// Runs a plan to its end, from wherever the record says it is.
pub(crate) async fn run(
    store: Store,
    row: OperationRow,
    plan: Plan,
) -> Result<OperationStatus, ManagerError> {
    let undoing = row.undoing;
    let progress = Arc::new(Progress {
        store,
        row: Mutex::new(row),
    });
    progress
        .change(|row| row.record.operation_status = OperationStatus::Processing)
        .await?;
    if !undoing {
        match forward(&progress, &plan).await? {
            None => {
                (plan.succeed)().await?;
                progress
                    .change(|row| row.record.operation_status = OperationStatus::Finished)
                    .await?;
                return Ok(OperationStatus::Finished);
            }
            Some(reason) => {
                tracing::warn!(reason, "an operation failed; taking its steps back");
                progress
                    .change(|row| {
                        row.undoing = true;
                        row.record.desc = reason;
                    })
                    .await?;
            }
        }
    }
    backward(&progress, &plan).await?;
    (plan.fail)().await?;
    progress
        .change(|row| row.record.operation_status = OperationStatus::Failed)
        .await?;
    Ok(OperationStatus::Failed)
}

/// Runs the stages; answers the reason of the first failure.
async fn forward(progress: &Progress, plan: &Plan) -> Result<Option<String>, ManagerError> {
    for stage in &plan.stages {
        let outcomes = join_all(stage.iter().map(|s| one(progress, s.as_ref()))).await;
        let mut reason = None;
        for outcome in outcomes {
            if let Some(text) = outcome?
                && reason.is_none()
            {
                reason = Some(text);
            }
        }
        if reason.is_some() {
            return Ok(reason);
        }
    }
    Ok(None)
}

/// Runs one step; answers why it failed. Failing to keep the record is an error of its own.
async fn one(progress: &Progress, step: &dyn Step) -> Result<Option<String>, ManagerError> {
    let name = step.name();
    progress
        .change(|row| record::begin(&mut row.record, name))
        .await?;
    let log = StepLog::default();
    let work = async {
        if step.check().await? {
            return Ok(());
        }
        step.act(&log).await
    };
    let outcome = match tokio::time::timeout(step.deadline(), work).await {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(_) => Err(format!(
            "not done within {} seconds",
            step.deadline().as_secs()
        )),
    };
    let lines = std::mem::take(&mut *log.lines.lock());
    // BCS's operators search for the step's name in front of the literal error.
    let failed = outcome
        .err()
        .map(|reason| format!("[{}]{reason}", name.substep));
    progress
        .change(|row| record::end(&mut row.record, name, failed.as_deref(), &lines))
        .await?;
    Ok(failed)
}

/// Takes back every step that began, last first. What cannot be taken back is written down; the
/// rest goes on.
async fn backward(progress: &Progress, plan: &Plan) -> Result<(), ManagerError> {
    for stage in plan.stages.iter().rev() {
        for step in stage.iter().rev() {
            let began = record::began(&progress.row.lock().await.record, step.name());
            if !began {
                continue;
            }
            let mut left = UNDO_TRIES;
            let line = loop {
                left -= 1;
                let reason = match tokio::time::timeout(UNDO_LIMIT, step.undo()).await {
                    Ok(Ok(())) => break format!("{}: taken back", step.name().substep),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("not done within {} seconds", UNDO_LIMIT.as_secs()),
                };
                if left == 0 {
                    break format!("{}: could not be taken back: {reason}", step.name().substep);
                }
            };
            progress.change(|row| row.record.message.push(line)).await?;
        }
    }
    Ok(())
}

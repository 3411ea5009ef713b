//! Operations: asynchronous changes to instances.
//!
//! An operation is a plan of stages; the steps of a stage run at the same time. Every step can be
//! asked whether it is done, done, and taken back, each any number of times. Progress is kept after
//! every change, so a manager that was killed goes on where it stopped; when a step fails, the
//! steps that began are taken back in reverse and the record keeps the literal reason.

mod create;
mod delete;
mod engine;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use create::{CreateParts, creation};
pub(crate) use delete::{DeleteParts, deletion};
pub(crate) use engine::{Plan, Step, StepLog, StepName, run};
pub(crate) use record::{fresh_record, status_of_creation};

//! The record of an operation in BCS's shape.

use std::collections::BTreeMap;

use selvage_manager_api::instance::{ComCce, Detail, ShowBlockchainStatusResponse};
use selvage_manager_api::operation::{
    NodeInfo, OperationStatus, OperationType, OprecordCluster, ProcessInfo, RESOURCE_BCS,
    RecordDetailInfo, SubDetail,
};
use selvage_manager_api::validate::CreateSpec;

use super::StepName;
use crate::clock;
use crate::store::Project;

/// A record in which every step waits.
pub(crate) fn fresh_record(
    kind: OperationType,
    now_ns: i64,
    project: &Project,
    blockchain_id: &str,
    spec: &CreateSpec,
    steps: &[StepName],
) -> RecordDetailInfo {
    let mut processes: BTreeMap<String, ProcessInfo> = BTreeMap::new();
    for (at, step) in steps.iter().enumerate() {
        let next = i32::try_from(processes.len() + 1).unwrap_or(i32::MAX);
        let process = processes
            .entry(step.process.to_owned())
            .or_insert_with(|| ProcessInfo {
                step_name: step.process.to_owned(),
                status: OperationStatus::Waiting,
                detail: String::new(),
                sub_steps: BTreeMap::new(),
                serial_num: next,
            });
        process.sub_steps.insert(
            step.substep.to_owned(),
            SubDetail {
                substep_name: step.substep.to_owned(),
                detail: None,
                status: OperationStatus::Waiting,
                message: None,
                start_time: 0,
                end_time: 0,
                serial_num: i32::try_from(at + 1).unwrap_or(i32::MAX),
            },
        );
    }
    let host = host_name();
    RecordDetailInfo {
        operation_id: kind.operation_id(now_ns),
        resource_type: RESOURCE_BCS.to_owned(),
        operation_type: kind.wire().to_owned(),
        domain_id: project.domain_id.clone(),
        project_id: project.project_id.clone(),
        blockchain_id: blockchain_id.to_owned(),
        blockchain_name: spec.name.clone(),
        cluster_info: OprecordCluster {
            cluster_type: "cce".to_owned(),
            name: spec.cluster_name.clone(),
            cluster_id: spec.cluster_id.clone(),
            node_infos: Some(vec![NodeInfo {
                name: host.clone(),
                id: host,
            }]),
        },
        operation_process: processes,
        record_time: now_ns / 1_000_000,
        operation_status: OperationStatus::Waiting,
        message: Vec::new(),
        desc: match kind {
            OperationType::Create => "create the instance".to_owned(),
            OperationType::Delete => "delete the instance".to_owned(),
        },
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |n| n.trim().to_owned())
}

fn with(
    record: &mut RecordDetailInfo,
    name: StepName,
) -> Option<(&mut OperationStatus, &mut String, &mut SubDetail)> {
    let process = record.operation_process.get_mut(name.process)?;
    let sub = process.sub_steps.get_mut(name.substep)?;
    Some((&mut process.status, &mut process.detail, sub))
}

/// A step begins, or begins again after a crash.
pub(super) fn begin(record: &mut RecordDetailInfo, name: StepName) {
    if let Some((process, _, sub)) = with(record, name) {
        *process = OperationStatus::Processing;
        sub.status = OperationStatus::Processing;
        if sub.start_time == 0 {
            sub.start_time = clock::now_ns();
        }
    }
}

/// A step ends, well or with a reason.
pub(super) fn end(
    record: &mut RecordDetailInfo,
    name: StepName,
    failed: Option<&str>,
    lines: &[String],
) {
    if let Some((process, detail, sub)) = with(record, name) {
        sub.end_time = clock::now_ns();
        sub.status = match failed {
            None => OperationStatus::Finished,
            Some(_) => OperationStatus::Failed,
        };
        sub.detail = failed.map(str::to_owned);
        if !lines.is_empty() {
            sub.message = Some(lines.to_vec());
        }
        if let Some(reason) = failed {
            *process = OperationStatus::Failed;
            detail.clear();
            detail.push_str(reason);
        }
    }
    if let Some(process) = record.operation_process.get_mut(name.process)
        && process
            .sub_steps
            .values()
            .all(|s| s.status == OperationStatus::Finished)
    {
        process.status = OperationStatus::Finished;
    }
    if let Some(reason) = failed {
        record.message.push(reason.to_owned());
    }
}

/// Whether a step ever began.
pub(super) fn began(record: &RecordDetailInfo, name: StepName) -> bool {
    record
        .operation_process
        .get(name.process)
        .and_then(|p| p.sub_steps.get(name.substep))
        .is_some_and(|s| s.status != OperationStatus::Waiting)
}

/// Operation 30 from the record of the creation.
pub(crate) fn status_of_creation(record: &RecordDetailInfo) -> ShowBlockchainStatusResponse {
    let subs: Vec<&SubDetail> = record
        .operation_process
        .values()
        .flat_map(|p| p.sub_steps.values())
        .collect();
    let find = |names: &[&str]| -> Detail {
        let chosen: Vec<&SubDetail> = subs
            .iter()
            .copied()
            .filter(|s| names.is_empty() || names.contains(&s.substep_name.as_str()))
            .collect();
        summary(&chosen)
    };
    let network = find(&[super::create::NAMES.substep]);
    ShowBlockchainStatusResponse {
        bcs: find(&[]),
        // Nothing to bind, to mount elsewhere or to rent: these are done as soon as ports are.
        eip: network.clone(),
        sfs: find(&[super::create::STORAGE.substep]),
        obs: network.clone(),
        kafka: network.clone(),
        cce: ComCce {
            cluster: find(&[super::create::NODES.substep]),
            network: network.clone(),
            security_group: network,
        },
    }
}

fn summary(subs: &[&SubDetail]) -> Detail {
    let failed = subs.iter().find(|s| s.status == OperationStatus::Failed);
    let all = |status| subs.iter().all(|s| s.status == status);
    let word = if failed.is_some() {
        "failed"
    } else if all(OperationStatus::Finished) {
        "finished"
    } else if all(OperationStatus::Waiting) {
        "waiting"
    } else {
        "deploying"
    };
    let start = subs
        .iter()
        .map(|s| s.start_time)
        .filter(|t| *t > 0)
        .min()
        .unwrap_or(0);
    let end = subs.iter().map(|s| s.end_time).max().unwrap_or(0);
    let over = matches!(word, "failed" | "finished");
    Detail {
        start_time: clock::rfc3339(start),
        end_time: if over {
            clock::rfc3339(end)
        } else {
            String::new()
        },
        status: word.to_owned(),
        detail: failed.and_then(|s| s.detail.clone()).unwrap_or_default(),
    }
}

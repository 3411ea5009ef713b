//! Operation records: how far an asynchronous request is, and the literal reason when it failed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `resource_type` of a blockchain instance.
pub const RESOURCE_BCS: &str = "BCSSVC01";

/// What an operation does to an instance; the number is `operation_type` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperationType {
    /// Creation, `99`.
    Create,
    /// Deletion, `00`.
    Delete,
}

impl OperationType {
    /// The two digits on the wire; the leading zero counts.
    #[must_use]
    pub fn wire(self) -> &'static str {
        match self {
            Self::Create => "99",
            Self::Delete => "00",
        }
    }

    /// Reads the two digits.
    #[must_use]
    pub fn from_wire(text: &str) -> Option<Self> {
        match text {
            "99" => Some(Self::Create),
            "00" => Some(Self::Delete),
            _ => None,
        }
    }

    /// `operation_id` as BCS forms it: resource type, operation type, unix nanoseconds.
    #[must_use]
    pub fn operation_id(self, unix_nanos: i64) -> String {
        format!("{RESOURCE_BCS}-{}-{unix_nanos}", self.wire())
    }
}

/// Progress of an operation, a step or a sub-step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationStatus {
    /// Not begun.
    Waiting,
    /// Running.
    Processing,
    /// Done.
    Finished,
    /// Failed; the detail says why.
    Failed,
    /// Ended before it was done.
    Stop,
}

impl OperationStatus {
    /// The word on the wire.
    #[must_use]
    pub fn wire(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Processing => "processing",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Stop => "stop",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn from_wire(text: &str) -> Option<Self> {
        [
            Self::Waiting,
            Self::Processing,
            Self::Finished,
            Self::Failed,
            Self::Stop,
        ]
        .into_iter()
        .find(|s| s.wire() == text)
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Stop)
    }
}

/// `OprecordCluster`: where the instance runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OprecordCluster {
    /// `cce` in BCS; the local driver answers `cce` as well, for clients that compare.
    pub cluster_type: String,
    /// Name of the host pool.
    pub name: String,
    /// Id of the host pool.
    pub cluster_id: String,
    /// Hosts; null while none is known.
    pub node_infos: Option<Vec<NodeInfo>>,
}

/// `NodeInfo`: one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeInfo {
    /// Host name.
    pub name: String,
    /// Host id.
    pub id: String,
}

/// `SubDetail`: one sub-step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubDetail {
    /// Name, equal to its key in the map.
    pub substep_name: String,
    /// The literal underlying error of a failed sub-step, else null.
    pub detail: Option<String>,
    /// Progress.
    pub status: OperationStatus,
    /// What happened, line by line, else null.
    pub message: Option<Vec<String>>,
    /// Unix nanoseconds, 0 before the start.
    pub start_time: i64,
    /// Unix nanoseconds, 0 before the end.
    pub end_time: i64,
    /// Position.
    pub serial_num: i32,
}

/// `ProcessInfo`: one step with its sub-steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessInfo {
    /// Name, equal to its key in the map.
    pub step_name: String,
    /// Progress.
    pub status: OperationStatus,
    /// The literal underlying error of a failed step, else empty.
    pub detail: String,
    /// Sub-steps by name.
    pub sub_steps: BTreeMap<String, SubDetail>,
    /// Position.
    pub serial_num: i32,
}

/// `RecordDetailInfo`: one operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordDetailInfo {
    /// Such as `BCSSVC01-99-1618218591906093855`.
    pub operation_id: String,
    /// `BCSSVC01`.
    pub resource_type: String,
    /// Two digits.
    pub operation_type: String,
    /// Tenant.
    pub domain_id: String,
    /// Project.
    pub project_id: String,
    /// Instance.
    pub blockchain_id: String,
    /// Its name.
    pub blockchain_name: String,
    /// Where it runs.
    pub cluster_info: OprecordCluster,
    /// Steps by name.
    pub operation_process: BTreeMap<String, ProcessInfo>,
    /// Last change, unix milliseconds.
    pub record_time: i64,
    /// Progress.
    pub operation_status: OperationStatus,
    /// What happened, line by line.
    pub message: Vec<String>,
    /// One sentence: what the operation does, or why it failed.
    pub desc: String,
}

/// Answer of operation 25.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListOpRecordResponse {
    /// How many records match.
    pub count: i64,
    /// The records, newest first.
    pub operation_records: Vec<RecordDetailInfo>,
}

/// Answer of an operation that only starts work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationStarted {
    /// Record to follow with operation 25.
    pub operation_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operation_id_has_the_form_of_the_documented_example() {
        assert_eq!(
            OperationType::Create.operation_id(1_618_218_591_906_093_855),
            "BCSSVC01-99-1618218591906093855"
        );
        assert_eq!(OperationType::from_wire("00"), Some(OperationType::Delete));
        assert_eq!(OperationType::from_wire("0"), None);
    }

    #[test]
    fn a_waiting_substep_is_written_as_bcs_writes_it() {
        let sub = SubDetail {
            substep_name: "Create EIP".into(),
            detail: None,
            status: OperationStatus::Waiting,
            message: None,
            start_time: 0,
            end_time: 0,
            serial_num: 1,
        };
        assert_eq!(
            serde_json::to_string(&sub).expect("plain struct"),
            r#"{"substep_name":"Create EIP","detail":null,"status":"waiting","message":null,"#
                .to_owned()
                + r#""start_time":0,"end_time":0,"serial_num":1}"#
        );
    }
}

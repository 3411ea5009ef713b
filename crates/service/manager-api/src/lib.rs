//! The management API of the service, as types: what Huawei Cloud BCS's SDK version 3.1.219 sends
//! and reads on the paths under `/v2/{project_id}`, the API of BCS's agent (block browser, chaincode)
//! under `/v2/agent/apis`, and the few operations of our own under `/selvage/v1`.
//!
//! Nothing here does input or output. The crate answers four questions:
//!
//! * what a body looks like on the wire ([`instance`], [`operation`], [`channel`], [`cert`],
//!   [`agent`], [`chaincode`], [`console`]): the field names are BCS's, its mixed style included;
//! * whether a body is acceptable ([`validate`], [`consensus`]), with the defaults BCS documents;
//! * which operations exist and which of them this build answers ([`table`]);
//! * how a failure reads ([`error`]): `{"error_code":"BCS.…","error_msg":"…"}`.
//!
//! [`openapi`] turns the same types into the OpenAPI document that is kept in
//! `openapi/bcs-v2.json`.

pub mod agent;
pub mod cert;
pub mod chaincode;
pub mod channel;
pub mod consensus;
pub mod console;
pub mod error;
pub mod instance;
pub mod openapi;
pub mod operation;
pub mod table;
pub mod validate;

pub use error::{ApiError, ErrorBody, ErrorCode};

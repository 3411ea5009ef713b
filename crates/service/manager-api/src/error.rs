//! Failures as BCS writes them: a code of the form `BCS.<7 digits>` and a sentence.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Characters of a text on the wire.
const LONGEST: usize = 512;
/// How many of them are the beginning of a text that is too long.
const BEGINNING: usize = 250;
/// What stands for the middle of such a text.
const GAP: &str = " […] ";

/// Body of every failed request. BCS limits the code to 8–36 and the text to 2–512 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Code such as `BCS.4001018`.
    pub error_code: String,
    /// What went wrong and what to do about it.
    pub error_msg: String,
}

/// The failures this build can answer. The numbers and, where BCS documents one, the sentences are
/// those of its error code pages; codes marked as ours follow the same pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The instance is being created.
    BeingCreated,
    /// The instance is being upgraded or changed.
    BeingUpgraded,
    /// The instance is being deleted.
    BeingDeleted,
    /// No such instance, or it was deleted.
    NoSuchInstance,
    /// Another instance of the project has this name.
    NameTaken,
    /// Another operation holds the instance, or its state does not allow this one.
    Busy,
    /// No organisation of this name.
    NoSuchOrg,
    /// The body is not JSON, or a field has another type.
    BadJson,
    /// A parameter has a value outside the documented set.
    BadParameter,
    /// A required parameter is missing.
    MissingParameter,
    /// A channel name breaks the rules or does not exist.
    BadChannelName,
    /// The quota type asked for does not exist.
    BadQuotaType,
    /// The body is longer than the server reads.
    BodyTooLarge,
    /// The project has used up its quota of instances.
    QuotaExceeded,
    /// A part of the system did not answer.
    SystemError,
    /// The server failed in a way it did not foresee.
    Internal,
    /// The signature or token is missing, wrong or too old.
    Unauthenticated,
    /// The caller may not do this, or not in this project.
    Forbidden,
    /// No such path, block or transaction.
    NotFound,
    /// A chaincode file that is no usable zip or package (ours).
    BadChaincodeFile,
    /// A chaincode that cannot be built, or whose tools are missing (ours).
    ChaincodeBuild,
    /// The instance has no such peer (ours).
    NoSuchPeer,
    /// No such chaincode, or not in this version (ours).
    NoSuchChaincode,
    /// This version of the chaincode is installed with other code (ours).
    VersionTaken,
    /// A chaincode could not be instantiated (ours).
    NotInstantiated,
    /// The body does not come, or too slowly (ours).
    TooSlow,
    /// Too many failed logins (ours).
    TooManyAttempts,
    /// BCS documents the operation or option, this build does not have it yet (ours).
    NotBuilt,
}

impl ErrorCode {
    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::BeingCreated => "BCS.4001001",
            Self::BeingUpgraded => "BCS.4001002",
            Self::BeingDeleted => "BCS.4001003",
            Self::NoSuchInstance => "BCS.4001011",
            Self::NameTaken => "BCS.4001018",
            Self::Busy => "BCS.4001020",
            Self::NoSuchOrg => "BCS.4001051",
            Self::BadJson => "BCS.4006003",
            Self::BadParameter => "BCS.4006005",
            Self::MissingParameter => "BCS.4006009",
            Self::BadChannelName => "BCS.4006012",
            Self::BadQuotaType => "BCS.4006014",
            Self::BodyTooLarge => "BCS.4000013",
            Self::QuotaExceeded => "BCS.4001021",
            Self::SystemError => "BCS.4009100",
            Self::Internal => "BCS.5000500",
            Self::Unauthenticated => "BCS.4010401",
            Self::Forbidden => "BCS.4030403",
            Self::NotFound => "BCS.4040404",
            Self::BadChaincodeFile => "BCS.4002901",
            Self::ChaincodeBuild => "BCS.4002902",
            Self::NoSuchPeer => "BCS.4002903",
            Self::NoSuchChaincode => "BCS.4002904",
            Self::VersionTaken => "BCS.4002905",
            Self::NotInstantiated => "BCS.4002906",
            Self::TooSlow => "BCS.4080408",
            Self::TooManyAttempts => "BCS.4290429",
            Self::NotBuilt => "BCS.5010501",
        }
    }

    /// The HTTP status that goes with the code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound | Self::NoSuchInstance => 404,
            Self::TooSlow => 408,
            Self::BodyTooLarge => 413,
            Self::TooManyAttempts => 429,
            Self::SystemError | Self::Internal => 500,
            Self::NotBuilt => 501,
            _ => 400,
        }
    }

    /// Every code, for documents and tests.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &[
            Self::BeingCreated,
            Self::BeingUpgraded,
            Self::BeingDeleted,
            Self::NoSuchInstance,
            Self::NameTaken,
            Self::Busy,
            Self::NoSuchOrg,
            Self::BadJson,
            Self::BadParameter,
            Self::MissingParameter,
            Self::BadChannelName,
            Self::BadQuotaType,
            Self::BodyTooLarge,
            Self::QuotaExceeded,
            Self::SystemError,
            Self::Internal,
            Self::Unauthenticated,
            Self::Forbidden,
            Self::NotFound,
            Self::BadChaincodeFile,
            Self::ChaincodeBuild,
            Self::NoSuchPeer,
            Self::NoSuchChaincode,
            Self::VersionTaken,
            Self::NotInstantiated,
            Self::TooSlow,
            Self::TooManyAttempts,
            Self::NotBuilt,
        ]
    }
}

/// A failure to be sent to the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.code())]
pub struct ApiError {
    /// Which failure.
    pub code: ErrorCode,
    /// The sentence the caller reads: cause and remedy.
    pub message: String,
}

impl ApiError {
    /// A failure with its sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// BCS's sentence for an instance that is not there.
    #[must_use]
    pub fn no_such_instance() -> Self {
        Self::new(
            ErrorCode::NoSuchInstance,
            "Operation failed. The service does not exist or has been deleted. Refresh the page.",
        )
    }

    /// BCS's sentence for a name that is taken.
    #[must_use]
    pub fn name_taken() -> Self {
        Self::new(
            ErrorCode::NameTaken,
            "Operation failed. A service with the same name already exists. \
             Enter another name and try again.",
        )
    }

    /// BCS's sentence for an instance that another operation holds.
    #[must_use]
    pub fn busy() -> Self {
        Self::new(
            ErrorCode::Busy,
            "Operation failed. The service status is abnormal or the service is being processed. \
             Try again later.",
        )
    }

    /// BCS's sentence for a missing required parameter, with its name.
    #[must_use]
    pub fn missing(field: &str) -> Self {
        Self::new(
            ErrorCode::MissingParameter,
            format!("one of parameters is nil: {field}"),
        )
    }

    /// A value outside the documented set.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadParameter, message)
    }

    /// Something BCS has and this build does not.
    pub fn not_built(what: &str) -> Self {
        Self::new(
            ErrorCode::NotBuilt,
            format!("{what} is not built yet in this version"),
        )
    }

    /// The body for the wire. A text longer than the 512 characters BCS allows loses its middle:
    /// its beginning says what is wrong, and its end is often the literal cause.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let length = self.message.chars().count();
        let error_msg = if length > LONGEST {
            let end = LONGEST - BEGINNING - GAP.chars().count();
            let mut text: String = self.message.chars().take(BEGINNING).collect();
            text.push_str(GAP);
            text.extend(self.message.chars().skip(length - end));
            text
        } else {
            self.message.clone()
        };
        ErrorBody {
            error_code: self.code.code().to_owned(),
            error_msg,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_shaped_like_those_of_bcs() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ErrorCode::all() {
            let text = code.code();
            assert!(text.starts_with("BCS.") && text.len() == 11, "{text}");
            assert!(seen.insert(text), "{text} twice");
            assert!((400..600).contains(&code.status()));
        }
    }

    #[test]
    fn a_long_message_loses_its_middle() {
        let error = ApiError::bad(format!("begin{}end", "错".repeat(600)));
        let text = error.body().error_msg;
        assert_eq!(text.chars().count(), 512);
        assert!(text.starts_with("begin错") && text.ends_with("错end"));
        let error = ApiError::bad("错".repeat(512));
        assert_eq!(error.body().error_msg, error.message);
    }
}

//! How failures reach a client: gRPC codes, and Fabric's texts.

use selvage_net::tonic::{Code, Status};
use selvage_proto::peer::ProposalResponse;

use super::advice::{self, STREAM_TERMINATED};

/// A call to an endorser that gave no proposal response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The peer did not answer, or answered with a bare gRPC status.
    Unavailable {
        /// What is known of it.
        text: String,
        /// What would help, where that is known.
        advice: Option<String>,
    },
    /// This peer refused the proposal before it simulated anything.
    Refused {
        /// Fabric's words.
        text: String,
        /// What would help, where that is known.
        advice: Option<String>,
    },
}

impl CallError {
    /// Nobody answered.
    pub(crate) fn unanswered(text: impl Into<String>) -> Self {
        Self::Unavailable {
            text: text.into(),
            advice: Some(advice::NOT_ANSWERED.to_owned()),
        }
    }
}

/// What the gateway makes of an endorser's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// The code the client sees, if this is what it is told.
    pub(crate) code: Code,
    /// What happened, in words.
    pub(crate) message: String,
    /// Whether another peer may do better.
    pub(crate) retry: bool,
    /// Whether the connection to the peer is to be given up.
    pub(crate) remove: bool,
    /// What would help. Messages keep Fabric's words, which programs match; this has a detail of
    /// its own.
    pub(crate) advice: Option<String>,
}

/// Judges an endorser's answer: the response when it may be used, or what went wrong.
pub(crate) fn judge(
    answer: Result<ProposalResponse, CallError>,
) -> Result<ProposalResponse, Trouble> {
    let response = match answer {
        Ok(response) => response,
        Err(CallError::Unavailable { text, advice }) => {
            return Err(Trouble {
                advice,
                ..trouble(Code::Unavailable, text, true, true)
            });
        }
        Err(CallError::Refused { text, advice }) => {
            return Err(Trouble {
                advice,
                ..trouble(Code::FailedPrecondition, text, false, false)
            });
        }
    };
    let result = response.response.clone().unwrap_or_default();
    if (200..400).contains(&result.status) {
        return Ok(response);
    }
    if response.payload.is_empty() && result.status == 500 {
        // A chaincode's own answer comes with a payload; this one is the peer's.
        let remove = result.message.ends_with(STREAM_TERMINATED);
        return Err(trouble(Code::Aborted, result.message, true, remove));
    }
    let text = format!("chaincode response {}, {}", result.status, result.message);
    Err(trouble(Code::Unknown, text, false, false))
}

fn trouble(code: Code, message: String, retry: bool, remove: bool) -> Trouble {
    Trouble {
        advice: advice::about(&message).map(str::to_owned),
        code,
        message,
        retry,
        remove,
    }
}

/// A status as Go prints it, which is how details quote the errors of other nodes.
pub(crate) fn go_text(status: &Status) -> String {
    let code = go_code(status.code());
    format!("rpc error: code = {code} desc = {}", status.message())
}

fn go_code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use selvage_proto::peer::Response;

    fn response(status: i32, message: &str, payload: &'static [u8]) -> ProposalResponse {
        ProposalResponse {
            response: Some(Response {
                status,
                message: message.into(),
                payload: Bytes::new(),
            }),
            payload: Bytes::from_static(payload),
            ..Default::default()
        }
    }

    #[test]
    fn answers_are_judged_as_fabric_does() {
        let check = |answer, expected: Option<(Code, &str, bool, bool)>| {
            let found = judge(answer).err();
            let expected = expected.map(|(c, m, retry, rm)| trouble(c, m.into(), retry, rm));
            assert_eq!(found, expected);
        };
        check(Ok(response(200, "", b"p")), None);
        check(Ok(response(399, "", b"p")), None);
        let text = "chaincode response 400, no";
        check(
            Ok(response(400, "no", b"")),
            Some((Code::Unknown, text, false, false)),
        );
        let text = "chaincode response 500, no";
        check(
            Ok(response(500, "no", b"p")),
            Some((Code::Unknown, text, false, false)),
        );
        check(
            Ok(response(500, "peer", b"")),
            Some((Code::Aborted, "peer", true, false)),
        );
        let text = "error sending: chaincode stream terminated";
        check(
            Ok(response(500, text, b"")),
            Some((Code::Aborted, text, true, true)),
        );
        let gone = Err(CallError::Unavailable {
            text: "gone".into(),
            advice: None,
        });
        check(gone, Some((Code::Unavailable, "gone", true, true)));
        let refused = Err(CallError::Refused {
            text: "no".into(),
            advice: None,
        });
        check(
            refused,
            Some((Code::FailedPrecondition, "no", false, false)),
        );
    }

    #[test]
    fn statuses_are_quoted_as_go_prints_them() {
        let text = go_text(&Status::unknown("x"));
        assert_eq!(text, "rpc error: code = Unknown desc = x");
    }
}

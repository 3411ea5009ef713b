//! What to tell a person whose call of a chaincode failed: the cause in plain words, and what can be
//! done about it. Peers answer in Fabric's words, which applications rely on; here they are read.

use std::path::PathBuf;
use std::time::Duration;

use selvage_client::{ClientError, Gateway, Invocation, Peer, PeerAdmin, User};

use crate::data_dir::is_held;
use crate::shell;

/// How long asking what there is may take: the error is known already.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most names that are listed.
const LISTED: usize = 30;
/// A function of every contract made with Fabric's contract API: what it has, as JSON.
const METADATA: &str = "org.hyperledger.fabric:GetMetadata";
/// The contract that [`METADATA`] belongs to.
const SYSTEM_CONTRACT: &str = "org.hyperledger.fabric";
/// What a peer says before the id of a package that it cannot start, and why.
const LAUNCH: &str = "could not launch chaincode ";
/// What a peer says before what a chaincode says.
const RESPONSE: &str = "chaincode response ";

/// A call that failed.
pub(crate) struct Failed<'a> {
    pub(crate) channel: &'a str,
    pub(crate) chaincode: &'a str,
    pub(crate) function: &'a str,
    pub(crate) error: &'a ClientError,
}

/// Where the network that was called comes from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// The data folder of `selvage up`.
    Data(PathBuf),
    /// A connection profile.
    Profile(PathBuf),
}

impl Origin {
    /// A line that deploys a chaincode there.
    fn deploy(&self, channel: &str, chaincode: &str) -> String {
        match self {
            Self::Data(data) => format!(
                "{} deploy --data {} --channel {channel} {chaincode} FOLDER",
                shell::program(),
                shell::quoted(data)
            ),
            Self::Profile(_) => format!(
                "{} deploy --channel {channel} {chaincode} FOLDER",
                shell::program()
            ),
        }
    }

    /// Where logs of peers are, as far as known, to be put after "log".
    fn logs(&self) -> String {
        match self {
            Self::Data(data) => format!(" ({})", data.join("instances/*/nodes/*/log").display()),
            Self::Profile(_) => String::new(),
        }
    }
}

/// What kind of failure it is.
#[derive(Debug, PartialEq, Eq)]
enum Cause {
    /// Nobody listens at the peer's address.
    Away,
    /// The channel or the chaincode is not there.
    Unknown,
    /// The chaincode has no such function.
    NoFunction,
    /// The chaincode is there and does not start.
    NoStart(String),
    /// The chaincode refused, in its own words.
    Refused(Vec<String>),
    /// Anything else.
    Other,
}

fn cause(error: &ClientError) -> Cause {
    let Some(failure) = error.failure() else {
        return Cause::Other;
    };
    let mut messages = vec![failure.message.as_str()];
    messages.extend(failure.details.iter().map(|d| d.message.as_str()));
    let says = |words: &[&str]| {
        let mut all = messages.iter();
        all.any(|m| words.iter().any(|w| m.contains(w)))
    };
    if failure.unreached {
        return Cause::Away;
    }
    let nowhere = [
        "no peers available to evaluate chaincode",
        "No metadata was found for chaincode",
        "make sure the chaincode",
        "could not get last config for channel",
        "channel does not exist",
    ];
    if says(&nowhere) {
        return Cause::Unknown;
    }
    // "could not launch chaincode label:hash: why"
    let starts = messages.iter().filter_map(|m| m.split_once(LAUNCH));
    if let Some((_, reason)) = starts.filter_map(|(_, m)| m.split_once(": ")).next() {
        return Cause::NoStart(reason.to_owned());
    }
    // The contract APIs of Node, Go and Java.
    let missing = [
        "a function that does not exist",
        "not found in contract",
        "Undefined contract method called",
    ];
    if says(&missing) {
        return Cause::NoFunction;
    }
    let mut refusals: Vec<String> = Vec::new();
    for message in &messages {
        // "chaincode response 500, …"
        let own = message.split_once(RESPONSE);
        let own = own.and_then(|(_, rest)| rest.split_once(", "));
        match own {
            Some((_, said)) if refusals.iter().all(|r| r != said) => refusals.push(said.to_owned()),
            _ => {}
        }
    }
    match refusals.is_empty() {
        true => Cause::Other,
        false => Cause::Refused(refusals),
    }
}

/// The error for a person. Asks the peer what there is when something is not.
pub(crate) async fn explain(
    failed: &Failed<'_>,
    origin: &Origin,
    gateway: &Gateway,
    peer: Peer,
    user: User,
) -> String {
    match cause(failed.error) {
        Cause::Away => away(failed.error, origin),
        Cause::Unknown => {
            let admin = PeerAdmin::new(peer, user);
            let channels = within(admin.channels()).await;
            let chaincodes = within(admin.committed_all(failed.channel)).await;
            let chaincodes = chaincodes.map(|all| all.into_iter().map(|d| d.name).collect());
            unknown(failed, origin, channels, chaincodes)
        }
        Cause::NoFunction => {
            let call = Invocation::new(failed.chaincode, METADATA);
            let metadata = within(gateway.evaluate(&call, &[])).await;
            no_function(failed, metadata.and_then(|m| functions(&m)))
        }
        Cause::NoStart(reason) => format!(
            "the chaincode {} does not start: {reason}; see what it printed in its peer's log{}, \
             and deploy it again when it is corrected: {}",
            failed.chaincode,
            origin.logs(),
            origin.deploy(failed.channel, failed.chaincode)
        ),
        Cause::Refused(words) => {
            format!(
                "the chaincode {} refused: {}",
                failed.chaincode,
                words.join("; ")
            )
        }
        Cause::Other => failed.error.text(),
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, ClientError>>) -> Option<T> {
    tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
}

fn away(error: &ClientError, origin: &Origin) -> String {
    let text = error.text();
    match origin {
        Origin::Data(data) if is_held(data) => format!(
            "the peer does not answer, though the service runs ({text}); a peer that ended is \
             started again, so try again in a moment, or see the logs below {}",
            data.join("instances").display()
        ),
        Origin::Data(data) => format!(
            "the network is not running ({text}); start it with: {} up --detach --data {}",
            shell::program(),
            shell::quoted(data)
        ),
        Origin::Profile(path) => format!(
            "the peer cannot be reached ({text}); see whether the network that {} describes runs",
            path.display()
        ),
    }
}

/// Names for a sentence.
fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut text = names[..names.len().min(LISTED)].join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(" and {} more", names.len() - LISTED));
    }
    text
}

fn unknown(
    failed: &Failed<'_>,
    origin: &Origin,
    channels: Option<Vec<String>>,
    chaincodes: Option<Vec<String>>,
) -> String {
    let Failed {
        channel, chaincode, ..
    } = failed;
    let has = |all: &[String], name: &str| all.iter().any(|a| a == name);
    match (channels, chaincodes) {
        (Some(all), _) if !has(&all, channel) => format!(
            "the peer has no channel {channel}; it has: {}; name one with --channel",
            listed(&all)
        ),
        (_, Some(all)) if !has(&all, chaincode) => format!(
            "the channel {channel} has no chaincode {chaincode}; it has: {}; name one with \
             --chaincode, or deploy it with: {}",
            listed(&all),
            origin.deploy(channel, chaincode)
        ),
        _ => format!(
            "the chaincode {chaincode} cannot be called in the channel {channel}; see whether both \
             are spelt right and enough peers run it: {}",
            failed.error.text()
        ),
    }
}

fn no_function(failed: &Failed<'_>, functions: Option<Vec<String>>) -> String {
    let known = functions.map_or_else(
        || "its source says which it has".to_owned(),
        |all| format!("it has: {}", listed(&all)),
    );
    format!(
        "the chaincode {} has no function {}; {known}",
        failed.chaincode, failed.function
    )
}

/// The functions of a chaincode, out of what it says about itself. Those of contracts that are not
/// called without a name get theirs before them, as they are called.
fn functions(metadata: &[u8]) -> Option<Vec<String>> {
    let metadata: serde_json::Value = serde_json::from_slice(metadata).ok()?;
    let contracts = metadata.get("contracts")?.as_object()?;
    let contracts = contracts
        .iter()
        .filter(|(name, _)| *name != SYSTEM_CONTRACT);
    let contracts: Vec<_> = contracts.collect();
    let mut names = Vec::new();
    for (contract, about) in &contracts {
        let is_default = about.get("default").and_then(serde_json::Value::as_bool);
        let plain = contracts.len() == 1 || is_default == Some(true);
        for transaction in about.get("transactions")?.as_array()? {
            let name = transaction.get("name")?.as_str()?;
            names.push(if plain {
                name.to_owned()
            } else {
                format!("{contract}:{name}")
            });
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvage_client::Failure;
    use selvage_net::tonic::{Code, Status};
    use selvage_proto::gateway::ErrorDetail;

    fn error(code: Code, message: &str, details: &[&str]) -> ClientError {
        let detail = |message: &&str| ErrorDetail {
            address: "p:1".into(),
            msp_id: "A".into(),
            message: (*message).to_owned(),
        };
        ClientError::Grpc {
            address: "h:1".into(),
            failure: Box::new(Failure {
                code,
                message: message.into(),
                details: details.iter().map(detail).collect(),
                unreached: false,
            }),
        }
    }

    fn refused_connection() -> ClientError {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        ClientError::Grpc {
            address: "h:1".into(),
            failure: Box::new(Failure::new(&Status::from_error(Box::new(refused)))),
        }
    }

    fn failed(error: &ClientError) -> Failed<'_> {
        Failed {
            channel: "channel",
            chaincode: "assets",
            function: "Raed",
            error,
        }
    }

    #[test]
    fn failures_are_told_apart_by_what_peers_say() {
        let see = "failed to endorse transaction, see attached details for more info";
        let no = "chaincode response 500, the asset zz does not exist";
        let evaluated = format!("evaluate call to endorser returned error: {no}");
        let asked = "chaincode response 500, You've asked to invoke a function that does not \
                     exist: Raed";
        let go = "chaincode response 500, Function Raed not found in contract SmartContract";
        let nothing = "no combination of peers can be derived which satisfy the endorsement \
                       policy: No metadata was found for chaincode wrong in channel channel";
        let no_config = "failed to get config for channel [wrong]: could not get last config for \
                         channel wrong";
        let refused = || Cause::Refused(vec!["the asset zz does not exist".into()]);
        let ended = "error in simulation: failed to execute transaction a: could not launch \
                     chaincode b_1:ff: chaincode registration failed: container exited with 1";
        let no_start = "chaincode registration failed: container exited with 1";
        let cases: [(Code, &str, &[&str], Cause); 9] = [
            (
                Code::Aborted,
                see,
                &[ended, ended],
                Cause::NoStart(no_start.into()),
            ),
            (
                Code::Unavailable,
                see,
                &["Connection refused"],
                Cause::Other,
            ),
            (
                Code::Unavailable,
                "no peers available to evaluate chaincode wrong in channel channel",
                &[],
                Cause::Unknown,
            ),
            (Code::FailedPrecondition, nothing, &[], Cause::Unknown),
            (Code::Unavailable, no_config, &[], Cause::Unknown),
            (Code::Aborted, see, &[asked], Cause::NoFunction),
            (Code::Aborted, see, &[go], Cause::NoFunction),
            (Code::Unknown, &evaluated, &[no], refused()),
            (Code::Aborted, see, &[no, no], refused()),
        ];
        for (code, message, details, wanted) in cases {
            assert_eq!(cause(&error(code, message, details)), wanted, "{message}");
        }
        assert_eq!(cause(&refused_connection()), Cause::Away);
        let late = ClientError::Timeout {
            what: "the evaluation".into(),
            seconds: 15,
        };
        assert_eq!(cause(&late), Cause::Other);
    }

    #[test]
    fn a_stopped_network_is_told_from_a_peer_that_is_away() {
        let error = refused_connection();
        let dir = tempfile::tempdir().expect("temporary folder");
        let data = Origin::Data(dir.path().to_owned());
        let text = away(&error, &data);
        let start = format!(
            "start it with: {} up --detach --data {}",
            shell::program(),
            dir.path().display()
        );
        assert!(
            text.starts_with("the network is not running (h:1: "),
            "{text}"
        );
        assert!(text.ends_with(&start), "{text}");
        let held = crate::data_dir::DataDir::open(dir.path()).expect("free");
        let text = away(&error, &data);
        assert!(text.contains("though the service runs"), "{text}");
        drop(held);
        let text = away(&error, &Origin::Profile("/p.yaml".into()));
        assert!(
            text.contains("the network that /p.yaml describes"),
            "{text}"
        );
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let error = error(
            Code::Unavailable,
            "no peers available to evaluate chaincode",
            &[],
        );
        let failed = failed(&error);
        let origin = Origin::Data("/d".into());
        let all = |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect());
        let deploy = format!(
            "it has: other; name one with --chaincode, or deploy it with: {} deploy --data /d \
             --channel channel assets FOLDER",
            shell::program()
        );
        for (channels, chaincodes, wanted) in [
            (
                all(&["one", "two"]),
                None,
                "no channel channel; it has: one, two;",
            ),
            (all(&["channel"]), all(&["other"]), &deploy),
            (
                all(&["channel"]),
                all(&[]),
                "no chaincode assets; it has: none;",
            ),
            (None, all(&["other"]), "no chaincode assets"),
            (
                all(&["channel"]),
                all(&["assets"]),
                "enough peers run it: h:1: no peers",
            ),
            (None, None, "spelt right"),
        ] {
            let text = unknown(&failed, &origin, channels, chaincodes);
            assert!(text.contains(wanted), "{wanted:?} is missing in: {text}");
        }
        let many: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        assert!(listed(&many).ends_with("29 and 10 more"));
    }

    #[test]
    fn a_missing_function_is_answered_with_those_that_are_there() {
        let metadata = serde_json::json!({"contracts": {
            "Assets": {"name": "Assets", "transactions": [{"name": "Create"}, {"name": "Read"}]},
            "org.hyperledger.fabric": {"transactions": [{"name": "GetMetadata"}]},
        }});
        let names = functions(metadata.to_string().as_bytes());
        assert_eq!(names.clone().expect("names"), ["Create", "Read"]);
        let error = error(Code::Aborted, "x", &[]);
        let text = no_function(&failed(&error), names);
        assert_eq!(
            text,
            "the chaincode assets has no function Raed; it has: Create, Read"
        );
        let metadata = serde_json::json!({"contracts": {
            "A": {"default": true, "transactions": [{"name": "Create"}]},
            "B": {"transactions": [{"name": "Read"}]},
        }});
        let names = functions(metadata.to_string().as_bytes());
        assert_eq!(names.expect("names"), ["Create", "B:Read"]);
        assert!(functions(b"{}").is_none() && functions(b"no JSON").is_none());
        assert!(no_function(&failed(&error), None).ends_with("its source says which it has"));
    }
}

//! What peers and orderers say when chaincode cannot be installed or instantiated, turned into
//! BCS's errors and codes, with a remedy.

use std::path::Path;

use selvage_manager_api::{ApiError, ErrorCode};

use super::lifecycle::{Broken, Stage};
use crate::files;

/// What a peer says before the reason why a build failed.
const BUILD: &str = "could not build chaincode: ";
/// What it says when a tool is missing; the rest of its sentence has the remedy.
const NO_TOOL: &str = "which is not in the PATH";

/// Whether every peer of this host would fail in the same way.
pub(super) fn is_build(text: &str) -> bool {
    text.contains(BUILD)
}

/// Why a peer did not install a chaincode.
pub(super) fn install(text: &str) -> ApiError {
    let Some((_, reason)) = text.split_once(BUILD) else {
        return ApiError::new(
            ErrorCode::SystemError,
            format!(
                "no peer installed the chaincode; see whether the peers run and try again: {text}"
            ),
        );
    };
    let message = if reason.contains(NO_TOOL) {
        format!("the chaincode cannot be built: {reason}")
    } else {
        format!(
            "the chaincode does not build; correct it and install it again (nothing was \
             installed): {reason}"
        )
    };
    ApiError::new(ErrorCode::ChaincodeBuild, message)
}

/// A failure in BCS's catalogue of instantiation errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// BCS's code.
    pub(super) code: &'static str,
    /// What it means.
    pub(super) reason: &'static str,
    remedy: &'static str,
}

const fn kind(code: &'static str, reason: &'static str, remedy: &'static str) -> Kind {
    Kind {
        code,
        reason,
        remedy,
    }
}

const NO_BUILD: Kind = kind(
    "6705",
    "the chaincode does not build",
    "correct it and install it as a new version",
);
const NO_PROCESS: Kind = kind(
    "6708",
    "the chaincode's process cannot be started",
    "see the peer's log",
);
const NO_REGISTRATION: Kind = kind(
    "6709",
    "the chaincode ended before it registered with its peer",
    "correct it and install it as a new version",
);
const SLOW_START: Kind = kind(
    "6721",
    "the chaincode did not start in time",
    "try again; if that fails too, see what it printed",
);
const INIT_REFUSED: Kind = kind(
    "6716",
    "its init function refused the call",
    "instantiate it again with other arguments in init_variable, or without init_variable when it \
     needs no initialisation",
);
const INIT_ENDED: Kind = kind(
    "6722",
    "the chaincode ended while its init function ran",
    "correct it and install it as a new version",
);
const DISK_FULL: Kind = kind(
    "6906",
    "a disk is full",
    "make room on the host and try again",
);
const TIME_OUT: Kind = kind(
    "6001",
    "it took too long",
    "see whether all nodes run and try again",
);
const ORDERER_AWAY: Kind = kind(
    "6710",
    "the orderer cannot be reached",
    "see whether the orderers run and try again",
);
const ORDERER_REFUSED: Kind = kind(
    "6713",
    "the orderer refused the request",
    "see the literal error",
);
const POLICY_FAILED: Kind = kind(
    "6714",
    "the endorsements do not satisfy the policy",
    "see whether the peers of all organisations run and try again",
);
const NOT_WRITTEN: Kind = kind(
    "6712",
    "the transaction was not written to the ledger",
    "try again",
);
const NOT_AGREED: Kind = kind(
    "6725",
    "too few organisations approved the definition",
    "every organisation whose signature the channel's LifecycleEndorsement policy needs must \
     approve it",
);
const PEER_AWAY: Kind = kind(
    "6701",
    "a peer cannot be reached",
    "see whether the peers run and try again",
);
const UNKNOWN: Kind = kind("6999", "unknown", "see the literal error");

/// Tried in order: the first words that an error contains decide.
const BY_WORDS: [(&str, Kind); 20] = [
    ("No space left", DISK_FULL),
    ("is full", DISK_FULL),
    ("error building", NO_BUILD),
    ("could not build", NO_BUILD),
    ("error starting container", NO_PROCESS),
    ("chaincode registration failed", NO_REGISTRATION),
    ("timeout expired while starting", SLOW_START),
    ("closed the stream before it acknowledged", ORDERER_AWAY),
    ("no orderers", ORDERER_AWAY),
    ("refused the message", ORDERER_REFUSED),
    ("ENDORSEMENT_POLICY_FAILURE", POLICY_FAILED),
    ("failed to commit in block", NOT_WRITTEN),
    ("not agreed to by this org", NOT_AGREED),
    ("does not satisfy", NOT_AGREED),
    ("did not happen within", TIME_OUT),
    ("not done within", TIME_OUT),
    ("transport error", PEER_AWAY),
    ("tcp connect error", PEER_AWAY),
    ("cannot be dialled", PEER_AWAY),
    ("Connection refused", PEER_AWAY),
];

/// Finds the code of a failure.
pub(super) fn kind_of(broken: &Broken) -> Kind {
    let found = BY_WORDS
        .iter()
        .find(|(words, _)| broken.reason.contains(words))
        .map(|(_, kind)| *kind);
    match (found, broken.stage) {
        (Some(kind), _) => kind,
        (None, Stage::Init) if broken.reason.contains("stream terminated") => INIT_ENDED,
        (None, Stage::Init) => INIT_REFUSED,
        (None, Stage::Start) => SLOW_START,
        (None, Stage::Approve | Stage::Commit) => UNKNOWN,
    }
}

impl Kind {
    /// Whether the chaincode's own last words say more than its peer does.
    pub(super) fn is_of_process(self) -> bool {
        [NO_PROCESS, NO_REGISTRATION, SLOW_START, INIT_ENDED].contains(&self)
    }
}

/// Bytes at the end of a peer's log that are looked through.
const LOOKED_THROUGH: u64 = 256 * 1024;
/// Lines of a chaincode that are shown, and how much of each.
const SHOWN: usize = 25;
const WIDEST: usize = 300;
/// How lines of chaincode begin in a peer's log, before the peer's name.
const TAG: &str = "[peer.chaincode.";

/// What a chaincode printed last, out of its peer's log.
pub(super) fn last_words(log: &Path, name: &str, version: &str) -> String {
    let tag = format!("-{name}-{version}] ");
    let own = |line: String| {
        let (_, tagged) = line.split_once(TAG)?;
        let (_, words) = tagged.split_once(&tag)?;
        Some(words.chars().take(WIDEST).collect::<String>())
    };
    let lines = files::tail(log, LOOKED_THROUGH).into_iter();
    let lines: Vec<String> = lines.filter_map(own).collect();
    if lines.is_empty() {
        return format!("it printed nothing; its peer's log is {}", log.display());
    }
    let last = &lines[lines.len().saturating_sub(SHOWN)..];
    format!(
        "what it printed last, from {}:\n    {}",
        log.display(),
        last.join("\n    ")
    )
}

/// The error for whoever asked.
pub(super) fn instantiate(kind: Kind, broken: &Broken) -> ApiError {
    ApiError::new(
        ErrorCode::NotInstantiated,
        format!(
            "the chaincode is not instantiated (code {}: {}); {}: {}",
            kind.code, kind.reason, kind.remedy, broken.reason
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_and_missing_tools_are_told_apart() {
        let within = "org: 127.0.0.1:1 answered 500: failed to invoke backing implementation of \
                      'InstallChaincode': could not build chaincode: ";
        let error = install(&format!(
            "{within}'go build' exited with 1:\nx.go:1: undefined"
        ));
        assert_eq!(error.code, ErrorCode::ChaincodeBuild);
        assert!(error.message.contains("correct it") && error.message.ends_with("undefined"));
        let text = format!(
            "{within}chaincode of type 'java' needs the program 'mvn', which is not in the PATH \
             of the peer (/bin): install Maven on this host"
        );
        let error = install(&text);
        assert_eq!(error.code, ErrorCode::ChaincodeBuild);
        assert!(!error.message.contains("correct it"), "{error}");
        assert!(error.message.contains("install Maven"), "{error}");
        let error = install("peer-0: transport error");
        assert_eq!(error.code, ErrorCode::SystemError);
    }

    #[test]
    fn failures_get_the_codes_of_bcs() {
        for (stage, reason, code) in [
            (Stage::Start, "error building chaincode: x", "6705"),
            (
                Stage::Start,
                "chaincode registration failed: exited",
                "6709",
            ),
            (Stage::Init, "p answered 500: Incorrect arguments", "6716"),
            (
                Stage::Init,
                "error sending: chaincode stream terminated",
                "6722",
            ),
            (
                Stage::Commit,
                "p: transport error: tcp connect error",
                "6701",
            ),
            (Stage::Commit, "o refused the message: BAD_REQUEST", "6713"),
            (Stage::Approve, "something else", "6999"),
            (Stage::Commit, "not agreed to by this org (A)", "6725"),
            (
                Stage::Approve,
                "the commit did not happen within 60 s",
                "6001",
            ),
        ] {
            let broken = Broken {
                stage,
                reason: reason.to_owned(),
            };
            assert_eq!(kind_of(&broken).code, code, "{reason}");
            let error = instantiate(kind_of(&broken), &broken);
            assert!(error.message.ends_with(reason) && error.message.contains(code));
        }
    }

    #[test]
    fn a_chaincodes_last_words_are_its_own() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let log = dir.path().join("peer-0.log");
        let at = log.display().to_string();
        let none = last_words(&log, "basic", "1.0");
        assert_eq!(none, format!("it printed nothing; its peer's log is {at}"));
        let head = "2026-11-25 06:47:35.572 UTC 0009 INFO [peer.chaincode] output -> ";
        let line = |tag: &str, text: &str| format!("{head}[peer.chaincode.dev-p-{tag}] {text}\n");
        let mut text = line("basic-1.0", "Error: Cannot find module 'x' [y] z");
        text += &line("basic-1.1", "another version");
        text += "2026-11-25 06:47:35.572 UTC 000a INFO [gossip] basic-1.0] of the peer\n";
        std::fs::write(&log, &text).expect("log");
        assert_eq!(
            last_words(&log, "basic", "1.0"),
            format!("what it printed last, from {at}:\n    Error: Cannot find module 'x' [y] z")
        );
        for n in 0..100 {
            text += &line("basic-1.0", &format!("line {n} {}", "x".repeat(1000)));
        }
        std::fs::write(&log, &text).expect("log");
        let shown = last_words(&log, "basic", "1.0");
        assert_eq!(shown.lines().count(), 1 + SHOWN);
        assert!(shown.contains("line 99") && shown.len() < 2 * SHOWN * WIDEST);
    }
}

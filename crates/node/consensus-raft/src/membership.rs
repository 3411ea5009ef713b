//! Who the consenters are, under which numbers, and how a configuration may change that
//! (Fabric: `orderer/consensus/etcdraft/membership.go`, `util.go`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use selvage_channel::config_transaction;
use selvage_channel::names::{CONSENSUS_TYPE, ORDERER};
use selvage_channel::open_config;
use selvage_ordering::Member;
use selvage_proto::common::{Block, Envelope, Metadata};
use selvage_proto::etcdraft::{BlockMetadata, ConfigMetadata, Consenter, Options};
use selvage_proto::orderer::ConsensusType;
use thiserror::Error;

use crate::wire::{ADD_NODE, ConfChange, REMOVE_NODE};

/// Why consenter metadata cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MembershipError {
    /// The bytes are no metadata.
    #[error("failed to unmarshal new etcdraft metadata configuration: {0}")]
    Malformed(String),
    /// A part is missing or wrong. The texts are Fabric's where it has one.
    #[error("invalid new config metadata: {0}")]
    Invalid(String),
    /// One consenter a time may change.
    #[error(
        "update of more than one consenter at a time is not supported, requested changes: add \
         {added} node(s), remove {removed} node(s)"
    )]
    TooMany {
        /// Consenters that come.
        added: usize,
        /// Consenters that go.
        removed: usize,
    },
    /// The number of ids does not fit the number of consenters.
    #[error("block metadata names {ids} consenters, the configuration {consenters}")]
    Mismatch {
        /// Ids in the block metadata.
        ids: usize,
        /// Consenters in the configuration.
        consenters: usize,
    },
}

/// The consenters of a channel under their numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership {
    /// Numbers in the order of the configuration, and the next to give out; written into every
    /// block.
    pub metadata: BlockMetadata,
    /// The consenters by number.
    pub consenters: BTreeMap<u64, Consenter>,
}

/// What a configuration changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The consenters afterwards.
    pub next: Membership,
    /// What Raft has to agree on; `None` for no change and for a new certificate of an old
    /// consenter.
    pub conf_change: Option<ConfChange>,
    /// The consenter that got a new certificate.
    pub rotated: Option<u64>,
}

impl Membership {
    /// The membership at a block: from its consenter metadata, or numbered from 1 where that is
    /// empty (a genesis block, or one written by another consensus).
    pub fn at(metadata: &Bytes, config: &ConfigMetadata) -> Result<Self, MembershipError> {
        let ids = Metadata::decode(metadata.clone())
            .and_then(|outer| BlockMetadata::decode(outer.value))
            .map_err(|error| MembershipError::Malformed(error.to_string()))?;
        let count = config.consenters.len() as u64;
        let metadata = if ids.consenter_ids.is_empty() {
            BlockMetadata {
                consenter_ids: (1..=count).collect(),
                next_consenter_id: count + 1,
                raft_index: 0,
            }
        } else {
            ids
        };
        if metadata.consenter_ids.len() != config.consenters.len() {
            return Err(MembershipError::Mismatch {
                ids: metadata.consenter_ids.len(),
                consenters: config.consenters.len(),
            });
        }
        let unique: BTreeSet<u64> = metadata.consenter_ids.iter().copied().collect();
        if unique.contains(&0) || unique.len() != metadata.consenter_ids.len() {
            let reason = "block metadata gives a consenter number 0, or two the same number";
            return Err(MembershipError::Invalid(reason.to_owned()));
        }
        let ids = metadata.consenter_ids.iter().copied();
        let consenters = ids.zip(config.consenters.iter().cloned()).collect();
        Ok(Self {
            metadata,
            consenters,
        })
    }

    /// The number of the consenter that is this node, which knows itself by its certificates.
    pub fn number_of(&self, own: &dyn Fn(&Consenter) -> bool) -> Option<u64> {
        let mut all = self.consenters.iter();
        all.find(|(_, consenter)| own(consenter)).map(|(id, _)| *id)
    }

    /// What the consenters of a new configuration mean for this membership. A consenter is known by
    /// its client certificate; one that comes while one goes is that one with a new certificate.
    pub fn change(&self, new: &[Consenter]) -> Result<Change, MembershipError> {
        let known = |consenter: &Consenter| {
            let same =
                |(_, old): &(&u64, &Consenter)| old.client_tls_cert == consenter.client_tls_cert;
            self.consenters.iter().find(same).map(|(id, _)| *id)
        };
        let mut ids: Vec<Option<u64>> = new.iter().map(known).collect();
        let kept: BTreeSet<u64> = ids.iter().flatten().copied().collect();
        let removed: Vec<u64> = self
            .consenters
            .keys()
            .copied()
            .filter(|id| !kept.contains(id))
            .collect();
        let added = ids.iter().filter(|id| id.is_none()).count();
        let mut metadata = self.metadata.clone();
        let (mut conf_change, mut rotated, mut fresh) = (None, None, None);
        match (added, removed.as_slice()) {
            (0, []) => {}
            (1, [old]) => {
                rotated = Some(*old);
                fresh = Some(*old);
            }
            (1, []) => {
                fresh = Some(metadata.next_consenter_id);
                conf_change = Some(change(ADD_NODE, metadata.next_consenter_id));
                metadata.next_consenter_id += 1;
            }
            (0, [old]) => conf_change = Some(change(REMOVE_NODE, *old)),
            _ => {
                return Err(MembershipError::TooMany {
                    added,
                    removed: removed.len(),
                });
            }
        }
        for id in &mut ids {
            *id = id.or(fresh);
        }
        metadata.consenter_ids = ids.into_iter().flatten().collect();
        let numbers = metadata.consenter_ids.iter().copied();
        let consenters = numbers.zip(new.iter().cloned()).collect();
        Ok(Change {
            next: Self {
                metadata,
                consenters,
            },
            conf_change,
            rotated,
        })
    }

    /// The consenters as those who have to be spoken with.
    pub fn members(&self) -> Vec<Member> {
        let member = |(id, consenter): (&u64, &Consenter)| Member {
            id: *id,
            host: consenter.host.clone(),
            port: consenter.port,
            client_tls_cert: consenter.client_tls_cert.clone(),
            server_tls_cert: consenter.server_tls_cert.clone(),
        };
        self.consenters.iter().map(member).collect()
    }

    /// The metadata as blocks carry it, for the entry at `raft_index`.
    pub fn block_metadata(&self, raft_index: u64) -> Bytes {
        let value = BlockMetadata {
            raft_index,
            ..self.metadata.clone()
        };
        let outer = Metadata {
            value: value.encode_to_vec().into(),
            signatures: Vec::new(),
        };
        outer.encode_to_vec().into()
    }
}

impl Change {
    /// Whether the change would leave too few of the `active` consenters for a quorum, although
    /// more could be started first.
    pub fn loses_quorum(&self, active: &[u64]) -> bool {
        let total = self.next.consenters.len();
        let quorum = total / 2 + 1;
        let left = |gone: Option<u64>| active.iter().filter(|id| Some(**id) != gone).count();
        match (&self.conf_change, self.rotated) {
            (Some(change), _) if change.kind == ADD_NODE => total > 2 && left(None) < quorum,
            (Some(change), _) => left(Some(change.node_id)) < quorum,
            (None, Some(rotated)) => total > 2 && left(Some(rotated)) < quorum,
            (None, None) => false,
        }
    }
}

fn change(kind: u32, node_id: u64) -> ConfChange {
    ConfChange {
        id: 0,
        kind,
        node_id,
        context: Bytes::new(),
    }
}

/// Reads and checks the metadata of a Raft channel's `ConsensusType` value.
pub fn config_metadata(bytes: &Bytes) -> Result<ConfigMetadata, MembershipError> {
    let metadata = ConfigMetadata::decode(bytes.clone())
        .map_err(|error| MembershipError::Malformed(error.to_string()))?;
    let invalid = |reason: &str| Err(MembershipError::Invalid(reason.to_owned()));
    let Some(options) = &metadata.options else {
        return invalid("nil Raft options");
    };
    if options.heartbeat_tick == 0 || options.election_tick == 0 || options.max_inflight_blocks == 0
    {
        return invalid("none of HeartbeatTick, ElectionTick and MaxInflightBlocks can be zero");
    }
    if options.election_tick <= options.heartbeat_tick {
        return invalid("ElectionTick must be greater than HeartbeatTick");
    }
    if options.snapshot_interval_size == 0 {
        return invalid("SnapshotIntervalSize is zero");
    }
    if tick_interval(options).is_none() {
        return invalid("TickInterval is zero or no duration");
    }
    if metadata.consenters.is_empty() {
        return invalid("empty consenter set");
    }
    check_duplicates(&metadata.consenters).map_err(MembershipError::Invalid)?;
    Ok(metadata)
}

/// No two consenters may show the same certificate, be it as a client or as a server: each is known by
/// its own.
fn check_duplicates(consenters: &[Consenter]) -> Result<(), String> {
    let mut seen: BTreeMap<&Bytes, &Consenter> = BTreeMap::new();
    for consenter in consenters {
        let certificates = [&consenter.client_tls_cert, &consenter.server_tls_cert];
        if let Some(other) = certificates.into_iter().find_map(|c| seen.get(c)) {
            return Err(format!(
                "duplicate consenter: {}:{} has a TLS certificate of {}:{}",
                consenter.host, consenter.port, other.host, other.port
            ));
        }
        seen.extend(certificates.map(|certificate| (certificate, consenter)));
    }
    Ok(())
}

/// How long a tick is.
pub fn tick_interval(options: &Options) -> Option<std::time::Duration> {
    selvage_channel::parse_duration(&options.tick_interval).filter(|tick| !tick.is_zero())
}

/// The `ConsensusType` value of a configuration block.
pub fn consensus_of_block(block: &Block) -> Option<ConsensusType> {
    consensus_of(&config_transaction(block).ok()?)
}

/// The `ConsensusType` value that a CONFIG message would put in force.
pub fn consensus_of(envelope: &Envelope) -> Option<ConsensusType> {
    let (_, config) = open_config(envelope).ok()?;
    let group = config.config?.channel_group?;
    let value = group.groups.get(ORDERER)?.values.get(CONSENSUS_TYPE)?;
    ConsensusType::decode(value.value.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consenter(name: &str) -> Consenter {
        Consenter {
            host: format!("{name}.example.com"),
            port: 7050,
            client_tls_cert: Bytes::from(format!("client {name}")),
            server_tls_cert: Bytes::from(format!("server {name}")),
        }
    }

    fn consenters(names: &str) -> Vec<Consenter> {
        names.chars().map(|c| consenter(&c.to_string())).collect()
    }

    fn three() -> Membership {
        let config = ConfigMetadata {
            consenters: consenters("abc"),
            options: None,
        };
        Membership::at(&Bytes::new(), &config).unwrap()
    }

    /// `ids/next/change/rotated`
    fn check(new: &str, expected: &str) {
        let text = match three().change(&consenters(new)) {
            Ok(change) => {
                let metadata = &change.next.metadata;
                let raft = change.conf_change.map(|c| (c.kind, c.node_id));
                format!(
                    "{:?}/{}/{raft:?}/{:?}",
                    metadata.consenter_ids, metadata.next_consenter_id, change.rotated
                )
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(text, expected, "{new}");
    }

    #[test]
    fn consenters_have_numbers_of_their_own() {
        let at = |ids: &[u64]| {
            let value = BlockMetadata {
                consenter_ids: ids.to_vec(),
                next_consenter_id: 9,
                raft_index: 7,
            };
            let outer = Metadata {
                value: value.encode_to_vec().into(),
                signatures: Vec::new(),
            };
            let config = ConfigMetadata {
                consenters: consenters("abc"),
                options: None,
            };
            Membership::at(&outer.encode_to_vec().into(), &config)
        };
        assert!(at(&[3, 1, 8]).is_ok());
        // Raft stops the process for a node of number 0.
        for ids in [[0, 1, 2], [1, 2, 2]] {
            let refused = at(&ids).expect_err("no such numbers");
            assert!(matches!(refused, MembershipError::Invalid(_)), "{refused}");
        }
    }

    #[test]
    fn one_consenter_changes_a_time() {
        check("abc", "[1, 2, 3]/4/None/None");
        check("cab", "[3, 1, 2]/4/None/None");
        check("abcd", "[1, 2, 3, 4]/5/Some((0, 4))/None");
        check("dabc", "[4, 1, 2, 3]/5/Some((0, 4))/None");
        check("ac", "[1, 3]/4/Some((1, 2))/None");
        check("adc", "[1, 2, 3]/4/None/Some(2)");
        check(
            "abcde",
            "update of more than one consenter at a time is not supported, requested changes: \
             add 2 node(s), remove 0 node(s)",
        );
        check(
            "a",
            "update of more than one consenter at a time is not supported, requested changes: \
             add 0 node(s), remove 2 node(s)",
        );
    }

    #[test]
    fn certificates_belong_to_one_consenter() {
        let check = |names: &str, change: fn(&mut Vec<Consenter>), expected: Option<&str>| {
            let mut all = consenters(names);
            change(&mut all);
            assert_eq!(check_duplicates(&all).err().as_deref(), expected);
        };
        check("abc", |_| {}, None);
        // One consenter may show the same on both sides.
        let alike = |all: &mut Vec<Consenter>| {
            all[0].client_tls_cert = all[0].server_tls_cert.clone();
        };
        check("abc", alike, None);
        let twice = "duplicate consenter: a.example.com:7050 has a TLS certificate of \
                     a.example.com:7050";
        check("aba", |_| {}, Some(twice));
        let crossed = |all: &mut Vec<Consenter>| {
            all[1].client_tls_cert = all[0].server_tls_cert.clone();
        };
        let text = "duplicate consenter: b.example.com:7050 has a TLS certificate of \
                    a.example.com:7050";
        check("ab", crossed, Some(text));
    }

    #[test]
    fn avoidable_losses_of_quorum_are_seen() {
        let check = |new: &str, active: &[u64], expected: bool| {
            let change = three().change(&consenters(new)).unwrap();
            assert_eq!(change.loses_quorum(active), expected, "{new} {active:?}");
        };
        check("abcd", &[1, 2, 3], false);
        check("abcd", &[1, 2], true);
        check("adc", &[1, 2, 3], false);
        check("adc", &[1, 2], true);
        check("ac", &[1, 3], false);
        check("ac", &[1, 2], true);
        check("abc", &[], false);
    }

    #[test]
    fn membership_comes_from_block_metadata() {
        let first = three().block_metadata(7);
        let config = ConfigMetadata {
            consenters: consenters("abc"),
            options: None,
        };
        let back = Membership::at(&first, &config).unwrap();
        assert_eq!(back.metadata.raft_index, 7);
        assert_eq!(back.consenters, three().consenters);
        assert_eq!(
            back.number_of(&|c| c.server_tls_cert == "server b"),
            Some(2)
        );
        assert_eq!(back.number_of(&|c| c.client_tls_cert == "client x"), None);
        let fewer = ConfigMetadata {
            consenters: consenters("ab"),
            options: None,
        };
        assert!(Membership::at(&first, &fewer).is_err());
    }
}

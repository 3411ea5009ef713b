//! The peers of a channel, as far as this peer knows them (Fabric: what gossip tells discovery).
//!
//! Today's sources are the channel configuration, whose anchor peers are one address each, and
//! the peer itself. What another peer has installed and how high its ledger is stays unknown, so
//! it counts as able, and a call to it shows otherwise.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_crypto::issue::NodeRole;
use selvage_crypto::sha256_parts;
use selvage_identity::{MspManager, SigningIdentity};
use selvage_proto::common::msp_principal::Classification;
use selvage_proto::common::msp_role::MspRoleType;
use selvage_proto::common::{MspRole, OrganizationUnit};
use selvage_proto::gossip::{
    AliveMessage, Chaincode, Envelope, GossipMessage, Member as WireMember, PeerTime, Properties,
    StateInfo, gossip_message,
};
use selvage_proto::msp::SerializedIdentity;

use super::principals::Principal;
use crate::chaincode_glue::{Chaincodes, is_system};
use crate::channels::PeerChannel;
use crate::report;

/// Most identities of other peers that are remembered.
const MAX_LEARNED: usize = 10_000;

/// A peer of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// `host:port`.
    pub(crate) endpoint: String,
    pub(crate) msp_id: String,
    /// Whether it is this very peer.
    pub(crate) local: bool,
    /// The serialized identity, once it is known.
    pub(crate) identity: Option<Bytes>,
    /// Number of blocks, 0 when unknown.
    pub(crate) height: u64,
}

impl Member {
    /// The identity, or as much of it as is known: the organisation.
    pub(crate) fn identity_or_org(&self) -> Bytes {
        self.identity.clone().unwrap_or_else(|| {
            let org = SerializedIdentity {
                mspid: self.msp_id.clone(),
                id_bytes: Bytes::new(),
            };
            org.encode_to_vec().into()
        })
    }

    /// Whether the peer satisfies a principal. Of a peer without known identity it is only known
    /// that it is a member of its organisation and a peer: that it has this role where the
    /// organisation has node roles, and the usual organisational unit in its certificate.
    pub(crate) fn satisfies(&self, principal: &Principal, msps: &MspManager) -> bool {
        if let Some(identity) = &self.identity {
            let identity = msps.deserialize(identity);
            return identity.is_ok_and(|i| i.satisfies(principal.raw()).is_ok());
        }
        let raw = principal.raw();
        let bytes = raw.principal.clone();
        match Classification::try_from(raw.principal_classification) {
            Ok(Classification::Role) => MspRole::decode(bytes).is_ok_and(|role| {
                role.msp_identifier == self.msp_id
                    && match MspRoleType::try_from(role.role) {
                        Ok(MspRoleType::Member) => true,
                        Ok(MspRoleType::Peer) => {
                            msps.msp(&self.msp_id).is_some_and(|m| m.has_node_roles())
                        }
                        _ => false,
                    }
            }),
            Ok(Classification::OrganizationUnit) => {
                OrganizationUnit::decode(bytes).is_ok_and(|unit| {
                    unit.msp_identifier == self.msp_id
                        && unit.organizational_unit_identifier
                            == NodeRole::Peer.organizational_unit()
                })
            }
            _ => false,
        }
    }

    fn pki_id(&self) -> Bytes {
        let identity = SerializedIdentity::decode(self.identity_or_org()).unwrap_or_default();
        let id = match identity.id_bytes.is_empty() {
            // No certificate to hash: the address tells such peers apart.
            true => sha256_parts([identity.mspid.as_bytes(), self.endpoint.as_bytes()]),
            false => sha256_parts([identity.mspid.as_bytes(), &identity.id_bytes]),
        };
        Bytes::copy_from_slice(&id)
    }
}

/// Who this peer is to others.
pub struct OwnPeer {
    /// The endpoint others know it by.
    pub endpoint: String,
    /// Its identity.
    pub signer: Arc<SigningIdentity>,
    /// When it started, in nanoseconds since 1970: later announcements replace earlier ones.
    pub started: u64,
}

/// Knows the peers of every channel.
pub struct Membership {
    own: OwnPeer,
    chaincodes: Arc<Chaincodes>,
    /// Identities of other peers by endpoint, learned from their endorsements.
    learned: RwLock<HashMap<String, Bytes>>,
    version: AtomicU64,
}

impl Membership {
    /// What `own` knows.
    pub fn new(own: OwnPeer, chaincodes: Arc<Chaincodes>) -> Self {
        Self {
            own,
            chaincodes,
            learned: RwLock::default(),
            version: AtomicU64::new(0),
        }
    }

    pub(crate) fn own(&self) -> &OwnPeer {
        &self.own
    }

    pub(crate) fn chaincodes(&self) -> &Arc<Chaincodes> {
        &self.chaincodes
    }

    /// A number that changes when more is known of other peers.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Remembers whose endorsement came from an address. The caller has checked that it is an
    /// identity of the organisation the address belongs to.
    pub(crate) fn learn(&self, endpoint: &str, identity: &Bytes) {
        if self.learned.read().get(endpoint) == Some(identity) {
            return;
        }
        let mut learned = self.learned.write();
        if learned.len() >= MAX_LEARNED {
            learned.clear();
        }
        learned.insert(endpoint.to_owned(), identity.clone());
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// This peer first, then the anchor peers.
    pub(crate) fn of_channel(&self, channel: &PeerChannel) -> Vec<Member> {
        self.of_config(&channel.config(), channel.height())
    }

    pub(crate) fn of_config(&self, config: &ChannelConfig, height: u64) -> Vec<Member> {
        let own = Member {
            endpoint: self.own.endpoint.clone(),
            msp_id: self.own.signer.msp_id().to_owned(),
            local: true,
            identity: Some(self.own.signer.serialized()),
            height,
        };
        let mut members = vec![own];
        let learned = self.learned.read();
        for org in config
            .application()
            .into_iter()
            .flat_map(|a| a.orgs().values())
        {
            for anchor in &org.anchor_peers {
                let endpoint = format!("{}:{}", anchor.host, anchor.port);
                if members.iter().any(|m| m.endpoint == endpoint) {
                    continue;
                }
                members.push(Member {
                    identity: learned.get(&endpoint).cloned(),
                    endpoint,
                    msp_id: org.msp_id.clone(),
                    local: false,
                    height: 0,
                });
            }
        }
        members
    }

    /// Whether a peer can run a chaincode. For another peer that is assumed of every chaincode the
    /// channel has defined.
    pub(crate) fn can_run(&self, member: &Member, channel: &PeerChannel, name: &str) -> bool {
        if is_system(name) {
            return true;
        }
        let found = self.chaincodes.local_chaincode(channel, name);
        let found = found.unwrap_or_else(|error| {
            tracing::error!(
                channel = channel.id(),
                error,
                "cannot read a chaincode definition"
            );
            None
        });
        found.is_some_and(|c| !member.local || (c.approved && c.package_id.is_some()))
    }

    /// What the peer would say of itself in gossip: its endpoint.
    pub(crate) fn alive(&self, member: &Member) -> Envelope {
        let alive = AliveMessage {
            membership: Some(WireMember {
                endpoint: member.endpoint.clone(),
                metadata: Bytes::new(),
                pki_id: member.pki_id(),
            }),
            timestamp: Some(self.time(1)),
            identity: Bytes::new(),
        };
        let tag = gossip_message::Tag::Empty;
        self.envelope(
            member,
            tag,
            Bytes::new(),
            gossip_message::Content::AliveMsg(alive),
        )
    }

    /// What the peer would say of its part in a channel: height and chaincodes.
    pub(crate) fn state_info(&self, member: &Member, channel: &PeerChannel) -> Envelope {
        let pki_id = member.pki_id();
        let mac = sha256_parts([&pki_id[..], channel.id().as_bytes()]);
        let info = StateInfo {
            timestamp: Some(self.time(member.height.max(1))),
            channel_mac: Bytes::copy_from_slice(&mac),
            properties: Some(Properties {
                ledger_height: member.height,
                left_channel: false,
                chaincodes: self.listed_chaincodes(member, channel),
            }),
            pki_id,
        };
        let tag = gossip_message::Tag::ChanOrOrg;
        self.envelope(
            member,
            tag,
            Bytes::new(),
            gossip_message::Content::StateInfo(info),
        )
    }

    fn listed_chaincodes(&self, member: &Member, channel: &PeerChannel) -> Vec<Chaincode> {
        let defined = match self.chaincodes.defined(channel) {
            Ok(defined) => defined,
            Err(error) => {
                tracing::error!(channel = channel.id(), error, "cannot read definitions");
                BTreeMap::new()
            }
        };
        let able = defined
            .into_iter()
            .filter(|(name, _)| self.can_run(member, channel, name));
        let entry = |name: String, version: String| Chaincode {
            name,
            version,
            metadata: Bytes::new(),
        };
        let lifecycle = entry("_lifecycle".to_owned(), "1".to_owned());
        std::iter::once(lifecycle)
            .chain(able.map(|(name, sequence)| entry(name, sequence.to_string())))
            .collect()
    }

    fn time(&self, seq_num: u64) -> PeerTime {
        PeerTime {
            inc_num: self.own.started,
            seq_num,
        }
    }

    /// Signed only where this peer speaks for itself.
    fn envelope(
        &self,
        member: &Member,
        tag: gossip_message::Tag,
        channel: Bytes,
        content: gossip_message::Content,
    ) -> Envelope {
        let message = GossipMessage {
            nonce: 0,
            channel,
            tag: tag as i32,
            content: Some(content),
        };
        let payload = Bytes::from(message.encode_to_vec());
        let signature = match member.local {
            true => self.own.signer.sign(&payload).into(),
            false => Bytes::new(),
        };
        Envelope {
            payload,
            signature,
            secret_envelope: None,
        }
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership")
            .field("endpoint", &self.own.endpoint)
            .finish_non_exhaustive()
    }
}

/// Whether an identity is a valid one of the organisation.
pub(crate) fn belongs_to(identity: &Bytes, msp_id: &str, msps: &MspManager) -> bool {
    match msps.deserialize(identity) {
        Ok(identity) => identity.msp_id() == msp_id && identity.validate().is_ok(),
        Err(error) => {
            tracing::debug!(msp_id, error = %report(&error), "endorser's identity not known");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvage_crypto::issue::{Authority, LeafProfile, Subject, Validity};
    use selvage_identity::policy::build::{role_principal, unit_principal};
    use selvage_identity::{Msp, MspFiles, MspFolder, MspVersion, OrganizationalUnit};

    fn msp(ca: &Authority, node_roles: bool) -> MspManager {
        let validity = Validity::ten_years(1_735_689_600);
        let profile = LeafProfile::identity("admin", NodeRole::Admin, validity);
        let folder = MspFolder {
            root_certificates: vec![ca.certificate().clone()],
            admins: vec![ca.issue_new(&profile).unwrap().0],
            node_roles,
            ..MspFolder::default()
        };
        let files = folder.files().unwrap().into_iter();
        let files = MspFiles::new(files.map(|(path, content)| (path, content.to_vec())));
        let definition = files.verifying_config("OrgMSP").unwrap();
        let msp = Msp::new(&definition, MspVersion::V1_4_3).unwrap();
        MspManager::new([Arc::new(msp)])
    }

    #[test]
    fn peers_nobody_has_met_are_taken_for_what_they_must_be() {
        let validity = Validity::ten_years(1_735_689_600);
        let ca = Authority::new_root(&Subject::named("ca"), validity).unwrap();
        let unit = |name: &str| OrganizationalUnit {
            name: name.to_owned(),
            certifiers: [7; 32],
        };
        let stranger = Member {
            endpoint: "peer:1".into(),
            msp_id: "OrgMSP".into(),
            local: false,
            identity: None,
            height: 0,
        };
        for node_roles in [true, false] {
            let msps = msp(&ca, node_roles);
            let check = |principal: selvage_proto::common::MspPrincipal, expected: bool| {
                let principal = Principal::new(&principal).unwrap();
                let found = stranger.satisfies(&principal, &msps);
                assert_eq!(found, expected, "{principal:?}, node roles {node_roles}");
            };
            check(role_principal("OrgMSP", MspRoleType::Member), true);
            check(role_principal("OrgMSP", MspRoleType::Peer), node_roles);
            check(role_principal("OrgMSP", MspRoleType::Admin), false);
            check(role_principal("OtherMSP", MspRoleType::Member), false);
            check(unit_principal("OrgMSP", &unit("peer")), true);
            check(unit_principal("OrgMSP", &unit("client")), false);
            check(unit_principal("OtherMSP", &unit("peer")), false);
        }
    }
}

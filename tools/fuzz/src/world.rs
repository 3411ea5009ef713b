//! An organisation and a channel of its own, made once per process.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use selvage_channel::ChannelConfig;
use selvage_channel::genesis::{ConfigTx, MemoryMaterial, genesis_block};
use selvage_client::User;
use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Subject, Validity};
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use selvage_proto::common::Block;

/// The channel.
pub(crate) const CHANNEL: &str = "fuzz";
/// The organisation's MSP.
pub(crate) const MSP: &str = "OneMSP";
/// 2025-01-01, where the clock of test environments stands.
pub(crate) const NOW: i64 = 1_735_689_600;

const NODE_OUS: &str = "NodeOUs:
  Enable: true
  ClientOUIdentifier: {OrganizationalUnitIdentifier: client}
  PeerOUIdentifier: {OrganizationalUnitIdentifier: peer}
  AdminOUIdentifier: {OrganizationalUnitIdentifier: admin}
  OrdererOUIdentifier: {OrganizationalUnitIdentifier: orderer}
";

/// A `configtx.yaml` of the channel.
pub(crate) const PROFILE: &str = r#"
Organizations:
  - &One
    Name: One
    ID: OneMSP
    MSPDir: One
    Policies:
      Readers: {Type: Signature, Rule: "OR('OneMSP.member')"}
      Writers: {Type: Signature, Rule: "OR('OneMSP.member')"}
      Admins: {Type: Signature, Rule: "OR('OneMSP.admin')"}
      Endorsement: {Type: Signature, Rule: "OR('OneMSP.peer')"}
    OrdererEndpoints: ["127.0.0.1:1"]
    AnchorPeers: [{Host: 127.0.0.1, Port: 2}]
Channel:
  Policies: &Policies
    Readers: {Type: ImplicitMeta, Rule: ANY Readers}
    Writers: {Type: ImplicitMeta, Rule: ANY Writers}
    Admins: {Type: ImplicitMeta, Rule: MAJORITY Admins}
Profiles:
  Fuzz:
    Policies: *Policies
    Capabilities: {V2_0: true}
    Orderer:
      OrdererType: solo
      BatchTimeout: 1s
      Policies:
        <<: *Policies
        BlockValidation: {Type: ImplicitMeta, Rule: ANY Writers}
      Capabilities: {V2_0: true}
      Organizations: [*One]
    Application:
      Policies:
        <<: *Policies
        Endorsement: {Type: ImplicitMeta, Rule: ANY Endorsement}
        LifecycleEndorsement: {Type: ImplicitMeta, Rule: ANY Endorsement}
      ACLs: {qscc/GetChainInfo: /Channel/Application/Readers}
      Capabilities: {V2_5: true}
      Organizations: [*One]
"#;

/// The organisation's members and its channel.
pub(crate) struct World {
    pub(crate) client: User,
    pub(crate) admin: User,
    pub(crate) peer: Arc<SigningIdentity>,
    pub(crate) orderer: Arc<SigningIdentity>,
    pub(crate) material: MemoryMaterial,
    pub(crate) genesis: Block,
    pub(crate) config: Arc<ChannelConfig>,
}

/// The world of this process.
pub(crate) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

impl World {
    fn new() -> Self {
        let validity = Validity::ten_years(NOW - 3600);
        let root = |name: &str| {
            Authority::new_root(&Subject::named(name), validity).expect("an authority")
        };
        let (ca, tls) = (root("ca"), root("tlsca"));
        let member = |role: NodeRole| {
            let profile = LeafProfile::identity(&format!("{role:?}"), role, validity);
            let (certificate, key) = ca.issue_new(&profile).expect("a certificate");
            let pem = certificate.to_pem();
            Arc::new(SigningIdentity::new(MSP, pem.as_bytes(), key).expect("an identity"))
        };
        let files: [(&str, String); 3] = [
            ("One/cacerts/ca.pem", ca.certificate().to_pem()),
            ("One/tlscacerts/ca.pem", tls.certificate().to_pem()),
            ("One/config.yaml", NODE_OUS.to_owned()),
        ];
        let files = files.map(|(path, text)| (path.to_owned(), Bytes::from(text)));
        let material = MemoryMaterial(BTreeMap::from(files));
        let profiles = ConfigTx::from_yaml(PROFILE).expect("a profile");
        let profile = profiles.profile("Fuzz").expect("the profile");
        let genesis =
            genesis_block(profile, CHANNEL, &material, NOW, [7; 24]).expect("a genesis block");
        let config = ChannelConfig::from_block(&genesis).expect("a configuration");
        let env = Env::test(1);
        Self {
            client: User::new(member(NodeRole::Client), &env),
            admin: User::new(member(NodeRole::Admin), &env),
            peer: member(NodeRole::Peer),
            orderer: member(NodeRole::Orderer),
            material,
            genesis,
            config: Arc::new(config),
        }
    }
}

//! A consortium made in memory: an ordering organisation, two that run chaincode, and their people.

use std::collections::BTreeMap;

use bytes::Bytes;
use selvage_channel::genesis::{
    Application, Consenter, MemoryMaterial, Orderer, Organization, Policy, Profile, genesis_block,
};
use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Subject, Validity};
use selvage_crypto::{KeyKind, PrivateKey};
use selvage_identity::{MspFolder, SigningIdentity};
use selvage_proto::Message as _;
use selvage_proto::common::{
    Block, ChannelHeader, Config, ConfigSignature, ConfigUpdateEnvelope, Envelope, Header,
    HeaderType, Payload, SignatureHeader,
};

/// The network's time: 2025-01-01.
pub(crate) const NOW: i64 = 1_735_689_600;
/// The channel of [`Consortium::genesis`].
pub(crate) const CHANNEL: &str = "consortium";

/// An organisation with its authority.
pub(crate) struct Org {
    pub(crate) msp_id: String,
    ca: Authority,
}

impl Org {
    fn new(msp_id: &str) -> Self {
        let validity = Validity::ten_years(NOW);
        let subject = Subject::named(format!("ca.{msp_id}"));
        Self {
            msp_id: msp_id.to_owned(),
            ca: Authority::new_root(&subject, validity).expect("an authority"),
        }
    }

    /// A new member.
    pub(crate) fn member(&self, name: &str, role: NodeRole) -> SigningIdentity {
        let key = PrivateKey::generate(KeyKind::P256).expect("a key");
        let profile = LeafProfile::identity(name, role, Validity::ten_years(NOW));
        let certificate = self.ca.issue(&profile, key.public_key());
        let pem = certificate.expect("a certificate").to_pem();
        SigningIdentity::new(&self.msp_id, pem.as_bytes(), key).expect("an identity")
    }

    fn definition(&self) -> Organization {
        let id = &self.msp_id;
        let policy = |role: &str| Policy::signature(&format!("OR('{id}.{role}')"));
        let policies = [
            ("Readers", policy("member")),
            ("Writers", policy("member")),
            ("Admins", policy("admin")),
            ("Endorsement", policy("peer")),
        ];
        Organization {
            name: id.clone(),
            id: id.clone(),
            msp_dir: id.clone(),
            policies: policies.map(|(n, p)| (n.to_owned(), p)).into(),
            ..Organization::default()
        }
    }
}

/// The organisations and the profile of their channel.
pub(crate) struct Consortium {
    pub(crate) orderer: Org,
    pub(crate) org1: Org,
    pub(crate) org2: Org,
    pub(crate) profile: Profile,
    pub(crate) material: MemoryMaterial,
}

fn implicit(entries: &[(&str, &str)]) -> BTreeMap<String, Policy> {
    let entry = |(name, rule): &(&str, &str)| ((*name).to_owned(), Policy::implicit(rule));
    entries.iter().map(entry).collect()
}

fn capability(name: &str) -> BTreeMap<String, bool> {
    [(name.to_owned(), true)].into()
}

impl Consortium {
    pub(crate) fn new() -> Self {
        let [orderer, org1, org2] = ["OrdererMSP", "Org1MSP", "Org2MSP"].map(Org::new);
        let mut files = BTreeMap::new();
        for org in [&orderer, &org1, &org2] {
            let folder = MspFolder {
                root_certificates: vec![org.ca.certificate().clone()],
                node_roles: true,
                ..MspFolder::default()
            };
            for (path, content) in folder.files().expect("an MSP folder") {
                let content = Bytes::copy_from_slice(&content);
                files.insert(format!("{}/{path}", org.msp_id), content);
            }
        }
        let basics = [
            ("Readers", "ANY Readers"),
            ("Writers", "ANY Writers"),
            ("Admins", "MAJORITY Admins"),
        ];
        let with = |more: &[(&'static str, &'static str)]| implicit(&[&basics, more].concat());
        let mut ordering_org = orderer.definition();
        ordering_org.orderer_endpoints = vec!["orderer.example.com:7050".to_owned()];
        let profile = Profile {
            policies: with(&[]),
            capabilities: capability("V2_0"),
            orderer: Some(Orderer {
                organizations: vec![ordering_org],
                policies: with(&[("BlockValidation", "ANY Writers")]),
                capabilities: capability("V2_0"),
                ..Orderer::default()
            }),
            application: Some(Application {
                organizations: vec![org1.definition(), org2.definition()],
                policies: with(&[
                    ("Endorsement", "MAJORITY Endorsement"),
                    ("LifecycleEndorsement", "MAJORITY Endorsement"),
                ]),
                capabilities: capability("V2_5"),
                ..Application::default()
            }),
            ..Profile::default()
        };
        Self {
            orderer,
            org1,
            org2,
            profile,
            material: MemoryMaterial(files),
        }
    }

    /// One whose channel four nodes order by BFT, and those nodes.
    pub(crate) fn bft() -> (Self, Vec<SigningIdentity>) {
        let mut consortium = Self::new();
        let nodes: Vec<SigningIdentity> = (1..=4)
            .map(|i| {
                consortium
                    .orderer
                    .member(&format!("orderer{i}"), NodeRole::Orderer)
            })
            .collect();
        consortium.profile.capabilities = capability("V3_0");
        let orderer = consortium
            .profile
            .orderer
            .as_mut()
            .expect("an orderer section");
        orderer.orderer_type = "BFT".to_owned();
        for (i, node) in nodes.iter().enumerate() {
            let path = format!("orderer{i}.pem");
            let pem = node.certificate().to_pem();
            consortium.material.0.insert(path.clone(), pem.into());
            orderer.consenter_mapping.push(Consenter {
                id: i as u32 + 1,
                host: "127.0.0.1".to_owned(),
                port: 7050 + i as u32,
                msp_id: "OrdererMSP".to_owned(),
                identity: path.clone(),
                client_tls_cert: path.clone(),
                server_tls_cert: path,
            });
        }
        (consortium, nodes)
    }

    /// The channel's first block.
    pub(crate) fn genesis(&self) -> Block {
        genesis_block(&self.profile, CHANNEL, &self.material, NOW, [7; 24])
            .expect("a genesis block")
    }
}

/// A signed message of a type.
pub(crate) fn message(signer: &SigningIdentity, kind: HeaderType, data: Bytes) -> Envelope {
    let channel = ChannelHeader {
        r#type: kind as i32,
        channel_id: CHANNEL.to_owned(),
        ..Default::default()
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel.encode_to_vec().into(),
            signature_header: signature_header(signer).encode_to_vec().into(),
        }),
        data,
    };
    let payload: Bytes = payload.encode_to_vec().into();
    Envelope {
        signature: signer.sign(&payload).into(),
        payload,
    }
}

fn signature_header(signer: &SigningIdentity) -> SignatureHeader {
    SignatureHeader {
        creator: signer.serialized(),
        nonce: Bytes::from_static(&[3; 24]),
    }
}

/// An update from one configuration to another, signed by these and sent by the first.
pub(crate) fn update(from: &Config, to: &Config, signers: &[&SigningIdentity]) -> Envelope {
    let mut update = selvage_channel::update::compute(from, to).expect("a difference");
    CHANNEL.clone_into(&mut update.channel_id);
    let config_update: Bytes = update.encode_to_vec().into();
    let sign = |signer: &&SigningIdentity| {
        let header = signature_header(signer).encode_to_vec();
        let message = [header.as_slice(), config_update.as_ref()].concat();
        ConfigSignature {
            signature: signer.sign(&message).into(),
            signature_header: header.into(),
        }
    };
    let envelope = ConfigUpdateEnvelope {
        signatures: signers.iter().map(sign).collect(),
        config_update: config_update.clone(),
    };
    let data = envelope.encode_to_vec().into();
    message(signers[0], HeaderType::ConfigUpdate, data)
}

//! A network made on the spot: organisations, a channel, transactions and signed blocks.

#![allow(dead_code, unreachable_pub)]

pub mod bench;
pub mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use prost::Message;
use selvage_channel::genesis::{ConfigTx, MemoryMaterial, genesis_block};
use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Subject, Validity};
use selvage_crypto::{PrivateKey, sha256, sha256_parts};
use selvage_identity::SigningIdentity;
use selvage_proto::block::header_bytes;
use selvage_proto::common::{
    Block, BlockData, BlockHeader, BlockMetadata, BlockMetadataIndex, ChannelHeader, Envelope,
    Header, HeaderType, LastConfig, Metadata, MetadataSignature, OrdererBlockMetadata, Payload,
    SignatureHeader,
};
use selvage_proto::kvrwset::{KvMetadataEntry, KvMetadataWrite, KvWrite, KvrwSet};
use selvage_proto::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeHeaderExtension,
    ChaincodeId, ChaincodeProposalPayload, Endorsement, ProposalResponsePayload, Response,
    Transaction, TransactionAction,
};
use selvage_proto::rwset::{NsReadWriteSet, TxReadWriteSet};

/// The channel of every test network.
pub const CHANNEL: &str = "testchannel";

const NODE_OUS: &str = "NodeOUs:
  Enable: true
  ClientOUIdentifier: {OrganizationalUnitIdentifier: client}
  PeerOUIdentifier: {OrganizationalUnitIdentifier: peer}
  AdminOUIdentifier: {OrganizationalUnitIdentifier: admin}
  OrdererOUIdentifier: {OrganizationalUnitIdentifier: orderer}
";

/// An organisation with one identity of each kind.
pub struct Org {
    pub msp_id: String,
    pub ca: Authority,
    pub tls_ca: Authority,
    pub client: Arc<SigningIdentity>,
    pub admin: Arc<SigningIdentity>,
    pub peer: Arc<SigningIdentity>,
    pub orderer: Arc<SigningIdentity>,
    pub client_key: PrivateKey,
    pub peer_key: PrivateKey,
}

/// A PEM certificate and its key.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

fn now() -> i64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.expect("after 1970").as_secs() as i64
}

impl Org {
    fn new(name: &str) -> Self {
        let validity = Validity::ten_years(now() - 3600);
        let root = |kind: &str| {
            let subject = Subject::in_san_francisco(format!("{kind}.{name}.example.com"));
            Authority::new_root(&subject, validity).expect("authority")
        };
        let (ca, tls_ca) = (root("ca"), root("tlsca"));
        let msp_id = format!("{name}MSP");
        let issue = |role: NodeRole| {
            let profile = LeafProfile::identity(&format!("{role:?}@{name}"), role, validity);
            let (certificate, key) = ca.issue_new(&profile).expect("certificate");
            let pem = certificate.to_pem();
            let signer = SigningIdentity::new(&msp_id, pem.as_bytes(), key.clone());
            (Arc::new(signer.expect("identity")), key)
        };
        let (client, client_key) = issue(NodeRole::Client);
        let (peer, peer_key) = issue(NodeRole::Peer);
        let (admin, _) = issue(NodeRole::Admin);
        let (orderer, _) = issue(NodeRole::Orderer);
        Self {
            msp_id,
            ca,
            tls_ca,
            client,
            admin,
            peer,
            orderer,
            client_key,
            peer_key,
        }
    }

    /// A TLS certificate for this machine.
    pub fn tls(&self) -> Pair {
        let validity = Validity::ten_years(now() - 3600);
        let profile = LeafProfile::tls("localhost", &["localhost", "127.0.0.1"], validity);
        let (certificate, key) = self.tls_ca.issue_new(&profile).expect("certificate");
        let key = key.to_pkcs8_pem().expect("key").to_string();
        Pair {
            certificate: certificate.to_pem(),
            key,
        }
    }

    /// The files of the organisation's MSP.
    pub fn msp_files(&self) -> BTreeMap<String, Bytes> {
        BTreeMap::from([
            (
                "cacerts/ca.pem".to_owned(),
                self.ca.certificate().to_pem().into(),
            ),
            (
                "tlscacerts/ca.pem".to_owned(),
                self.tls_ca.certificate().to_pem().into(),
            ),
            (
                "config.yaml".to_owned(),
                Bytes::from_static(NODE_OUS.as_bytes()),
            ),
        ])
    }
}

/// Two application organisations, an ordering organisation and a channel between them.
pub struct Network {
    pub one: Org,
    pub two: Org,
    pub ordering: Org,
    pub genesis: Block,
}

fn org_yaml(name: &str, extra: &str) -> String {
    format!(
        "        - Name: {name}
          ID: {name}MSP
          MSPDir: {name}
          Policies:
            Readers: {{Type: Signature, Rule: \"OR('{name}MSP.member')\"}}
            Writers: {{Type: Signature, Rule: \"OR('{name}MSP.member')\"}}
            Admins: {{Type: Signature, Rule: \"OR('{name}MSP.admin')\"}}
            Endorsement: {{Type: Signature, Rule: \"OR('{name}MSP.peer')\"}}
{extra}"
    )
}

fn profile_yaml(orderer_address: &str) -> String {
    let implicit = |indent: usize| {
        let pad = " ".repeat(indent);
        ["Readers", "Writers", "Admins"]
            .map(|name| {
                let rule = if name == "Admins" { "MAJORITY" } else { "ANY" };
                format!("{name}: {{Type: ImplicitMeta, Rule: {rule} {name}}}")
            })
            .join(&format!("\n{pad}"))
    };
    format!(
        "Profiles:
  Test:
    Policies:
      {root}
    Capabilities: {{V2_0: true}}
    Orderer:
      OrdererType: solo
      BatchTimeout: 1s
      Policies:
        {implicit}
        BlockValidation: {{Type: ImplicitMeta, Rule: ANY Writers}}
      Capabilities: {{V2_0: true}}
      Organizations:
{ordering}    Application:
      Policies:
        {implicit}
        Endorsement: {{Type: ImplicitMeta, Rule: MAJORITY Endorsement}}
        LifecycleEndorsement: {{Type: ImplicitMeta, Rule: MAJORITY Endorsement}}
      Capabilities: {{V2_5: true}}
      Organizations:
{one}{two}",
        root = implicit(6),
        implicit = implicit(8),
        ordering = org_yaml(
            "Ordering",
            &format!("          OrdererEndpoints: [\"{orderer_address}\"]\n")
        ),
        one = org_yaml("One", ""),
        two = org_yaml("Two", ""),
    )
}

impl Network {
    /// A network whose orderer will listen nowhere.
    pub fn new() -> Self {
        Self::with_orderer("127.0.0.1:1")
    }

    /// A network whose channel names this orderer.
    pub fn with_orderer(address: &str) -> Self {
        let (one, two, ordering) = (Org::new("One"), Org::new("Two"), Org::new("Ordering"));
        let mut material = MemoryMaterial::default();
        for (folder, org) in [("One", &one), ("Two", &two), ("Ordering", &ordering)] {
            for (path, bytes) in org.msp_files() {
                material.0.insert(format!("{folder}/{path}"), bytes);
            }
        }
        let text = profile_yaml(address);
        let profiles = ConfigTx::from_yaml(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let profile = profiles.profile("Test").expect("profile");
        let genesis =
            genesis_block(profile, CHANNEL, &material, now(), [7; 24]).expect("genesis block");
        Self {
            one,
            two,
            ordering,
            genesis,
        }
    }

    /// A block over `envelopes` that follows `previous`, signed by the orderer.
    pub fn block(&self, previous: &Block, envelopes: Vec<Bytes>) -> Block {
        sign_block(previous, envelopes, &self.ordering.orderer)
    }
}

/// The hash of a block's header.
pub fn header_hash(block: &Block) -> Bytes {
    let header = block.header.as_ref().expect("header");
    Bytes::copy_from_slice(&sha256(&header_bytes(header)))
}

/// A block that follows `previous`, signed as solo and Raft orderers do.
pub fn sign_block(previous: &Block, envelopes: Vec<Bytes>, orderer: &SigningIdentity) -> Block {
    let data = BlockData { data: envelopes };
    let header = BlockHeader {
        number: previous.number() + 1,
        previous_hash: header_hash(previous),
        data_hash: sha256_parts(data.data.iter().map(|d| &d[..]))
            .to_vec()
            .into(),
    };
    let value = OrdererBlockMetadata {
        last_config: Some(LastConfig { index: 0 }),
        consenter_metadata: Bytes::new(),
    }
    .encode_to_vec();
    let signature_header = SignatureHeader {
        creator: orderer.serialized(),
        nonce: Bytes::from_static(b"nonce"),
    }
    .encode_to_vec();
    let message = [value.as_slice(), &signature_header, &header_bytes(&header)].concat();
    let signatures = Metadata {
        value: value.into(),
        signatures: vec![MetadataSignature {
            signature: orderer.sign(&message).into(),
            signature_header: signature_header.into(),
            ..Default::default()
        }],
    };
    let mut block = Block {
        header: Some(header),
        data: Some(data),
        metadata: Some(BlockMetadata {
            metadata: vec![Bytes::new(); 5],
        }),
    };
    block.set_metadata_slot(BlockMetadataIndex::Signatures, signatures.encode_to_vec());
    block
}

/// An endorsed transaction that tests take apart and break before it is sealed.
#[derive(Clone)]
pub struct Tx {
    pub channel: ChannelHeader,
    pub signer: SignatureHeader,
    pub extension: ChaincodeHeaderExtension,
    pub proposal: ChaincodeProposalPayload,
    pub action: ChaincodeAction,
    pub creator: Arc<SigningIdentity>,
    pub endorsers: Vec<Arc<SigningIdentity>>,
}

impl Tx {
    /// A transaction of `chaincode` with these results.
    pub fn new(
        creator: &Arc<SigningIdentity>,
        endorsers: &[&Arc<SigningIdentity>],
        chaincode: &str,
        results: &TxReadWriteSet,
    ) -> Self {
        static NONCE: AtomicU64 = AtomicU64::new(1);
        let nonce = NONCE.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec();
        let signer = SignatureHeader {
            creator: creator.serialized(),
            nonce: nonce.into(),
        };
        let id = ChaincodeId {
            name: chaincode.to_owned(),
            ..Default::default()
        };
        let channel = ChannelHeader {
            r#type: HeaderType::EndorserTransaction as i32,
            channel_id: CHANNEL.to_owned(),
            tx_id: tx_id(&signer),
            ..Default::default()
        };
        Self {
            channel,
            signer,
            extension: ChaincodeHeaderExtension {
                chaincode_id: Some(id.clone()),
            },
            proposal: ChaincodeProposalPayload {
                input: Bytes::from_static(b"input"),
                ..Default::default()
            },
            action: ChaincodeAction {
                results: results.encode_to_vec().into(),
                response: Some(Response {
                    status: 200,
                    ..Default::default()
                }),
                chaincode_id: Some(ChaincodeId {
                    version: "1.0".to_owned(),
                    ..id
                }),
                ..Default::default()
            },
            creator: creator.clone(),
            endorsers: endorsers.iter().map(|e| (*e).clone()).collect(),
        }
    }

    /// The id in its header.
    pub fn id(&self) -> &str {
        &self.channel.tx_id
    }

    /// The header as both proposal and transaction carry it.
    pub fn header(&self) -> Header {
        let mut channel = self.channel.clone();
        if channel.extension.is_empty() {
            channel.extension = self.extension.encode_to_vec().into();
        }
        Header {
            channel_header: channel.encode_to_vec().into(),
            signature_header: self.signer.encode_to_vec().into(),
        }
    }

    /// The only action of the transaction, endorsed.
    pub fn endorsed(&self) -> TransactionAction {
        let header = self.header();
        let proposal = self.proposal.encode_to_vec();
        let hash = sha256_parts([
            &header.channel_header[..],
            &header.signature_header,
            &proposal,
        ]);
        let response = ProposalResponsePayload {
            proposal_hash: hash.to_vec().into(),
            extension: self.action.encode_to_vec().into(),
        };
        self.endorse(response.encode_to_vec().into(), proposal.into())
    }

    /// An action with these response bytes, signed by the endorsers.
    pub fn endorse(&self, response: Bytes, proposal: Bytes) -> TransactionAction {
        let endorsements = self
            .endorsers
            .iter()
            .map(|endorser| {
                let identity = endorser.serialized();
                let message = [&response[..], &identity].concat();
                Endorsement {
                    signature: endorser.sign(&message).into(),
                    endorser: identity,
                }
            })
            .collect();
        let payload = ChaincodeActionPayload {
            chaincode_proposal_payload: proposal,
            action: Some(ChaincodeEndorsedAction {
                proposal_response_payload: response,
                endorsements,
            }),
        };
        TransactionAction {
            header: self.header().signature_header,
            payload: payload.encode_to_vec().into(),
        }
    }

    /// The finished envelope.
    pub fn seal(&self) -> Bytes {
        self.seal_data(
            Transaction {
                actions: vec![self.endorsed()],
            }
            .encode_to_vec()
            .into(),
        )
    }

    /// An envelope over other data than the transaction.
    pub fn seal_data(&self, data: Bytes) -> Bytes {
        let payload = Payload {
            header: Some(self.header()),
            data,
        }
        .encode_to_vec();
        Envelope {
            signature: self.creator.sign(&payload).into(),
            payload: payload.into(),
        }
        .encode_to_vec()
        .into()
    }
}

/// The id that belongs to a nonce and a creator.
pub fn tx_id(signer: &SignatureHeader) -> String {
    hex::encode(sha256_parts([&signer.nonce[..], &signer.creator]))
}

/// Results that write these keys of one namespace.
pub fn writes(namespace: &str, pairs: &[(&str, &str)]) -> TxReadWriteSet {
    let writes = pairs.iter().map(|(key, value)| write(key, value)).collect();
    results(&[(
        namespace,
        KvrwSet {
            writes,
            ..Default::default()
        },
    )])
}

/// One write.
pub fn write(key: &str, value: &str) -> KvWrite {
    KvWrite {
        key: key.to_owned(),
        is_delete: false,
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

/// A write of a key's validation parameter.
pub fn parameter(key: &str, policy: &[u8]) -> KvMetadataWrite {
    KvMetadataWrite {
        key: key.to_owned(),
        entries: vec![KvMetadataEntry {
            name: "VALIDATION_PARAMETER".to_owned(),
            value: Bytes::copy_from_slice(policy),
        }],
    }
}

/// Results in several namespaces.
pub fn results(namespaces: &[(&str, KvrwSet)]) -> TxReadWriteSet {
    let ns_rwset = namespaces
        .iter()
        .map(|(namespace, set)| NsReadWriteSet {
            namespace: (*namespace).to_owned(),
            rwset: set.encode_to_vec().into(),
            ..Default::default()
        })
        .collect();
    TxReadWriteSet {
        data_model: 0,
        ns_rwset,
    }
}

/// A transaction that commits the first definition of a chaincode.
pub fn define(network: &Network, name: &str, rule: &str) -> Tx {
    use selvage_peer::lifecycle::{
        DEFINITION_FIELDS, DEFINITION_TYPE, NAMESPACES, encode_bytes, encode_int64, field_key,
        metadata_key,
    };
    use selvage_proto::lifecycle::{
        ChaincodeEndorsementInfo, ChaincodeValidationInfo, StateMetadata,
    };
    use selvage_proto::peer::ApplicationPolicy;
    use selvage_proto::peer::application_policy::Type;

    let policy = selvage_identity::policy::dsl::parse(rule).expect("policy");
    let policy = ApplicationPolicy {
        r#type: Some(Type::SignaturePolicy(policy)),
    };
    let endorsement = ChaincodeEndorsementInfo {
        version: "1.0".to_owned(),
        init_required: false,
        endorsement_plugin: "escc".to_owned(),
    };
    let validation = ChaincodeValidationInfo {
        validation_plugin: "vscc".to_owned(),
        validation_parameter: policy.encode_to_vec().into(),
    };
    let metadata = StateMetadata {
        datatype: DEFINITION_TYPE.to_owned(),
        fields: DEFINITION_FIELDS.iter().map(|f| (*f).to_owned()).collect(),
    };
    let field = |field: &str, value: Vec<u8>| KvWrite {
        key: field_key(NAMESPACES, name, field),
        is_delete: false,
        value: value.into(),
    };
    let writes = vec![
        field("Collections", encode_bytes(Bytes::new())),
        field("EndorsementInfo", encode_bytes(endorsement.encode_to_vec())),
        field("Sequence", encode_int64(1)),
        field("ValidationInfo", encode_bytes(validation.encode_to_vec())),
        KvWrite {
            key: metadata_key(NAMESPACES, name),
            is_delete: false,
            value: metadata.encode_to_vec().into(),
        },
    ];
    let set = results(&[(
        "_lifecycle",
        KvrwSet {
            writes,
            ..Default::default()
        },
    )]);
    Tx::new(
        &network.one.client,
        &[&network.one.peer, &network.two.peer],
        "_lifecycle",
        &set,
    )
}

/// A signed proposal to a chaincode; an empty channel means the peer itself.
pub fn proposal(
    signer: &SigningIdentity,
    channel: &str,
    chaincode: &str,
    args: &[&[u8]],
) -> selvage_proto::peer::SignedProposal {
    use selvage_proto::Timestamp;
    use selvage_proto::peer::{ChaincodeInput, ChaincodeInvocationSpec, ChaincodeSpec, Proposal};

    static NONCE: AtomicU64 = AtomicU64::new(1 << 32);
    let nonce = NONCE.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec();
    let header = SignatureHeader {
        creator: signer.serialized(),
        nonce: nonce.into(),
    };
    let id = ChaincodeId {
        name: chaincode.to_owned(),
        ..Default::default()
    };
    let extension = ChaincodeHeaderExtension {
        chaincode_id: Some(id.clone()),
    };
    let channel = ChannelHeader {
        r#type: HeaderType::EndorserTransaction as i32,
        channel_id: channel.to_owned(),
        tx_id: tx_id(&header),
        timestamp: Some(Timestamp {
            seconds: now(),
            nanos: 0,
        }),
        extension: extension.encode_to_vec().into(),
        ..Default::default()
    };
    let spec = ChaincodeInvocationSpec {
        chaincode_spec: Some(ChaincodeSpec {
            chaincode_id: Some(id),
            input: Some(ChaincodeInput {
                args: args.iter().map(|a| Bytes::copy_from_slice(a)).collect(),
                ..Default::default()
            }),
            ..Default::default()
        }),
    };
    let payload = ChaincodeProposalPayload {
        input: spec.encode_to_vec().into(),
        ..Default::default()
    };
    let header = Header {
        channel_header: channel.encode_to_vec().into(),
        signature_header: header.encode_to_vec().into(),
    };
    let proposal = Proposal {
        header: header.encode_to_vec().into(),
        payload: payload.encode_to_vec().into(),
        ..Default::default()
    };
    let bytes = proposal.encode_to_vec();
    selvage_proto::peer::SignedProposal {
        signature: signer.sign(&bytes).into(),
        proposal_bytes: bytes.into(),
    }
}

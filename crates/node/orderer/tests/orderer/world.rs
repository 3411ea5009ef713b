//! Organisations with certificates, an orderer on ports of the system's choice, and a client.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use selvage_channel::genesis::{ConfigTx, MemoryMaterial, genesis_block};
use selvage_crypto::PrivateKey;
use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Subject, Validity};
use selvage_env::{Clock, Env, System, random_array};
use selvage_identity::SigningIdentity;
use selvage_net::deliver::{Signer, open_request, seek_envelope};
use selvage_net::logging::Levels;
use selvage_net::services::atomic_broadcast_client::AtomicBroadcastClient;
use selvage_net::tls::{ClientTls, TlsIdentity};
use selvage_net::tonic::transport::Channel;
use selvage_net::{Endpoint, MAX_MESSAGE_BYTES, connect};
use selvage_orderer::config::{Settings, Tls};
use selvage_orderer::node::Orderer;
use selvage_proto::Timestamp;
use selvage_proto::common::{
    Block, ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader, Status,
};
use selvage_proto::orderer::deliver_response::Type as Delivered;
use selvage_proto::orderer::{BroadcastResponse, SeekInfo};
use tempfile::TempDir;

pub(crate) const CHANNEL: &str = "trade";

pub(crate) fn now() -> i64 {
    System.unix_seconds()
}

/// An organisation: its two authorities.
pub(crate) struct Org {
    pub(crate) msp_id: &'static str,
    pub(crate) ca: Authority,
    pub(crate) tls: Authority,
}

impl Org {
    pub(crate) fn new(msp_id: &'static str) -> Self {
        let validity = Validity::ten_years(now());
        let root =
            |name: String| Authority::new_root(&Subject::in_san_francisco(name), validity).unwrap();
        Self {
            msp_id,
            ca: root(format!("ca.{msp_id}")),
            tls: root(format!("tlsca.{msp_id}")),
        }
    }

    /// The MSP folder, without an identity.
    pub(crate) fn msp(&self) -> BTreeMap<String, Bytes> {
        let unit = |role: &str| {
            format!(
                "  {role}OUIdentifier:\n    OrganizationalUnitIdentifier: {}\n",
                role.to_lowercase()
            )
        };
        let units: String = ["Client", "Peer", "Admin", "Orderer"].map(unit).concat();
        let config = format!("NodeOUs:\n  Enable: true\n{units}");
        BTreeMap::from([
            (
                "cacerts/ca.pem".to_owned(),
                self.ca.certificate().to_pem().into(),
            ),
            (
                "tlscacerts/tlsca.pem".to_owned(),
                self.tls.certificate().to_pem().into(),
            ),
            ("config.yaml".to_owned(), config.into()),
        ])
    }

    pub(crate) fn issue(&self, role: NodeRole, validity: Validity) -> (String, PrivateKey) {
        let profile = LeafProfile::identity(&format!("x.{}", self.msp_id), role, validity);
        let (certificate, key) = self.ca.issue_new(&profile).unwrap();
        (certificate.to_pem(), key)
    }

    pub(crate) fn identity(&self, role: NodeRole) -> SigningIdentity {
        self.identity_valid(role, Validity::ten_years(now()))
    }

    pub(crate) fn identity_valid(&self, role: NodeRole, validity: Validity) -> SigningIdentity {
        let (pem, key) = self.issue(role, validity);
        SigningIdentity::new(self.msp_id, pem.as_bytes(), key).unwrap()
    }

    /// Certificate and key of a TLS node on this machine.
    pub(crate) fn tls_pem(&self) -> (String, String) {
        self.tls_pem_at("127.0.0.1")
    }

    /// Certificate and key of a TLS node at an address.
    pub(crate) fn tls_pem_at(&self, host: &str) -> (String, String) {
        let validity = Validity::ten_years(now());
        let profile = LeafProfile::tls("localhost", &["localhost", host], validity);
        let (certificate, key) = self.tls.issue_new(&profile).unwrap();
        (
            certificate.to_pem(),
            key.to_pkcs8_pem().unwrap().to_string(),
        )
    }

    pub(crate) fn tls_identity(&self) -> TlsIdentity {
        let (certificate, key) = self.tls_pem();
        TlsIdentity::from_pem("test", certificate.as_bytes(), key.as_bytes()).unwrap()
    }
}

/// Everything one test needs, below one folder.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) orderer_org: Org,
    pub(crate) org1: Org,
}

const PROFILE: &str = r#"
Profiles:
  Test:
    Capabilities: {V2_0: true}
    Policies: &rules
      Readers: {Type: ImplicitMeta, Rule: "ANY Readers"}
      Writers: {Type: ImplicitMeta, Rule: "ANY Writers"}
      Admins: {Type: ImplicitMeta, Rule: "ANY Admins"}
    Orderer:
      OrdererType: CONSENSUS
      BatchTimeout: TIMEOUT
      BatchSize: {MaxMessageCount: 10, AbsoluteMaxBytes: 1 MB, PreferredMaxBytes: 512 KB}
      Capabilities: {V2_0: true}
      Policies:
        <<: *rules
        BlockValidation: {Type: ImplicitMeta, Rule: "ANY Writers"}
      Organizations:
        - Name: OrdererOrg
          ID: OrdererMSP
          MSPDir: OrdererMSP
          OrdererEndpoints: ["127.0.0.1:7050"]
          Policies:
            Readers: {Type: Signature, Rule: "OR('OrdererMSP.member')"}
            Writers: {Type: Signature, Rule: "OR('OrdererMSP.member')"}
            Admins: {Type: Signature, Rule: "OR('OrdererMSP.admin')"}
    Application:
      Capabilities: {V2_5: true}
      Policies:
        <<: *rules
        Endorsement: {Type: ImplicitMeta, Rule: "ANY Endorsement"}
        LifecycleEndorsement: {Type: ImplicitMeta, Rule: "ANY Endorsement"}
      Organizations:
        - Name: Org1
          ID: Org1MSP
          MSPDir: Org1MSP
          Policies:
            Readers: {Type: Signature, Rule: "OR('Org1MSP.member')"}
            Writers: {Type: Signature, Rule: "OR('Org1MSP.client', 'Org1MSP.admin')"}
            Admins: {Type: Signature, Rule: "OR('Org1MSP.admin')"}
            Endorsement: {Type: Signature, Rule: "OR('Org1MSP.peer')"}
"#;

impl World {
    pub(crate) fn new() -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
            orderer_org: Org::new("OrdererMSP"),
            org1: Org::new("Org1MSP"),
        };
        world.write_msp("msp", &world.orderer_org, NodeRole::Orderer);
        let (certificate, key) = world.orderer_org.tls_pem();
        let tls_ca = world.orderer_org.tls.certificate().to_pem();
        let org1_tls_ca = world.org1.tls.certificate().to_pem();
        let files = [
            ("server.crt", certificate),
            ("server.key", key),
            ("ca.crt", tls_ca),
            ("org1-ca.crt", org1_tls_ca),
        ];
        let files = files.map(|(name, text)| (name.to_owned(), text.into()));
        world.write("tls", &files.into());
        world
    }

    /// Writes the MSP folder of a node or person with an identity of its own, and returns its
    /// certificate.
    pub(crate) fn write_msp(&self, below: &str, org: &Org, role: NodeRole) -> String {
        let (pem, key) = org.issue(role, Validity::ten_years(now()));
        let mut msp = org.msp();
        msp.insert("signcerts/cert.pem".to_owned(), pem.clone().into());
        let key = key.to_pkcs8_pem().unwrap().to_string();
        msp.insert("keystore/priv_sk".to_owned(), key.into());
        self.write(below, &msp);
        pem
    }

    pub(crate) fn write(&self, below: &str, files: &BTreeMap<String, Bytes>) {
        for (name, content) in files {
            let path = self.folder.path().join(below).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A genesis block; `change` edits the profile's text.
    pub(crate) fn genesis_of(&self, channel: &str, change: impl FnOnce(String) -> String) -> Block {
        self.genesis_with(channel, [], change)
    }

    /// The same with more files that the profile names.
    pub(crate) fn genesis_with(
        &self,
        channel: &str,
        files: impl IntoIterator<Item = (String, Bytes)>,
        change: impl FnOnce(String) -> String,
    ) -> Block {
        let mut material: BTreeMap<_, _> = files.into_iter().collect();
        for org in [&self.orderer_org, &self.org1] {
            for (name, content) in org.msp() {
                material.insert(format!("{}/{name}", org.msp_id), content);
            }
        }
        let text = change(PROFILE.to_owned())
            .replace("CONSENSUS", "solo")
            .replace("TIMEOUT", "200ms");
        let configtx = ConfigTx::from_yaml(&text).unwrap();
        let profile = configtx.profile("Test").unwrap();
        let nonce = random_array(&System);
        genesis_block(profile, channel, &MemoryMaterial(material), now(), nonce).unwrap()
    }

    pub(crate) fn genesis(&self, channel: &str) -> Block {
        self.genesis_of(channel, |text| text)
    }

    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        settings.general.listen_port = 0;
        settings.general.local_msp_dir = self.path("msp");
        settings.general.local_msp_id = "OrdererMSP".to_owned();
        settings.general.tls = self.tls();
        settings.file_ledger.location = self.path("ledger");
        settings
    }

    pub(crate) fn tls(&self) -> Tls {
        Tls {
            enabled: true,
            private_key: self.path("tls/server.key"),
            certificate: self.path("tls/server.crt"),
            client_root_cas: vec![self.path("tls/ca.crt")],
            ..Tls::default()
        }
    }

    pub(crate) async fn start(&self, settings: &Settings) -> Orderer {
        let levels = Levels::new("info").unwrap();
        Orderer::start(settings, Env::real(), levels).await.unwrap()
    }

    /// An orderer in TLS that serves `CHANNEL`.
    pub(crate) async fn serving(&self) -> Orderer {
        let orderer = self.start(&self.settings()).await;
        let joined = join(&orderer, &self.genesis(CHANNEL)).await;
        assert_eq!(joined.0, 201, "{}", joined.1);
        orderer
    }

    pub(crate) fn client(&self, orderer: &Orderer) -> Client {
        self.client_at(orderer.address.port())
    }

    fn client_at(&self, port: u16) -> Client {
        self.client_to(("127.0.0.1", port))
    }

    pub(crate) fn client_to(&self, at: At<'_>) -> Client {
        let roots = self.orderer_org.tls.certificate().to_pem();
        let tls = ClientTls::from_pem("test", roots.as_bytes(), None).unwrap();
        Client::to(at, Some(tls), self.org1.identity(NodeRole::Client))
    }
}

/// What an application or peer does.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) channel: Channel,
    pub(crate) identity: SigningIdentity,
    pub(crate) tls_hash: Option<[u8; 32]>,
}

/// A signer of its own for followers.
pub(crate) struct Owned(pub(crate) SigningIdentity);

impl Signer for Owned {
    fn creator(&self) -> Bytes {
        self.0.serialized()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message)
    }
}

impl Client {
    pub(crate) fn new(port: u16, tls: Option<ClientTls>, identity: SigningIdentity) -> Self {
        Self::to(("127.0.0.1", port), tls, identity)
    }

    fn to((host, port): At<'_>, tls: Option<ClientTls>, identity: SigningIdentity) -> Self {
        let tls_hash = tls.as_ref().and_then(ClientTls::identity_hash);
        let channel = connect(&Endpoint::new(format!("{host}:{port}"), tls)).unwrap();
        Self {
            channel,
            identity,
            tls_hash,
        }
    }

    pub(crate) fn stub(&self) -> AtomicBroadcastClient<Channel> {
        AtomicBroadcastClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// A signed transaction. Its content means nothing to an orderer.
    pub(crate) fn transaction(&self, channel: &str, data: &[u8]) -> Envelope {
        self.envelope(HeaderType::EndorserTransaction, channel, data)
    }

    pub(crate) fn envelope(&self, kind: HeaderType, channel: &str, data: &[u8]) -> Envelope {
        let channel_header = ChannelHeader {
            r#type: kind as i32,
            channel_id: channel.to_owned(),
            timestamp: Some(Timestamp {
                seconds: now(),
                nanos: 0,
            }),
            ..Default::default()
        };
        let signature_header = SignatureHeader {
            creator: self.identity.serialized(),
            nonce: random_array::<24>(&System).to_vec().into(),
        };
        let payload = Payload {
            header: Some(Header {
                channel_header: channel_header.encode_to_vec().into(),
                signature_header: signature_header.encode_to_vec().into(),
            }),
            data: Bytes::copy_from_slice(data),
        }
        .encode_to_vec();
        Envelope {
            signature: self.identity.sign(&payload).into(),
            payload: payload.into(),
        }
    }

    /// Sends envelopes down one stream and returns the answers.
    pub(crate) async fn broadcast(&self, envelopes: Vec<Envelope>) -> Vec<BroadcastResponse> {
        let answers = self
            .stub()
            .broadcast(futures::stream::iter(envelopes))
            .await
            .unwrap();
        let answers = answers.into_inner();
        answers.map(|answer| answer.unwrap()).collect().await
    }

    pub(crate) async fn broadcast_one(&self, envelope: Envelope) -> (Status, String) {
        let mut answers = self.broadcast(vec![envelope]).await;
        assert_eq!(answers.len(), 1);
        let answer = answers.remove(0);
        (answer.status(), answer.info)
    }

    pub(crate) fn seek(&self, channel: &str, seek: &SeekInfo) -> Envelope {
        // The signer borrows for the length of the call only.
        let signer = Owned(self.identity.clone());
        seek_envelope(channel, seek, &signer, self.tls_hash, &System, &System)
    }

    /// The blocks an envelope gets, and the closing status.
    pub(crate) async fn deliver(&self, envelope: Envelope) -> (Vec<Block>, Status) {
        let (request, _open) = open_request(envelope);
        let mut answers = self.stub().deliver(request).await.unwrap().into_inner();
        let mut blocks = Vec::new();
        loop {
            let next = tokio::time::timeout(Duration::from_secs(20), answers.message());
            match next.await.unwrap().unwrap().unwrap().r#type.unwrap() {
                Delivered::Block(block) => blocks.push(block),
                Delivered::Status(status) => {
                    return (blocks, Status::try_from(status).unwrap());
                }
            }
        }
    }

    pub(crate) async fn blocks(&self, seek: &SeekInfo) -> (Vec<u64>, Status) {
        let (blocks, status) = self.deliver(self.seek(CHANNEL, seek)).await;
        (blocks.iter().map(Block::number).collect(), status)
    }
}

/// An answer: code, body, and the header lines.
pub(crate) type HttpAnswer = (u16, String, String);

/// Host and port.
pub(crate) type At<'a> = (&'a str, u16);

/// One HTTP request to this machine over a socket of its own.
pub(crate) async fn http(port: u16, head: &str, body: &[u8]) -> HttpAnswer {
    http_to(("127.0.0.1", port), head, body).await
}

pub(crate) async fn http_to(at: At<'_>, head: &str, body: &[u8]) -> HttpAnswer {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(at).await.unwrap();
    let request = format!(
        "{head}Host: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let split = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..split].to_vec()).unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = String::from_utf8_lossy(&answer[split + 4..]).into_owned();
    (code, body, head)
}

/// A form with one file.
pub(crate) fn form(part: &str, content: &[u8]) -> Vec<u8> {
    let mut body = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"{part}\"; filename=\"f\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--XX--\r\n");
    body
}

pub(crate) const POST_FORM: &str = "POST /participation/v1/channels HTTP/1.1\r\n\
                             Content-Type: multipart/form-data; boundary=XX\r\n";

pub(crate) async fn join(orderer: &Orderer, genesis: &Block) -> HttpAnswer {
    join_at(("127.0.0.1", orderer.admin.port()), genesis).await
}

pub(crate) async fn join_at(at: At<'_>, genesis: &Block) -> HttpAnswer {
    http_to(
        at,
        POST_FORM,
        &form("config-block", &genesis.encode_to_vec()),
    )
    .await
}

/// Checks that every file below a folder exists; for tests that look at the disk.
pub(crate) fn exists(path: &str) -> bool {
    Path::new(path).exists()
}

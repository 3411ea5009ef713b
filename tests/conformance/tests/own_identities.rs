//! Identities made with nothing but openssl from an authority that was downloaded, as BCS's FAQ
//! tells its users (1.2.2.8), on an instance that Huawei's SDK created.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use bytes::Bytes;
use selvage_client::{
    Invocation, Network, Orderer, Peer, PeerAdmin, Pem, Profile, ProfileNode, Proposal, User,
};
use selvage_conformance::{python, root};
use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Subject, Validity};
use selvage_crypto::{Certificate, PrivateKey};
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use selvage_net::Endpoint;
use selvage_net::deliver::Signer as _;
use selvage_net::tls::ClientTls;
use selvage_network_tests::{Service, binary, now, says};
use selvage_proto::peer::{Endorsement, TxValidationCode};

/// Rounds of openssl until its certificates had signatures with high and with low S. Each is as
/// likely, so that this many of one kind do not happen.
const ROUNDS: u32 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn identities_made_by_openssl_work_on_an_instance_of_the_api() {
    let Some(python) = python("identities_made_by_openssl_work_on_an_instance_of_the_api") else {
        return;
    };
    let service = Service::up(&[]);
    let folder = tempfile::tempdir().unwrap();
    let instance = Instance::create(&python, &service, folder.path());
    instance.takes_what_openssl_makes();
    instance.takes_no_endorsement_of_users().await;
    instance.refuses_others().await;
    where_units_give_roles_a_unit_is_needed(&service, folder.path());
}

/// An instance, seen from a user's desk: files that were downloaded.
struct Instance {
    folder: PathBuf,
    path: PathBuf,
    profile: Profile,
    channel: String,
    other_msp_id: String,
}

impl Instance {
    fn create(python: &Path, service: &Service, folder: &Path) -> Self {
        let output = Command::new(python)
            .arg(root().join("tests/conformance/bcs-sdk/instance.py"))
            .arg(service.file())
            .arg(folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        let path = PathBuf::from(text("profile"));
        Self {
            folder: folder.to_owned(),
            profile: Profile::parse(&std::fs::read(&path).unwrap()).unwrap(),
            path,
            channel: text("channel"),
            other_msp_id: text("other_msp_id"),
        }
    }

    /// The folder with `ca.organization-cert.pem` and `organization_sk`.
    fn ca(&self) -> PathBuf {
        self.folder.join("ca")
    }

    fn authority(&self) -> Authority {
        let read = |name: &str| std::fs::read(self.ca().join(name)).unwrap();
        let certificate = Certificate::from_pem(&read("ca.organization-cert.pem")).unwrap();
        let key = PrivateKey::from_pem(&read("organization_sk")).unwrap();
        Authority::from_parts(certificate, key).unwrap()
    }

    /// `selvage invoke` or `query` as a user, with the SDK configuration as it was downloaded.
    fn selvage(&self, command: &str, cert: &Path, key: &Path, call: &[&str]) -> Output {
        Command::new(binary("selvage"))
            .arg(command)
            .arg("--profile")
            .arg(&self.path)
            .arg("--user-cert")
            .arg(cert)
            .arg("--user-key")
            .arg(key)
            .args(call)
            .output()
            .unwrap()
    }

    fn user(&self, cert: &Path, key: &Path) -> User {
        let key = PrivateKey::from_pem(&std::fs::read(key).unwrap()).unwrap();
        let cert = std::fs::read(cert).unwrap();
        let identity = SigningIdentity::new(&self.profile.msp_id, &cert, key).unwrap();
        User::new(Arc::new(identity), &Env::real())
    }

    fn takes_what_openssl_makes(&self) {
        let ca = self.ca();
        let (cert, key) = (ca.join("user-cert.pem"), ca.join("user-key"));
        let (mut high, mut low) = (0, 0);
        for round in 0..ROUNDS {
            make_user(&ca, "organization", "/CN=user");
            let made = Certificate::from_pem(&std::fs::read(&cert).unwrap()).unwrap();
            assert!(made.organizational_units().is_empty());
            assert_eq!(made.not_after() - made.not_before(), 3650 * 86_400);
            let clean = made.sanitized(self.authority().certificate().public_key());
            let seen = if clean.unwrap() == made {
                &mut low
            } else {
                &mut high
            };
            *seen += 1;
            if *seen == 1 {
                let id = format!("asset-{round}");
                let create = ["CreateAsset", &id, "blue", "5", "Tom", "100"];
                let output = self.selvage("invoke", &cert, &key, &create);
                assert!(output.status.success(), "{}", said(&output));
                says(&said(&output), &["committed in block"]);
                let output = self.selvage("query", &cert, &key, &["ReadAsset", &id]);
                assert!(output.status.success(), "{}", said(&output));
                says(&said(&output), &[&id, "Tom"]);
            }
            if high > 0 && low > 0 {
                // As the user that the SDK configuration names it works too.
                let output = Command::new(binary("selvage"))
                    .args(["query", "--profile"])
                    .arg(&self.path)
                    .args(["AssetExists", "asset-0"])
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{}", said(&output));
                return;
            }
        }
        panic!("{ROUNDS} certificates all had the same kind of signature");
    }

    /// A member without a role is a reader and a writer, not an endorser: what peers would have
    /// endorsed does not count when users sign it, of one organisation or of both.
    async fn takes_no_endorsement_of_users(&self) {
        let ca = self.ca();
        let user = self.user(&ca.join("user-cert.pem"), &ca.join("user-key"));
        let other = self.others_user();
        let peer = self.peer();
        let network = Network {
            channel_id: self.channel.clone(),
            endorsers: vec![peer.clone()],
            orderers: vec![Orderer::new(&endpoint(&self.profile.orderers[0])).unwrap()],
        };
        for (what, peers_too, users) in [
            ("by users alone", false, vec![&user, &other]),
            (
                "by a peer and its own organisation's user",
                true,
                vec![&user],
            ),
            (
                "by a peer and the other organisation's user",
                true,
                vec![&other],
            ),
        ] {
            let call = Invocation::new("assets", "Put").args(["k", "v"]);
            let proposal = Proposal::new(&user, &self.channel, call);
            let answer = peer.process(proposal.signed.clone()).await.unwrap();
            let mut answers = Vec::new();
            if peers_too {
                answers.push(("peer".to_owned(), answer.clone()));
            }
            for user in users {
                let endorser = user.creator();
                let message = [&answer.payload[..], &endorser[..]].concat();
                let mut forged = answer.clone();
                forged.endorsement = Some(Endorsement {
                    endorser,
                    signature: Bytes::from(user.sign(&message)),
                });
                answers.push((format!("{user:?}"), forged));
            }
            let envelope = proposal.assemble(&user, &answers).unwrap();
            let mut watch = peer.watch_commits(&user, &self.channel).await.unwrap();
            network.order(envelope).await.unwrap();
            let status = watch.commit(&proposal.tx_id).await.unwrap();
            assert_eq!(
                status.code,
                TxValidationCode::EndorsementPolicyFailure,
                "endorsed {what}"
            );
        }
    }

    fn others_user(&self) -> User {
        let hash = self.other_msp_id.trim_end_matches("MSP");
        let msp = self.folder.join(format!("sdk/{hash}.peer/msp"));
        let read = |folder: &str| {
            let mut files = std::fs::read_dir(msp.join(folder)).unwrap();
            std::fs::read(files.next().unwrap().unwrap().path()).unwrap()
        };
        let key = PrivateKey::from_pem(&read("keystore")).unwrap();
        let identity = SigningIdentity::new(&self.other_msp_id, &read("signcerts"), key).unwrap();
        User::new(Arc::new(identity), &Env::real())
    }

    fn peer(&self) -> Peer {
        Peer::new(&endpoint(&self.profile.peers[0])).unwrap()
    }

    async fn refuses_others(&self) {
        let ca = self.ca();
        let made = |name: &str| ca.join(name);
        let own = (made("user-cert.pem"), made("user-key"));
        let validity = Validity::ten_years(now());
        let name = self.authority().certificate().common_name().to_owned();
        let namesake = Authority::new_root(&Subject::named(name), validity).unwrap();
        let past = Validity {
            not_before: now() - 7200,
            not_after: now() - 60,
        };
        let other_key = PrivateKey::generate(selvage_crypto::KeyKind::P256).unwrap();
        let pem = other_key.to_pkcs8_pem().unwrap();
        std::fs::write(made("other-key"), pem.as_bytes()).unwrap();
        let others = self.folder.join("ca-of-up");
        make_user(&others, "org1", "/CN=user");
        let denied = ["access denied", self.profile.msp_id.as_str()];
        let rows: [(&str, (PathBuf, PathBuf), &[&str]); 6] = [
            (
                "an authority of the same name",
                self.issue("namesake", &namesake, validity),
                &["access denied"],
            ),
            (
                "the authority of another instance",
                (others.join("user-cert.pem"), others.join("user-key")),
                &["access denied"],
            ),
            (
                "a certificate that has expired",
                self.issue("expired", &self.authority(), past),
                &["proposal client identity expired"],
            ),
            (
                "the authority itself",
                (made("ca.organization-cert.pem"), made("organization_sk")),
                &denied,
            ),
            (
                "another key",
                (own.0.clone(), made("other-key")),
                &["user-cert.pem", "does not belong to the certificate"],
            ),
            (
                "a request instead of a certificate",
                (made("user-csr.pem"), own.1.clone()),
                &["user-csr.pem"],
            ),
        ];
        for (what, (cert, key), words) in &rows {
            for command in ["invoke", "query"] {
                let output = self.selvage(command, cert, key, &["Put", "k", "v"]);
                assert!(!output.status.success(), "{what}: accepted");
                println!("{what}:");
                says(&said(&output), words);
            }
        }
        // What the MSP lets in is a member and no more.
        let admin = PeerAdmin::new(self.peer(), self.user(&own.0, &own.1));
        let refused = admin.install(Bytes::from_static(b"x")).await.unwrap_err();
        says(&refused.text(), &["This identity is not an admin"]);
    }

    /// A user of an authority that openssl would not make so easily.
    fn issue(&self, name: &str, by: &Authority, validity: Validity) -> (PathBuf, PathBuf) {
        let profile = LeafProfile::identity(name, NodeRole::Client, validity);
        let (certificate, key) = by.issue_new(&profile).unwrap();
        let path = |end: &str| self.folder.join(format!("{name}{end}"));
        std::fs::write(path("-cert.pem"), certificate.to_pem()).unwrap();
        std::fs::write(path("-key"), key.to_pkcs8_pem().unwrap().as_bytes()).unwrap();
        (path("-cert.pem"), path("-key"))
    }
}

/// On a network with NodeOUs the same commands give an identity without a role. It is refused with
/// Fabric's words and the remedy beside them, and the remedy works.
fn where_units_give_roles_a_unit_is_needed(service: &Service, folder: &Path) {
    let ca = folder.join("ca-of-up");
    let selvage = |command: &str, call: &[&str]| {
        Command::new(binary("selvage"))
            .arg(command)
            .arg("--data")
            .arg(service.folder().join("data"))
            .arg("--user-cert")
            .arg(ca.join("user-cert.pem"))
            .arg("--user-key")
            .arg(ca.join("user-key"))
            .args(call)
            .output()
            .unwrap()
    };
    let put = ["Put", "own", "identity"];
    make_user(&ca, "org1", "/CN=user");
    for command in ["invoke", "query"] {
        let output = selvage(command, &put);
        assert!(!output.status.success(), "accepted without a role");
        says(
            &said(&output),
            &[
                "access denied",
                &service.said().gateway.msp_id,
                "NodeOUs",
                "/OU=client/",
            ],
        );
    }
    says(
        &service.logs(),
        &["does not have an OU that resolves to", "/OU=client/"],
    );
    make_user(&ca, "org1", "/OU=client/CN=user");
    let output = selvage("invoke", &put);
    assert!(output.status.success(), "{}", said(&output));
    let output = selvage("query", &["Get", "own"]);
    assert!(output.status.success(), "{}", said(&output));
    says(&said(&output), &["identity"]);
}

/// The commands of BCS's FAQ, word for word; only the questions that openssl would ask are answered.
fn make_user(folder: &Path, org: &str, subject: &str) {
    let commands = [
        "openssl ecparam -name prime256v1 -genkey -out user-key_.pem".to_owned(),
        "openssl pkcs8 -topk8 -nocrypt -in user-key_.pem -out user-key".to_owned(),
        format!("openssl req -new -key user-key -out user-csr.pem -subj {subject}"),
        format!(
            "openssl x509 -req -in user-csr.pem -out user-cert.pem -CA ca.{org}-cert.pem \
             -CAkey {org}_sk -CAcreateserial -days 3650"
        ),
    ];
    for command in commands {
        let mut words = command.split(' ');
        let output = Command::new(words.next().unwrap())
            .args(words)
            .current_dir(folder)
            .output()
            .expect("openssl is needed for this test: apt-get install openssl");
        assert!(output.status.success(), "{command}: {}", said(&output));
    }
}

fn endpoint(node: &ProfileNode) -> Endpoint {
    let Some(Pem::File(roots)) = &node.tls_roots else {
        panic!("{node:?} names no file with TLS roots");
    };
    let tls = ClientTls::from_pem("profile", &std::fs::read(roots).unwrap(), None).unwrap();
    let tls = tls.with_server_name(node.server_name.as_deref().unwrap());
    Endpoint::new(&node.address, Some(tls))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

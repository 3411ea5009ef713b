//! Consenters whose certificates are renewed while the channel runs.

use selvage_channel::update;
use selvage_crypto::issue::NodeRole;
use selvage_proto::common::{ConfigGroup, Consenter, Orderers, Status};
use selvage_proto::etcdraft;

use crate::consortium::{CONSENTS, Cluster, Consensus, edit, raft_metadata};
use crate::world::CHANNEL;

const FOLLOWER: &str = "\"consensusRelation\":\"follower\"";

/// Puts a certificate with its key where a node reads them when it starts.
fn put_tls(cluster: &Cluster, node: usize, (certificate, key): &(String, String)) {
    let files = [("server.crt", certificate), ("server.key", key)];
    let files = files.map(|(name, text)| (name.to_owned(), text.clone().into()));
    cluster.world.write(&format!("tls{node}"), &files.into());
}

async fn restart(cluster: &mut Cluster, node: usize) {
    cluster.stop(node).await;
    cluster.start(node).await;
}

/// Tries a change by way of the first node, which has to refuse it.
async fn refused(cluster: &Cluster, change: impl FnOnce(&mut ConfigGroup), text: &str) {
    let (status, info) = cluster.try_reconfigure(0, change).await;
    assert_eq!(status, Status::BadRequest, "{info}");
    assert!(info.contains(text), "{info:?} lacks {text:?}");
}

fn raft(change: impl FnOnce(&mut [etcdraft::Consenter])) -> impl FnOnce(&mut ConfigGroup) {
    |orderer| raft_metadata(orderer, |metadata| change(&mut metadata.consenters))
}

/// What no Raft orderer of Fabric takes as a consenter's certificate, either.
async fn refuse_raft_certificates(cluster: &Cluster) {
    const INVALID: &str = "consensus metadata update for channel config update is invalid: invalid \
                           new config metadata: ";
    let port = cluster.nodes[2].consenter.port;
    let consenter = format!("{INVALID}consenter 127.0.0.1:{port} has invalid certificate: ");
    let garbage = raft(|all| all[2].client_tls_cert = "garbage".into());
    let text = format!("{consenter}parsing tls client cert: no PEM data found in cert");
    refused(cluster, garbage, &text).await;
    let no_certificate = raft(|all| {
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        all[2].server_tls_cert = pem.into();
    });
    let text = format!("{consenter}parsing tls server cert: ");
    refused(cluster, no_certificate, &text).await;
    let (foreign, _) = cluster.world.org1.tls_pem();
    let foreign = raft(|all| all[2].server_tls_cert = foreign.into());
    let text = format!(
        "{consenter}verifying tls server cert of localhost: x509: certificate signed \
                        by unknown authority"
    );
    refused(cluster, foreign, &text).await;
    let twice = raft(|all| all[2].server_tls_cert = all[1].client_tls_cert.clone());
    refused(cluster, twice, &format!("{INVALID}duplicate consenter")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raft_consenter_gets_a_new_certificate() {
    let mut cluster = Cluster::new(Consensus::Raft, 3, 3);
    cluster.founded(3).await;
    cluster.order(0, b"first").await;
    cluster.level(&[0, 1, 2]).await;
    refuse_raft_certificates(&cluster).await;

    let read = |name: &str| std::fs::read_to_string(cluster.world.path(name)).unwrap();
    let old = (read("tls2/server.crt"), read("tls2/server.key"));
    // It is away when its certificate changes, and comes back with the old one: it is none of the
    // consenters until it has the new one, and then the one it was, with the log it had.
    cluster.stop(2).await;
    let new = renew(&mut cluster, 2).await;
    cluster.start(2).await;
    cluster.becomes(2, FOLLOWER).await;
    let client = cluster.client(2);
    let refusal = client
        .broadcast_one(client.transaction(CHANNEL, b"no"))
        .await;
    let text = "orderer is a follower of channel trade";
    assert_eq!(refusal, (Status::ServiceUnavailable, text.to_owned()));
    cluster.order(0, b"without it").await;
    put_tls(&cluster, 2, &new);
    takes_part_again(&mut cluster).await;

    // The way it should be done: the file follows at once.
    let newer = renew(&mut cluster, 2).await;
    put_tls(&cluster, 2, &newer);
    takes_part_again(&mut cluster).await;

    // The first one is worth nothing any more.
    put_tls(&cluster, 2, &old);
    restart(&mut cluster, 2).await;
    cluster.becomes(2, FOLLOWER).await;
    cluster.order(1, b"the others go on").await;
    cluster.level(&[0, 1, 2]).await;
    cluster.stop_all().await;
}

/// Names a new certificate for a Raft consenter. The certificate and its key.
async fn renew(cluster: &mut Cluster, node: usize) -> (String, String) {
    let new = cluster.world.orderer_org.tls_pem();
    let certificate = new.0.clone();
    let change = |orderer: &mut ConfigGroup| {
        raft_metadata(orderer, |metadata| {
            let consenter = &mut metadata.consenters[node];
            consenter.client_tls_cert = certificate.clone().into();
            consenter.server_tls_cert = certificate.clone().into();
        });
    };
    cluster.reconfigure_with_quorum(0, change).await;
    new
}

/// The third of three orders again once it shows what the channel names.
async fn takes_part_again(cluster: &mut Cluster) {
    restart(cluster, 2).await;
    cluster.becomes(2, CONSENTS).await;
    cluster.order(2, b"by the new one").await;
    cluster.level(&[0, 1, 2]).await;
    // Without another, nothing is ordered but by its vote.
    cluster.stop(1).await;
    cluster.order(0, b"with its vote").await;
    cluster.order(2, b"and through it").await;
    cluster.start(1).await;
    cluster.level(&[0, 1, 2]).await;
}

/// Changes the BFT consenters, with the policy of their signatures or without.
fn bft(with_policy: bool, change: impl FnOnce(&mut [Consenter])) -> impl FnOnce(&mut ConfigGroup) {
    move |orderer| {
        edit(orderer, "Orderers", |orderers: &mut Orderers| {
            change(&mut orderers.consenter_mapping);
        });
        if with_policy {
            update::set_bft_block_validation(orderer).unwrap();
        }
    }
}

async fn refuse_bft_certificates(cluster: &Cluster, identity: &str) {
    const INVALID: &str = "consensus metadata update for channel config update is invalid: ";
    let garbage = bft(true, |all| all[3].identity = "garbage".into());
    let text = format!("{INVALID}the identity of consenter 4 cannot be used");
    refused(cluster, garbage, &text).await;
    let twice = bft(true, |all| all[3].identity = all[1].identity.clone());
    let text = format!("{INVALID}consenters 2 and 4 have the same identity");
    refused(cluster, twice, &text).await;
    let no_tls = bft(true, |all| all[3].server_tls_cert = "garbage".into());
    let port = cluster.nodes[3].consenter.port;
    let text = format!(
        "{INVALID}consenter 127.0.0.1:{port} has invalid certificate: parsing tls server cert"
    );
    refused(cluster, no_tls, &text).await;
    let stale = bft(false, |all| all[3].identity = identity.to_owned().into());
    let text = "policy /Channel/Orderer/BlockValidation does not fit the consenters: block \
                validation policy should be a signature policy: 3 of the 4 identities in Orderers";
    refused(cluster, stale, text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bft_consenter_gets_a_new_identity_and_a_new_certificate() {
    let mut cluster = Cluster::new(Consensus::Bft, 4, 4);
    cluster.founded(4).await;
    cluster.order(0, b"first").await;
    cluster.level(&[0, 1, 2, 3]).await;
    let world = &cluster.world;
    let identity = world.write_msp("renewed", &world.orderer_org, NodeRole::Orderer);
    refuse_bft_certificates(&cluster, &identity).await;

    let renewed = identity.clone();
    let change = bft(true, |all| all[3].identity = renewed.into());
    cluster.reconfigure(0, change).await;
    // It runs with the old one, with which it is none of the consenters.
    cluster.becomes(3, FOLLOWER).await;
    cluster.order(1, b"without it").await;
    let path = |name: &str| cluster.world.path(name);
    std::fs::remove_dir_all(path("msp3")).unwrap();
    std::fs::rename(path("renewed"), path("msp3")).unwrap();
    restart(&mut cluster, 3).await;
    cluster.becomes(3, CONSENTS).await;
    cluster.order(3, b"by the new one").await;
    cluster.level(&[0, 1, 2, 3]).await;

    let new = cluster.world.orderer_org.tls_pem();
    let renewed = new.0.clone();
    let change = bft(true, |all| {
        all[3].client_tls_cert = renewed.clone().into();
        all[3].server_tls_cert = renewed.into();
    });
    cluster.reconfigure(0, change).await;
    put_tls(&cluster, 3, &new);
    restart(&mut cluster, 3).await;
    cluster.order(3, b"over the new connection").await;
    cluster.level(&[0, 1, 2, 3]).await;
    // Without another, nothing is decided but with its signatures.
    cluster.stop(0).await;
    for n in 0..3u8 {
        cluster.order(3, &[b'v', n]).await;
    }
    cluster.start(0).await;
    cluster.level(&[0, 1, 2, 3]).await;
    cluster.stop_all().await;
}

//! Proposals that are turned away, each with the text that Fabric's clients know.

use std::path::Path;

use bytes::Bytes;
use prost::Message;
use selvage_proto::lifecycle::{
    ApproveChaincodeDefinitionForMyOrgArgs, GetInstalledChaincodePackageArgs,
    GetInstalledChaincodePackageResult, InstallChaincodeArgs, InstallChaincodeResult,
};
use selvage_proto::peer::{ChannelQueryResponse, ProposalResponse};

use super::client::{Ask, args, identity, propose};
use super::peer::{GoldenPeer, read};

/// 2026-11-22, when the recorded identities were new.
const NOW: i64 = 1_795_376_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

struct Client<'a> {
    peer: GoldenPeer,
    corpus: &'a Path,
}

impl<'a> Client<'a> {
    fn new(corpus: &'a Path) -> Self {
        let peer = GoldenPeer::new(corpus, "org1");
        peer.set_clock(NOW);
        Self { peer, corpus }
    }

    async fn call(&self, who: &str, ask: Ask<'_>) -> Result<ProposalResponse, String> {
        let (org, name) = who.split_once('/').unwrap();
        let signed = propose(&identity(self.corpus, org, "users", name), &ask);
        self.peer
            .endorser
            .process(signed)
            .await
            .map_err(|e| e.to_string())
    }

    /// The message of a call that fails inside.
    async fn message(&self, who: &str, channel: &str, chaincode: &str, list: Vec<Bytes>) -> String {
        let ask = Ask {
            channel,
            chaincode,
            args: list,
            time: NOW,
        };
        let response = self.call(who, ask).await.unwrap().response.unwrap();
        assert_ne!(response.status, 200, "{}", response.message);
        response.message
    }

    async fn payload(&self, who: &str, chaincode: &str, list: Vec<Bytes>) -> Bytes {
        let ask = Ask {
            channel: "",
            chaincode,
            args: list,
            time: NOW,
        };
        let response = self.call(who, ask).await.unwrap().response.unwrap();
        assert_eq!(response.status, 200, "{}", response.message);
        response.payload
    }
}

fn at(time: i64) -> Ask<'static> {
    Ask {
        channel: "goldchannel",
        chaincode: "gold",
        args: args(&["get", "a"]),
        time,
    }
}

#[tokio::test]
async fn clocks_and_certificates_are_checked_at_the_door() {
    let Some(corpus) = super::corpus("proposals turned away") else {
        return;
    };
    let client = Client::new(&corpus);
    for minutes in [16, -16] {
        let error = client
            .call("org1/User1", at(NOW + minutes * 60 * SECOND))
            .await
            .unwrap_err();
        let start = "request unauthorized due to incorrect timestamp 2026-11-2";
        assert!(error.starts_with(start), "{error}");
        assert!(
            error.ends_with("Z, peer.authentication.timewindow 15m0s"),
            "{error}"
        );
    }
    for minutes in [14, -14] {
        client
            .call("org1/User1", at(NOW + minutes * 60 * SECOND))
            .await
            .unwrap();
    }
    let late = NOW + 20 * 365 * 86_400 * SECOND;
    client.peer.set_clock(late);
    let error = client.call("org1/User1", at(late)).await.unwrap_err();
    assert_eq!(error, "proposal client identity expired");
}

#[tokio::test]
async fn system_chaincode_guards_what_belongs_to_the_peer() {
    let Some(corpus) = super::corpus("access to system chaincode") else {
        return;
    };
    let client = Client::new(&corpus);
    let list = client
        .payload("org1/User1", "cscc", args(&["GetChannels"]))
        .await;
    let list = ChannelQueryResponse::decode(list).unwrap();
    assert_eq!(list.channels[0].channel_id, "goldchannel");
    let check = |who: &'static str, chaincode: &'static str, list: &[&str], start: &'static str| {
        let list = args(list);
        let client = &client;
        async move {
            let message = client.message(who, "", chaincode, list).await;
            assert!(message.starts_with(start), "{message}");
        }
    };
    check("org1/User1", "_lifecycle", &["QueryInstalledChaincodes", ""], concat!(
        "Failed to authorize invocation due to failed ACL check: Failed verifying that proposal's ",
        "creator satisfies local MSP principal during channelless check policy with policy ",
        "[Admins]: [",
    )).await;
    let joining = "Failed to reconstruct the genesis block, error unmarshalling Block: proto: ";
    check("org1/Admin", "cscc", &["JoinChain", "x\u{ff}"], joining).await;
    let nothing = "Incorrect number of arguments, 1";
    check("org1/Admin", "cscc", &["JoinChain"], nothing).await;
    check(
        "org1/Admin",
        "qscc",
        &["GetChainInfo", "nowhere"],
        "Invalid chain ID, nowhere",
    )
    .await;
    check(
        "org1/Admin",
        "cscc",
        &["Nothing", "x"],
        "Requested function Nothing not found.",
    )
    .await;
    let denied = "access denied for [GetConfigBlock][nowhere]: Failed to get policy manager for \
                  channel [nowhere]";
    check("org1/User1", "cscc", &["GetConfigBlock", "nowhere"], denied).await;
    let genesis = read(corpus.join("network/genesis.block"));
    let again = client
        .message("org1/Admin", "", "cscc", vec!["JoinChain".into(), genesis])
        .await;
    let text = "cannot create ledger from genesis block: ledger [goldchannel] already exists with \
                state [ACTIVE]";
    assert_eq!(again, text);
    // A stranger is no identity of the peer's own organisation.
    let ask = Ask {
        channel: "",
        chaincode: "cscc",
        args: args(&["GetChannels"]),
        time: NOW,
    };
    let error = client.call("org2/User1", ask).await.unwrap_err();
    let text = "error validating proposal: access denied: channel [] creator org unknown, creator \
                is malformed";
    assert_eq!(error, text);
}

#[tokio::test]
async fn packages_are_installed_once_and_handed_out() {
    let Some(corpus) = super::corpus("installing packages") else {
        return;
    };
    let client = Client::new(&corpus);
    let install = |package: Bytes| {
        let input = InstallChaincodeArgs {
            chaincode_install_package: package,
        };
        vec![
            Bytes::from_static(b"InstallChaincode"),
            input.encode_to_vec().into(),
        ]
    };
    let failed = "failed to invoke backing implementation of 'InstallChaincode': ";
    let junk = client
        .message("org1/Admin", "", "_lifecycle", install("junk".into()))
        .await;
    let text = format!("{failed}could not parse as a chaincode install package: error reading as");
    assert!(junk.starts_with(&text), "{junk}");
    // The other organisation's package has another hash.
    let package = read(corpus.join("network/gold-org2.tgz"));
    let installed = client
        .payload("org1/Admin", "_lifecycle", install(package.clone()))
        .await;
    let installed = InstallChaincodeResult::decode(installed).unwrap();
    assert!(
        installed.package_id.starts_with("gold_1:"),
        "{}",
        installed.package_id
    );
    let id = &installed.package_id;
    let again = client
        .message("org1/Admin", "", "_lifecycle", install(package.clone()))
        .await;
    let text = format!("{failed}chaincode already successfully installed (package ID '{id}')");
    assert_eq!(again, text);
    let get = GetInstalledChaincodePackageArgs {
        package_id: id.clone(),
    };
    let list = vec![
        "GetInstalledChaincodePackage".into(),
        get.encode_to_vec().into(),
    ];
    let found = client.payload("org1/Admin", "_lifecycle", list).await;
    let found = GetInstalledChaincodePackageResult::decode(found).unwrap();
    assert_eq!(found.chaincode_install_package, package);
}

#[tokio::test]
async fn approvals_keep_their_private_half_for_the_commit() {
    let Some(corpus) = super::corpus("approving a definition") else {
        return;
    };
    let client = Client::new(&corpus);
    let approval = ApproveChaincodeDefinitionForMyOrgArgs {
        sequence: 1,
        name: "fresh".into(),
        version: "1".into(),
        ..Default::default()
    };
    let list = || {
        let name = Bytes::from_static(b"ApproveChaincodeDefinitionForMyOrg");
        vec![name, approval.encode_to_vec().into()]
    };
    let channel = "goldchannel";
    let ask = || Ask {
        channel,
        chaincode: "_lifecycle",
        args: list(),
        time: NOW,
    };
    let response = client.call("org1/Admin", ask()).await.unwrap();
    assert!(response.endorsement.is_some());
    let admin = identity(&corpus, "org1", "users", "Admin");
    let tx_id = super::client::tx_id(&admin, &ask());
    let kept = client.peer.channel().ledger().transient(&tx_id).unwrap();
    let collections = kept[0].collection_configs["_lifecycle"].config.len();
    assert_eq!((kept.len(), collections), (1, 1));
    let refused = client
        .message("org1/User1", channel, "_lifecycle", list())
        .await;
    let text = "Failed to authorize invocation due to failed ACL check: ";
    assert!(refused.starts_with(text), "{refused}");
}

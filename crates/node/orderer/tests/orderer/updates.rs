//! Every kind of configuration update on a channel that runs: what it changes there, and who or what
//! is refused.

use std::time::Duration;

use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_channel::genesis::{MemoryMaterial, Organization, Policy, application_org_group};
use selvage_crypto::issue::NodeRole;
use selvage_identity::SigningIdentity;
use selvage_net::deliver::{between, newest, oldest, only, specified};
use selvage_orderer::node::Orderer;
use selvage_proto::common::{Block, Capabilities, ConfigGroup, OrdererAddresses, Status};
use selvage_proto::msp::{FabricMspConfig, MspConfig};
use selvage_proto::orderer::{BatchSize, BatchTimeout};
use selvage_proto::peer::{AcLs, AnchorPeer, AnchorPeers, ApiResource};

use crate::consortium::{edit, newest_config};
use crate::reconfigure::{chain, update_root};
use crate::world::{CHANNEL, Client, Org, World, join};

/// Far beyond what anything here takes: whoever is told nothing by then hangs.
const HANGS: Duration = Duration::from_secs(120);

/// A channel with one orderer, and its configuration in force.
struct Live {
    world: World,
    orderer: Orderer,
    config: ChannelConfig,
    /// Administrators of the orderers and of Org1.
    orderers: SigningIdentity,
    org1: SigningIdentity,
}

/// A change, and how it is refused.
struct Row<'a> {
    /// May make it.
    by: &'a SigningIdentity,
    change: &'a dyn Fn(&mut ConfigGroup),
    /// May not, and whose signature the refusal says is missing.
    not_by: (&'a SigningIdentity, &'a str),
    /// The same with a content that makes no sense, and what the refusal says of it.
    nonsense: (&'a dyn Fn(&mut ConfigGroup), &'a str),
}

impl Live {
    async fn new() -> Self {
        Self::with(|text| text).await
    }

    /// `change` edits the profile. Only its limits cut batches.
    async fn with(change: impl FnOnce(String) -> String) -> Self {
        let world = World::new();
        let mut settings = world.settings();
        settings.selvage.eager_cutting = false;
        let orderer = world.start(&settings).await;
        let genesis = world.genesis_of(CHANNEL, change);
        assert_eq!(join(&orderer, &genesis).await.0, 201);
        Self {
            config: ChannelConfig::from_block(&genesis).unwrap(),
            orderers: world.orderer_org.identity(NodeRole::Admin),
            org1: world.org1.identity(NodeRole::Admin),
            world,
            orderer,
        }
    }

    fn as_client(&self, identity: &SigningIdentity) -> Client {
        Client {
            identity: identity.clone(),
            ..self.world.client(&self.orderer)
        }
    }

    async fn send(
        &self,
        by: &SigningIdentity,
        change: &dyn Fn(&mut ConfigGroup),
    ) -> (Status, String) {
        let client = self.as_client(by);
        let update = update_root(&self.config, &client, change);
        let answer = tokio::time::timeout(HANGS, client.broadcast_one(update)).await;
        answer.expect("an update is not answered")
    }

    async fn refused(&self, by: &SigningIdentity, change: &dyn Fn(&mut ConfigGroup), text: &str) {
        let (status, info) = self.send(by, change).await;
        assert_eq!(status, Status::BadRequest, "{text}: {info}");
        assert!(info.contains(text), "{info:?} lacks {text:?}");
        let fabrics = "error applying config update to existing channel 'trade': ";
        assert!(info.starts_with(fabrics), "{info}");
    }

    /// Refuses what the row says is refused, and makes the change.
    async fn change(&mut self, row: Row<'_>) {
        let (stranger, missing) = row.not_by;
        let missing = format!("; missing: {missing})");
        self.refused(stranger, row.change, &missing).await;
        let (change, text) = row.nonsense;
        self.refused(row.by, change, text).await;
        let (status, info) = self.send(row.by, row.change).await;
        assert_eq!(status, Status::Success, "{info}");
        let blocks = self.blocks().await;
        let config = ChannelConfig::from_block(newest_config(&blocks)).unwrap();
        assert_eq!(config.sequence(), self.config.sequence() + 1);
        self.config = config;
    }

    async fn blocks(&self) -> Vec<Block> {
        chain(&self.as_client(&self.orderers)).await
    }

    /// What happens to a transaction of somebody's, and to a request for blocks.
    async fn serves(&self, identity: &SigningIdentity) -> (Status, Status) {
        let client = self.as_client(identity);
        let transaction = client.transaction(CHANNEL, b"somebody's");
        let answer = tokio::time::timeout(HANGS, client.broadcast_one(transaction)).await;
        let (status, _) = answer.expect("a transaction is not answered");
        let (_, delivered) = client.blocks(&only(newest())).await;
        (status, delivered)
    }

    async fn is_served(&self, identity: &SigningIdentity) {
        let answers = self.serves(identity).await;
        assert_eq!(answers, (Status::Success, Status::Success));
    }

    async fn is_turned_away(&self, identity: &SigningIdentity) {
        let answers = self.serves(identity).await;
        assert_eq!(answers, (Status::Forbidden, Status::Forbidden));
    }
}

fn below<'a>(root: &'a mut ConfigGroup, path: &[&str]) -> &'a mut ConfigGroup {
    let step = |group: &'a mut ConfigGroup, name: &&str| group.groups.get_mut(*name).unwrap();
    path.iter().fold(root, step)
}

fn capability(root: &mut ConfigGroup, path: &[&str], name: &str) {
    edit(
        below(root, path),
        "Capabilities",
        |value: &mut Capabilities| {
            value
                .capabilities
                .insert(name.to_owned(), Default::default());
        },
    );
}

fn garbage(root: &mut ConfigGroup, path: &[&str], name: &str) {
    let group = below(root, path);
    let value = group.values.entry(name.to_owned()).or_default();
    value.value = b"\xff\xff".as_slice().into();
    value.mod_policy = "Admins".to_owned();
}

/// What the administrators of the orderers, and of Org1, are said to be missing as.
const ORDERERS: &str = "OrdererOrg (OrdererMSP.admin)";
const ORG1: &str = "Org1 (Org1MSP.admin)";

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_cut_by_the_limits_in_force() {
    let mut live = Live::with(|text| text.replace("TIMEOUT", "1h")).await;
    let (orderers, org1) = (live.orderers.clone(), live.org1.clone());
    let client = live.as_client(&live.world.org1.identity(NodeRole::Client));
    let size = |root: &mut ConfigGroup, count: u32| {
        edit(
            below(root, &["Orderer"]),
            "BatchSize",
            |size: &mut BatchSize| {
                size.max_message_count = count;
                size.absolute_max_bytes = 100 << 10;
                size.preferred_max_bytes = 50 << 10;
            },
        );
    };
    // Waits with the limits of the beginning: neither ten messages nor an hour.
    let lone = client.transaction(CHANNEL, b"lone");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.broadcast_one(lone).await.0 }
    });
    live.change(Row {
        by: &orderers,
        change: &|root| size(root, 2),
        not_by: (&org1, ORDERERS),
        nonsense: (
            &|root| size(root, 0),
            "/Channel/Orderer/BatchSize: Attempted to set the batch size max message count to an \
             invalid value: 0",
        ),
    })
    .await;
    // A configuration stands alone, behind what came before it.
    assert_eq!(waiting.await.unwrap(), Status::Success);
    let before = live.blocks().await.len();
    let six = (0..6u8).map(|n| client.transaction(CHANNEL, &[n]));
    let answers = tokio::time::timeout(HANGS, client.broadcast(six.collect())).await;
    assert_eq!(answers.expect("two do not make a block").len(), 6);
    let blocks = live.blocks().await;
    let counts: Vec<usize> = blocks[before..]
        .iter()
        .map(|b| b.envelopes().len())
        .collect();
    assert_eq!(counts, [2, 2, 2]);
    let large = client.transaction(CHANNEL, &vec![7; 200 << 10]);
    let (status, info) = client.broadcast_one(large).await;
    assert_eq!(status, Status::BadRequest);
    assert!(
        info.contains("exceeds maximum allowed 102400 bytes"),
        "{info}"
    );

    let timeout = |root: &mut ConfigGroup, text: &str| {
        let group = below(root, &["Orderer"]);
        edit(group, "BatchTimeout", |timeout: &mut BatchTimeout| {
            timeout.timeout = text.to_owned();
        });
    };
    live.change(Row {
        by: &orderers,
        change: &|root| timeout(root, "50ms"),
        not_by: (&org1, ORDERERS),
        nonsense: (
            &|root| timeout(root, "0s"),
            "Attempted to set the batch timeout to a non-positive value",
        ),
    })
    .await;
    let lone = client.broadcast_one(client.transaction(CHANNEL, b"lone"));
    let answer = tokio::time::timeout(HANGS, lone).await;
    assert_eq!(answer.expect("no timeout cuts").0, Status::Success);
    live.orderer.stop().await;
}

/// Another organisation as the group of an application.
fn group_of(org: &Org, name: &str) -> ConfigGroup {
    let id = org.msp_id;
    let policy = |rule: &str| Policy::signature(&format!("OR('{id}.{rule}')"));
    let policies = [
        ("Readers", policy("member")),
        ("Writers", policy("client")),
        ("Admins", policy("admin")),
        ("Endorsement", policy("peer")),
    ];
    let organization = Organization {
        name: name.to_owned(),
        id: id.to_owned(),
        msp_dir: id.to_owned(),
        policies: policies.map(|(name, p)| (name.to_owned(), p)).into(),
        ..Organization::default()
    };
    let files = org.msp().into_iter();
    let files = files.map(|(name, content)| (format!("{id}/{name}"), content));
    application_org_group(&organization, &MemoryMaterial(files.collect())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn organisations_come_and_go() {
    let mut live = Live::new().await;
    let (orderers, org1) = (live.orderers.clone(), live.org1.clone());
    let org2 = Org::new("Org2MSP");
    let client = org2.identity(NodeRole::Client);
    live.is_turned_away(&client).await;
    let group = group_of(&org2, "Org2");
    let add = |root: &mut ConfigGroup, group: ConfigGroup| {
        let application = below(root, &["Application"]);
        application.groups.insert("Org2".to_owned(), group);
    };
    live.change(Row {
        by: &org1,
        change: &|root| add(root, group.clone()),
        not_by: (&orderers, ORG1),
        nonsense: (
            &|root| {
                let mut nobody = group.clone();
                nobody.values.remove("MSP");
                add(root, nobody);
            },
            "/Channel/Application/Org2/MSP: MSP for org /Channel/Application/Org2 has empty MSP ID",
        ),
    })
    .await;
    live.is_served(&client).await;

    // It reads on until it is taken out; the one that stays does not notice.
    let reader = live.as_client(&client);
    let all = reader.seek(CHANNEL, &between(oldest(), specified(1_000)));
    let reading = tokio::spawn(async move { reader.deliver(all).await });
    let change = |root: &mut ConfigGroup| {
        below(root, &["Application"]).groups.remove("Org2");
    };
    live.change(Row {
        by: &org1,
        change: &change,
        not_by: (&orderers, "1 of Org1 (Org1MSP.admin), Org2 (Org2MSP.admin)"),
        nonsense: (
            &|root| {
                root.groups.remove("Application");
            },
            "current config has application section, but new config does not",
        ),
    })
    .await;
    live.is_turned_away(&client).await;
    live.is_served(&live.world.org1.identity(NodeRole::Client))
        .await;
    let (blocks, status) = reading.await.unwrap();
    assert_eq!(status, Status::Forbidden);
    let taken_out = newest_config(&live.blocks().await).number();
    assert!(blocks.iter().all(|block| block.number() <= taken_out));
    live.orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anchor_peers_and_acls_follow_their_owners() {
    let mut live = Live::new().await;
    let (orderers, org1) = (live.orderers.clone(), live.org1.clone());
    let own = ["Application", "Org1"];
    let anchor = AnchorPeer {
        host: "peer0.org1.example.com".to_owned(),
        port: 7051,
    };
    live.change(Row {
        by: &org1,
        change: &|root| {
            edit(
                below(root, &own),
                "AnchorPeers",
                |value: &mut AnchorPeers| {
                    value.anchor_peers = vec![anchor.clone()];
                },
            );
        },
        not_by: (&orderers, "Org1MSP.admin"),
        nonsense: (
            &|root| garbage(root, &own, "AnchorPeers"),
            "/Channel/Application/Org1/AnchorPeers does not decode",
        ),
    })
    .await;
    let application = live.config.application().unwrap();
    assert_eq!(application.orgs()["Org1"].anchor_peers, [anchor]);

    let acl = |root: &mut ConfigGroup| {
        let group = below(root, &["Application"]);
        edit(group, "ACLs", |value: &mut AcLs| {
            let admins = ApiResource {
                policy_ref: "/Channel/Application/Admins".to_owned(),
            };
            value.acls.insert("event/Block".to_owned(), admins);
        });
    };
    let before = live.config.acl_policy("event/Block");
    assert_eq!(before, Some("/Channel/Application/Readers"));
    live.change(Row {
        by: &org1,
        change: &acl,
        not_by: (&orderers, ORG1),
        nonsense: (
            &|root| garbage(root, &["Application"], "ACLs"),
            "/Channel/Application/ACLs does not decode",
        ),
    })
    .await;
    let after = live.config.acl_policy("event/Block");
    assert_eq!(after, Some("/Channel/Application/Admins"));
    live.is_served(&live.world.org1.identity(NodeRole::Client))
        .await;
    live.orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_are_raised_as_far_as_orderers_know_them() {
    let mut live = Live::new().await;
    let (orderers, org1) = (live.orderers.clone(), live.org1.clone());
    let member = live.world.org1.identity(NodeRole::Client);
    let addresses = |root: &mut ConfigGroup| {
        edit(root, "OrdererAddresses", |value: &mut OrdererAddresses| {
            value.addresses = vec!["127.0.0.1:7050".to_owned()];
        });
    };
    live.change(Row {
        by: &orderers,
        change: &|root| capability(root, &[], "V3_0"),
        not_by: (
            &member,
            "1 of Application (Org1 (Org1MSP.admin)), Orderer (OrdererOrg (OrdererMSP.admin))",
        ),
        nonsense: (
            &|root| capability(root, &[], "V9_9"),
            "config update is not compatible: Channel capability V9_9 is required but not supported",
        ),
    })
    .await;
    assert!(live.config.capabilities().bft());
    let text = "global OrdererAddresses are not allowed with V3_0 capability";
    live.refused(&orderers, &addresses, text).await;

    let text = "config update is not compatible: Orderer capability V9_9 is required but not \
                supported";
    let unknown = |root: &mut ConfigGroup| capability(root, &["Orderer"], "V9_9");
    live.refused(&orderers, &unknown, text).await;
    // What peers have to know is no orderer's matter, as in Fabric: they stop.
    live.change(Row {
        by: &org1,
        change: &|root| capability(root, &["Application"], "V9_9"),
        not_by: (&orderers, ORG1),
        nonsense: (
            &|root| garbage(root, &["Application"], "Capabilities"),
            "/Channel/Application/Capabilities does not decode",
        ),
    })
    .await;
    let stops = live.config.check_supported_by_peer().unwrap_err();
    let text = "Application capability V9_9 is required but not supported";
    assert_eq!(stops.to_string(), text);
    live.is_served(&member).await;
    live.orderer.stop().await;
}

/// A channel that asks for what this orderer does not know is not joined.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_capabilities_keep_an_orderer_out() {
    let world = World::new();
    let orderer = world.start(&world.settings()).await;
    for (known, section) in [(1, "Channel"), (2, "Orderer")] {
        let genesis = world.genesis_of(CHANNEL, |text| {
            let parts: Vec<&str> = text.splitn(known + 1, "{V2_0: true}").collect();
            let (rest, head) = parts.split_last().unwrap();
            format!(
                "{}{{V2_0: true, V9_9: true}}{rest}",
                head.join("{V2_0: true}")
            )
        });
        let (code, body, _) = join(&orderer, &genesis).await;
        assert_eq!(code, 400, "{body}");
        let text = format!("{section} capability V9_9 is required but not supported");
        assert!(body.contains(&text), "{body}");
    }
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_replaced() {
    let mut live = Live::new().await;
    let (orderers, org1) = (live.orderers.clone(), live.org1.clone());
    let old = live.world.org1.identity(NodeRole::Client);
    let renewed = Org::new("Org1MSP");
    let new = renewed.identity(NodeRole::Client);
    live.is_served(&old).await;
    live.is_turned_away(&new).await;

    let own = ["Application", "Org1"];
    let roots = |root: &mut ConfigGroup, authorities: &[String]| {
        edit(below(root, &own), "MSP", |value: &mut MspConfig| {
            let mut msp = FabricMspConfig::decode(value.config.clone()).unwrap();
            msp.root_certs = authorities.iter().map(|pem| pem.clone().into()).collect();
            value.config = msp.encode_to_vec().into();
        });
    };
    let pems = [&live.world.org1, &renewed].map(|org| org.ca.certificate().to_pem());
    let nonsense = |root: &mut ConfigGroup| roots(root, &["no certificate".to_owned()]);
    let text = "the updated configuration is invalid: setting up the MSP of \
                /Channel/Application/Org1 failed";
    live.change(Row {
        by: &org1,
        change: &|root| roots(root, &pems),
        not_by: (&orderers, "Org1MSP.admin"),
        nonsense: (&nonsense, text),
    })
    .await;
    live.is_served(&old).await;
    live.is_served(&new).await;

    live.change(Row {
        by: &org1,
        change: &|root| roots(root, &pems[1..]),
        not_by: (&orderers, "Org1MSP.admin"),
        nonsense: (&nonsense, text),
    })
    .await;
    live.is_served(&new).await;
    live.is_turned_away(&old).await;
    // Nor do signatures of its administrator count any longer.
    let renewed_admin = renewed.identity(NodeRole::Admin);
    let (status, info) = live.send(&org1, &|root| roots(root, &pems)).await;
    assert_eq!(status, Status::Forbidden, "{info}");
    let (status, info) = live.send(&renewed_admin, &|root| roots(root, &pems)).await;
    assert_eq!(status, Status::Success, "{info}");
    live.orderer.stop().await;
}

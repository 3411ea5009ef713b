//! Channels made in memory: what the checks accept and what they refuse, and why.

#[allow(dead_code)]
mod network;

use std::path::Path;

use network::{CHANNEL, Consortium, NOW, update};
use selvage_channel::genesis::{ConfigTx, GenesisError, MemoryMaterial, genesis_block};
use selvage_channel::names::{APPLICATION, APPLICATION_WRITERS, CHANNEL_WRITERS, ORDERER};
use selvage_channel::{AclRule, BlockVerifier, ChannelConfig, ConfigError, UpdateError, block};
use selvage_crypto::issue::NodeRole;
use selvage_identity::{SignedData, SigningIdentity};
use selvage_proto::Message as _;
use selvage_proto::common::{Capabilities, Config, ConfigGroup, ConfigValue, OrdererAddresses};
use selvage_proto::orderer::{BatchSize, BatchTimeout};
use selvage_proto::peer::{AcLs, ApiResource};

fn config(consortium: &Consortium) -> ChannelConfig {
    ChannelConfig::from_block(&consortium.genesis()).expect("a configuration")
}

fn signed(by: &SigningIdentity) -> SignedData {
    SignedData {
        data: "message".into(),
        identity: by.serialized(),
        signature: by.sign(b"message").into(),
    }
}

#[test]
fn policies_are_found_and_count_groups() {
    let consortium = Consortium::new();
    let config = config(&consortium);
    let client = consortium.org1.member("client", NodeRole::Client);
    let admins = [&consortium.org1, &consortium.org2].map(|o| o.member("admin", NodeRole::Admin));
    let check = |path: &str, by: &[&SigningIdentity], accepted: bool| {
        let policy = config
            .policy(path)
            .unwrap_or_else(|| panic!("no policy {path}"));
        let set: Vec<SignedData> = by.iter().map(|s| signed(s)).collect();
        let result = policy.evaluate(&set);
        assert_eq!(result.is_ok(), accepted, "{path}: {result:?}");
    };
    check(CHANNEL_WRITERS, &[&client], true);
    check(APPLICATION_WRITERS, &[&client], true);
    check("/Channel/Application/Org1MSP/Writers", &[&client], true);
    check("/Channel/Application/Org2MSP/Writers", &[&client], false);
    check("/Channel/Orderer/Writers", &[&client], false);
    check("/Channel/Application/Admins", &[&client], false);
    check("/Channel/Application/Admins", &[&admins[0]], false);
    check(
        "/Channel/Application/Admins",
        &[&admins[0], &admins[0]],
        false,
    );
    check(
        "/Channel/Application/Admins",
        &[&admins[0], &admins[1]],
        true,
    );
    check(CHANNEL_WRITERS, &[], false);
    // Relative names start at the root.
    check("Application/Writers", &[&client], true);
    for absent in [
        "",
        "/",
        "/Channel",
        "/Channel/",
        "/Channel/Nothing",
        "/Other/Writers",
        "a//b",
    ] {
        assert!(config.policy(absent).is_none(), "{absent}");
    }

    let mut forged = signed(&client);
    forged.data = "another".into();
    let policy = config.policy(CHANNEL_WRITERS).expect("a policy");
    policy.evaluate(&[forged]).expect_err("a forged signature");
    let stranger = Consortium::new().org1.member("stranger", NodeRole::Client);
    policy
        .evaluate(&[signed(&stranger)])
        .expect_err("another authority");

    // Planners of endorsements get the same rule as one signature policy.
    let flat = config
        .policies()
        .as_signature_policy("/Channel/Application/Endorsement");
    let flat = flat.expect("a signature policy");
    assert_eq!(flat.identities.len(), 2);
    assert_eq!(
        config.acl_rule("peer/Propose"),
        Some(AclRule::Channel(APPLICATION_WRITERS))
    );
    assert_eq!(config.acl_policy("cscc/JoinChain"), None);
}

/// Changes the configuration and says which error the result has to give.
fn check_config(name: &str, edit: fn(&mut ConfigGroup), text: &str) {
    let consortium = Consortium::new();
    let mut changed = config(&consortium).config().clone();
    edit(changed.channel_group.as_mut().expect("a tree"));
    let error = ChannelConfig::new(CHANNEL, changed).expect_err(name);
    let full = selvage_crypto::in_full(&error);
    assert!(full.contains(text), "{name}: {full}");
}

fn value(message: &impl prost::Message) -> ConfigValue {
    ConfigValue {
        value: message.encode_to_vec().into(),
        mod_policy: "Admins".to_owned(),
        version: 0,
    }
}

fn put(group: &mut ConfigGroup, key: &str, message: &impl prost::Message) {
    group.values.insert(key.to_owned(), value(message));
}

fn below<'a>(group: &'a mut ConfigGroup, name: &str) -> &'a mut ConfigGroup {
    group.groups.get_mut(name).expect("the group")
}

fn batch(max_message_count: u32, absolute_max_bytes: u32, preferred_max_bytes: u32) -> BatchSize {
    BatchSize {
        max_message_count,
        absolute_max_bytes,
        preferred_max_bytes,
    }
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    check_config(
        "an unknown value",
        |g| put(g, "Colour", &batch(1, 1, 1)),
        "Unexpected key Colour",
    );
    check_config(
        "an unknown group",
        |g| {
            drop(
                g.groups
                    .insert("Colours".to_owned(), ConfigGroup::default()),
            )
        },
        "may not contain the group Colours",
    );
    check_config(
        "a system channel",
        |g| {
            drop(
                g.groups
                    .insert("Consortiums".to_owned(), ConfigGroup::default()),
            )
        },
        "system channel",
    );
    check_config(
        "no hash",
        |g| drop(g.values.remove("HashingAlgorithm")),
        "Unknown hashing algorithm type",
    );
    check_config(
        "no block data shape",
        |g| drop(g.values.remove("BlockDataHashingStructure")),
        "only supported at MaxUint32",
    );
    check_config(
        "capabilities before the orderer's",
        |g| drop(below(g, ORDERER).values.remove("Capabilities")),
        "cannot enable channel capabilities without orderer support first",
    );
}

#[test]
fn batches_need_sensible_limits() {
    let sizes = [
        (
            "no messages",
            batch(0, 10, 5),
            "max message count to an invalid value: 0",
        ),
        (
            "no bytes",
            batch(1, 0, 5),
            "absolute max bytes to an invalid value: 0",
        ),
        (
            "no preferred bytes",
            batch(1, 10, 0),
            "preferred max bytes to an invalid value: 0",
        ),
        (
            "preferred above absolute",
            batch(1, 10, 11),
            "greater than the absolute",
        ),
    ];
    for (name, size, text) in sizes {
        let mut changed = config(&Consortium::new()).config().clone();
        let group = changed.channel_group.as_mut().expect("a tree");
        put(below(group, ORDERER), "BatchSize", &size);
        let error = ChannelConfig::new(CHANNEL, changed)
            .expect_err(name)
            .to_string();
        assert!(error.contains(text), "{name}: {error}");
    }
    for timeout in ["", "2", "0s", "-1s"] {
        let mut changed = config(&Consortium::new()).config().clone();
        let group = changed.channel_group.as_mut().expect("a tree");
        let timeout = BatchTimeout {
            timeout: timeout.to_owned(),
        };
        put(below(group, ORDERER), "BatchTimeout", &timeout);
        let error = ChannelConfig::new(CHANNEL, changed)
            .expect_err("a timeout")
            .to_string();
        assert!(
            error.contains("Attempted to set the batch timeout"),
            "{error}"
        );
    }
}

#[test]
fn groups_and_policies_need_sense() {
    check_config(
        "an organisation without a membership service",
        |g| drop(below(below(g, APPLICATION), "Org1MSP").values.remove("MSP")),
        "has empty MSP ID",
    );
    check_config(
        "a group inside an organisation",
        |g| {
            let org = below(below(g, APPLICATION), "Org1MSP");
            org.groups.insert("Team".to_owned(), ConfigGroup::default());
        },
        "may not contain the group Team",
    );
    check_config(
        "an organisation's membership service under another's name, changed",
        |g| {
            let application = below(g, APPLICATION);
            let mut other = application.groups["Org1MSP"].clone();
            if let Some(msp) = other.values.get_mut("MSP") {
                msp.value = [msp.value.as_ref(), &[0x18, 1]].concat().into();
                let mut decoded = selvage_proto::msp::MspConfig::decode(msp.value.clone()).unwrap();
                decoded.config = [decoded.config.as_ref(), &[0x98, 6, 1]].concat().into();
                msp.value = decoded.encode_to_vec().into();
            }
            application.groups.insert("Twin".to_owned(), other);
        },
        "Attempted to define two different versions of MSP: Org1MSP",
    );
    check_config(
        "a policy that names a principal it lacks",
        |g| {
            let policy = g
                .policies
                .get_mut("Writers")
                .and_then(|p| p.policy.as_mut())
                .unwrap();
            policy.r#type = 1;
            policy.value = vec![0x12, 2, 8, 5].into();
        },
        "policy /Channel/Writers",
    );
    check_config(
        "a policy without content",
        |g| g.policies.get_mut("Writers").unwrap().policy = None,
        "policy /Channel/Writers was nil",
    );
    check_config(
        "an illegal name",
        |g| {
            let writers = g.policies["Writers"].clone();
            g.policies.insert("a/b".to_owned(), writers);
        },
        "contains illegal characters",
    );
}

#[test]
fn capabilities_allow_and_forbid() {
    check_config(
        "global endpoints with V3_0",
        |g| {
            let v3 = Capabilities {
                capabilities: [("V3_0".to_owned(), Default::default())].into(),
            };
            put(g, "Capabilities", &v3);
            let addresses = OrdererAddresses {
                addresses: vec!["orderer:7050".to_owned()],
            };
            put(g, "OrdererAddresses", &addresses);
        },
        "global OrdererAddresses are not allowed with V3_0",
    );
    check_config(
        "no endpoints with V3_0",
        |g| {
            let v3 = Capabilities {
                capabilities: [("V3_0".to_owned(), Default::default())].into(),
            };
            put(g, "Capabilities", &v3);
            let orderer = below(g, ORDERER);
            below(orderer, "OrdererMSP").values.remove("Endpoints");
        },
        "some orderer organizations endpoints are empty: OrdererMSP",
    );
    check_config(
        "ACLs without the capability",
        |g| {
            let application = below(g, APPLICATION);
            application.values.remove("Capabilities");
            let acls = AcLs {
                acls: [("event/Block".to_owned(), ApiResource::default())].into(),
            };
            put(application, "ACLs", &acls);
        },
        "ACLs may not be specified without the required capability",
    );
}

#[test]
fn channels_need_a_tree_and_a_name() {
    let nothing = ChannelConfig::new(CHANNEL, Config::default()).expect_err("nothing");
    assert!(matches!(nothing, ConfigError::Missing(_)), "{nothing}");
    let consortium = Consortium::new();
    let named = ChannelConfig::new("Loud", config(&consortium).config().clone());
    let error = named.expect_err("upper case").to_string();
    assert_eq!(error, "bad channel ID: 'Loud' contains illegal characters");
}

#[test]
fn unknown_capabilities_stop_nodes_but_can_be_read() {
    let mut changed = config(&Consortium::new()).config().clone();
    let group = changed.channel_group.as_mut().expect("a tree");
    let future = Capabilities {
        capabilities: [("V9_0".to_owned(), Default::default())].into(),
    };
    put(below(group, APPLICATION), "Capabilities", &future);
    let config = ChannelConfig::new(CHANNEL, changed).expect("readable");
    config
        .check_supported_by_orderer()
        .expect("not the orderer's matter");
    let error = config
        .check_supported_by_peer()
        .expect_err("unknown")
        .to_string();
    assert_eq!(
        error,
        "Application capability V9_0 is required but not supported"
    );
}

fn with_messages(config: &ChannelConfig, count: u32) -> Config {
    let mut changed = config.config().clone();
    let group = changed.channel_group.as_mut().expect("a tree");
    let size = config.orderer().expect("an orderer section").batch_size();
    let size = batch(count, size.absolute_max_bytes, size.preferred_max_bytes);
    put(below(group, ORDERER), "BatchSize", &size);
    changed
}

#[test]
fn updates_need_the_signatures_their_elements_ask_for() {
    let consortium = Consortium::new();
    let current = config(&consortium);
    let orderer_admin = consortium.orderer.member("olga", NodeRole::Admin);
    let org_admin = consortium.org1.member("anna", NodeRole::Admin);
    let changed = with_messages(&current, 17);

    let good = update(current.config(), &changed, &[&orderer_admin]);
    let proposed = current
        .propose_update(&good)
        .expect("the orderers' administrator may");
    let next = current.apply(&proposed).expect("it follows");
    assert_eq!(next.sequence(), 1);
    assert_eq!(
        next.orderer()
            .expect("orderers")
            .batch_size()
            .max_message_count,
        17
    );

    let bad = update(current.config(), &changed, &[&org_admin]);
    let error = current.propose_update(&bad).expect_err("she may not");
    let text = error.text();
    assert!(
        text.starts_with(
            "error authorizing update: error validating DeltaSet: policy for \
         [Value]  /Channel/Orderer/BatchSize not satisfied: implicit policy evaluation failed - 0 \
         sub-policies were satisfied, but this policy requires 1 of the 'Admins' sub-policies"
        ),
        "{text}"
    );
    assert!(
        text.ends_with(
            "(it takes /Channel/Orderer/Admins; signed by anna of Org1MSP; missing: OrdererMSP \
             (OrdererMSP.admin))"
        ),
        "{text}"
    );

    // Once applied, the same update builds on a version that is gone.
    let error = next.propose_update(&good).expect_err("applied already");
    assert!(matches!(error, UpdateError::WrongVersion { .. }), "{error}");

    let mut other = current.config().clone();
    let group = other.channel_group.as_mut().expect("a tree");
    below(group, ORDERER)
        .values
        .get_mut("BatchSize")
        .expect("a value")
        .mod_policy
        .clear();
    let error = current.propose_update(&update(current.config(), &other, &[&orderer_admin]));
    let error = error.expect_err("nobody could change it again");
    assert!(
        error.text().contains("mod_policy not set"),
        "{}",
        error.text()
    );
}

#[test]
fn changes_that_no_signature_allows() {
    let consortium = Consortium::new();
    let current = config(&consortium);
    let admins = [&consortium.orderer, &consortium.org1, &consortium.org2]
        .map(|o| o.member("admin", NodeRole::Admin));
    let signers: Vec<&SigningIdentity> = admins.iter().collect();

    // Another membership service under an organisation's name.
    let mut changed = current.config().clone();
    let group = changed.channel_group.as_mut().expect("a tree");
    let orderer = below(group, ORDERER).groups["OrdererMSP"].values["MSP"].clone();
    below(below(group, APPLICATION), "Org1MSP")
        .values
        .insert("MSP".to_owned(), orderer);
    let error = current.propose_update(&update(current.config(), &changed, &signers));
    let error = error.expect_err("another organisation").to_string();
    assert_eq!(
        error,
        "application org Org1MSP attempted to change MSP ID from Org1MSP to OrdererMSP"
    );

    // The whole section gone.
    let mut changed = current.config().clone();
    let group = changed.channel_group.as_mut().expect("a tree");
    group.groups.remove(APPLICATION);
    let error = current.propose_update(&update(current.config(), &changed, &signers));
    let error = error.expect_err("no application").to_string();
    assert!(
        error.contains("has application section, but new config does not"),
        "{error}"
    );

    // An update for another channel.
    let elsewhere = ChannelConfig::new("elsewhere", current.config().clone()).expect("a channel");
    let good = update(current.config(), &with_messages(&current, 9), &signers);
    let error = elsewhere
        .propose_update(&good)
        .expect_err("another channel")
        .to_string();
    assert_eq!(
        error,
        "ConfigUpdate for channel 'consortium' but envelope for channel 'elsewhere'"
    );
}

#[test]
fn blocks_of_a_new_channel_verify() {
    let consortium = Consortium::new();
    let genesis = consortium.genesis();
    let config = block::verify_genesis(&genesis).expect("a genesis block");
    assert_eq!(config.channel_id(), CHANNEL);
    assert_eq!(config.orderer_endpoints(), ["orderer.example.com:7050"]);
    let header = genesis.header.as_ref().expect("a header");
    let verifier = BlockVerifier::after(config.into(), header);
    assert_eq!(verifier.next_number(), 1);

    let mut damaged = genesis.clone();
    if let Some(data) = damaged.data.as_mut() {
        data.data[0] = [data.data[0].as_ref(), &[0]].concat().into();
    }
    let error = block::verify_genesis(&damaged)
        .expect_err("damaged")
        .to_string();
    assert!(error.contains("DataHash"), "{error}");
}

#[test]
fn profiles_that_make_no_sense_are_refused() {
    let check = |name: &str, edit: fn(&mut Consortium), text: &str| {
        let mut consortium = Consortium::new();
        edit(&mut consortium);
        let built = genesis_block(
            &consortium.profile,
            CHANNEL,
            &consortium.material,
            NOW,
            [1; 24],
        );
        let error = built.expect_err(name).to_string();
        assert!(error.contains(text), "{name}: {error}");
    };
    check(
        "no policies",
        |c| c.profile.policies.clear(),
        "no policies defined",
    );
    check(
        "no Admins policy",
        |c| drop(c.profile.policies.remove("Admins")),
        "no Admins policy defined",
    );
    check(
        "no BlockValidation policy",
        |c| {
            drop(
                c.profile
                    .orderer
                    .as_mut()
                    .unwrap()
                    .policies
                    .remove("BlockValidation"),
            )
        },
        "no BlockValidation policy defined",
    );
    check(
        "an unknown consensus",
        |c| c.profile.orderer.as_mut().unwrap().orderer_type = "kafka".to_owned(),
        "unknown orderer type: kafka",
    );
    check(
        "Raft without settings",
        |c| c.profile.orderer.as_mut().unwrap().orderer_type = "etcdraft".to_owned(),
        "etcdraft configuration missing",
    );
    check(
        "BFT without the capability",
        |c| c.profile.orderer.as_mut().unwrap().orderer_type = "BFT".to_owned(),
        "must be used with V3_0",
    );
    check(
        "a rule with a typing error",
        |c| c.profile.policies.get_mut("Admins").unwrap().rule = "SOME Admins".to_owned(),
        "expected ALL, ANY, or MAJORITY",
    );
    check(
        "missing certificates",
        |c| c.material = MemoryMaterial::default(),
        "cannot be read: no such folder",
    );
}

#[test]
fn a_bft_channel_asks_for_a_quorum() {
    let (consortium, nodes) = Consortium::bft();
    let config = config(&consortium);
    assert_eq!(
        config
            .orderer()
            .expect("an orderer section")
            .consenters()
            .len(),
        4
    );
    let policy = config
        .policy("/Channel/Orderer/BlockValidation")
        .expect("a policy");
    let signatures: Vec<SignedData> = nodes.iter().map(signed).collect();
    policy
        .evaluate(&signatures[..2])
        .expect_err("two of four are no quorum");
    policy
        .evaluate(&signatures[..3])
        .expect("three of four are");
    let outsider = consortium.orderer.member("outsider", NodeRole::Orderer);
    let set = [
        signatures[0].clone(),
        signatures[1].clone(),
        signed(&outsider),
    ];
    policy
        .evaluate(&set)
        .expect_err("an orderer that is no consenter does not count");
}

#[test]
fn the_shipped_configtx_yaml_is_usable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../config/configtx.yaml");
    let text = std::fs::read_to_string(path).expect("config/configtx.yaml");
    let configtx = ConfigTx::from_yaml(&text).expect("a configtx.yaml");
    let consortium = Consortium::new();
    let mut files = std::collections::BTreeMap::new();
    let root = "crypto-config/";
    for (domain, msp) in [
        ("ordererOrganizations/example.com", "OrdererMSP"),
        ("peerOrganizations/org1.example.com", "Org1MSP"),
        ("peerOrganizations/org2.example.com", "Org2MSP"),
    ] {
        for (path, content) in &consortium.material.0 {
            if let Some(rest) = path.strip_prefix(&format!("{msp}/")) {
                files.insert(format!("{root}{domain}/msp/{rest}"), content.clone());
            }
        }
    }
    let node = format!("{root}ordererOrganizations/example.com/orderers/orderer.example.com");
    let pem = consortium
        .orderer
        .member("orderer", NodeRole::Orderer)
        .certificate()
        .to_pem();
    for file in [
        "tls/server.crt",
        "msp/signcerts/orderer.example.com-cert.pem",
    ] {
        files.insert(format!("{node}/{file}"), pem.clone().into());
    }
    let material = MemoryMaterial(files);
    for (name, consensus) in [
        ("SoloChannel", "solo"),
        ("RaftChannel", "etcdraft"),
        ("BftChannel", "BFT"),
    ] {
        let profile = configtx.profile(name).expect("a profile");
        let block = genesis_block(profile, CHANNEL, &material, NOW, [1; 24]);
        let block = block.unwrap_or_else(|e| panic!("{name}: {e}"));
        let config = block::verify_genesis(&block).unwrap_or_else(|e| panic!("{name}: {e}"));
        config
            .check_supported_by_peer()
            .expect("known capabilities");
        config
            .check_supported_by_orderer()
            .expect("known capabilities");
        let orderer = config.orderer().expect("an orderer section");
        assert_eq!(orderer.consensus_type(), consensus);
        assert_eq!(orderer.batch_size().absolute_max_bytes, 10 << 20);
        assert_eq!(orderer.batch_timeout().as_secs(), 2);
        let application = config.application().expect("an application section");
        assert_eq!(application.orgs()["Org1"].anchor_peers[0].port, 7051);
    }
    let missing = configtx.profile("Nothing").expect_err("no such profile");
    assert!(matches!(missing, GenesisError::NoProfile(_)));
    for bad in [
        "Profiles: 7",
        "Profile: {}",
        "a: [",
        "Profiles: {P: {Orderer: {BatchTimeout: x}}}",
    ] {
        assert!(ConfigTx::from_yaml(bad).is_err(), "{bad}");
    }
    assert!(
        ConfigTx::from_yaml("")
            .expect("nothing")
            .profiles
            .is_empty()
    );
}

/// Every damaged byte of a configuration and of an update gives an error or another configuration,
/// never a panic.
#[test]
fn damaged_bytes_do_not_panic() {
    let consortium = Consortium::new();
    let genesis = consortium.genesis();
    let current = config(&consortium);
    let admin = consortium.orderer.member("olga", NodeRole::Admin);
    let good = update(current.config(), &with_messages(&current, 17), &[&admin]);
    let damage = |bytes: &[u8], at: usize| {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << (at % 8);
        damaged
    };
    let envelope = genesis.envelopes()[0].clone();
    for at in (0..envelope.len()).step_by(31) {
        let mut block = genesis.clone();
        if let Some(data) = block.data.as_mut() {
            data.data[0] = damage(&envelope, at).into();
        }
        let _ = ChannelConfig::from_block(&block);
        let _ = block::verify_genesis(&block);
    }
    for at in 0..good.payload.len() {
        let mut bad = good.clone();
        bad.payload = damage(&good.payload, at).into();
        if let Ok(proposed) = current.propose_update(&bad) {
            let _ = current.apply(&proposed);
        }
    }
}

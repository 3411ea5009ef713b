//! Configurations, their updates and policies.

use bytes::Bytes;
use prost::Message;
use selvage_channel::genesis::{ConfigTx, genesis_block};
use selvage_channel::{ChannelConfig, config_transaction, open_config, update};
use selvage_client::ConfigChange;
use selvage_identity::policy::{self, dsl};
use selvage_ordering::filters::{Author, Filters, Incoming};
use selvage_proto::common::{
    Block, Config, ConfigEnvelope, ConfigUpdate, ConfigUpdateEnvelope, ConfigValue, Envelope,
    HeaderType, Payload, SignaturePolicyEnvelope,
};
use selvage_proto::orderer::BatchSize;

use crate::golden;
use crate::pick::{Pick, Put};
use crate::reach::reach;
use crate::world::{CHANNEL, NOW, PROFILE, world};

/// A configuration that is accepted is accepted again, and differs from others as computed.
pub(super) fn config_tree(input: &[u8]) {
    let Ok(config) = Config::decode(input) else {
        return;
    };
    let _ = update::compute(world().config.config(), &config);
    let Ok(read) = ChannelConfig::new(CHANNEL, config.clone()) else {
        return;
    };
    reach("a channel");
    assert_eq!(read.sequence(), config.sequence);
    assert!(update::compute(&config, &config).is_err(), "it is itself");
    let encoded = read.config().encode_to_vec();
    let again = Config::decode(encoded.as_slice()).expect("what was encoded decodes");
    let again = ChannelConfig::new(CHANNEL, again).expect("accepted once, accepted again");
    assert_eq!(again.config(), read.config());
    let _ = read.check_supported_by_peer();
    let _ = read.check_supported_by_orderer();
    for path in [
        "/Channel/Readers",
        "/Channel/Application/Writers",
        "/",
        "//",
        "",
    ] {
        if let Some(policy) = read.policy(path) {
            let _ = policy.evaluate(&[]);
        }
    }
}

/// Recorded configurations, and the parts of this process's own that are always the same.
pub(super) fn config_tree_seeds() -> Vec<Vec<u8>> {
    let mut blocks = golden::files("corpus/blocks", |name| name.ends_with(".block"));
    for below in ["corpus/network", "bft", "raft"] {
        blocks.extend(golden::files(below, |name| name.ends_with(".block")));
    }
    let config = |raw: Vec<u8>| {
        let block = Block::decode(raw.as_slice()).ok()?;
        let (_, envelope) = open_config(&config_transaction(&block).ok()?).ok()?;
        Some(envelope.config?.encode_to_vec())
    };
    let mut seeds: Vec<Vec<u8>> = blocks.into_iter().filter_map(config).collect();
    let mut own = world().config.config().clone();
    without_certificates(own.channel_group.as_mut());
    seeds.push(own.encode_to_vec());
    seeds
}

fn without_certificates(group: Option<&mut selvage_proto::common::ConfigGroup>) {
    let Some(group) = group else { return };
    group.values.remove("MSP");
    group
        .groups
        .values_mut()
        .for_each(|g| without_certificates(Some(g)));
}

/// The input is the update; an administrator signs it here, so that it gets as far as it can.
pub(super) fn config_update(input: &[u8]) {
    let world = world();
    let raw = Bytes::copy_from_slice(input);
    if let Ok(update) = ConfigUpdate::decode(raw.clone()) {
        let _ = update::changed_elements(&update);
    }
    let signature_header = signature_header();
    let signed = [signature_header.as_ref(), input].concat();
    let update = ConfigUpdateEnvelope {
        config_update: raw,
        signatures: vec![selvage_proto::common::ConfigSignature {
            signature_header,
            signature: sign(&signed),
        }],
    };
    let data = update.encode_to_vec();
    let envelope = world
        .admin
        .envelope(HeaderType::ConfigUpdate, CHANNEL, data.into());
    judge(&envelope);
    // And what a sender makes of the whole of it.
    if let Ok(envelope) = Envelope::decode(input) {
        judge(&envelope);
    }
}

fn signature_header() -> Bytes {
    let header = selvage_proto::common::SignatureHeader {
        creator: world().admin.identity().serialized(),
        nonce: Bytes::from_static(b"nonce"),
    };
    header.encode_to_vec().into()
}

fn sign(message: &[u8]) -> Bytes {
    world().admin.identity().sign(message).into()
}

/// An update that is proposed can be applied, and makes the next configuration.
fn judge(envelope: &Envelope) {
    let world = world();
    let author = Author {
        signer: &world.orderer,
        nonce: [3; 24],
        unix_seconds: NOW,
    };
    if let Ok(incoming) = Incoming::open(envelope.clone()) {
        let _ = Filters::default().process_update(&world.config, &incoming, author);
    }
    let Ok(update) = update::open_update(envelope) else {
        assert!(world.config.propose_update(envelope).is_err());
        return;
    };
    let _ = update::update_signatures(&update);
    let Ok(next) = world.config.propose_update(envelope) else {
        return;
    };
    assert!(update::validate(&world.config, &next).is_ok());
    let applied = world.config.apply(&next).expect("proposed, so applicable");
    assert_eq!(applied.sequence(), world.config.sequence() + 1);
    reach("applied");
    let encoded = next.encode_to_vec();
    let decoded = ConfigEnvelope::decode(encoded.as_slice()).expect("what was encoded decodes");
    assert!(world.config.apply(&decoded).is_ok(), "through the wire too");
}

pub(super) fn config_update_seeds() -> Vec<Vec<u8>> {
    let original = world().config.config();
    let changed = |edit: fn(&mut Config)| {
        let mut config = original.clone();
        edit(&mut config);
        let change = ConfigChange::new(CHANNEL, original, &config).expect("a change");
        let payload = Payload::decode(change.envelope(&world().admin).payload).expect("a payload");
        let envelope = ConfigUpdateEnvelope::decode(payload.data).expect("an update");
        envelope.config_update.to_vec()
    };
    vec![
        changed(|config| {
            let size = BatchSize {
                max_message_count: 7,
                absolute_max_bytes: 1000,
                preferred_max_bytes: 100,
            };
            let value = value(&size);
            group(config, "Orderer")
                .values
                .insert("BatchSize".into(), value);
        }),
        changed(|config| {
            group(config, "Application").values.remove("ACLs");
        }),
        changed(|config| {
            let orgs = &mut group(config, "Application").groups;
            orgs.values_mut().for_each(|org| {
                org.values.remove("AnchorPeers");
            });
        }),
        changed(|config| {
            let policies = &mut group(config, "Application").policies;
            policies.remove("Endorsement");
        }),
    ]
}

fn group<'a>(config: &'a mut Config, name: &str) -> &'a mut selvage_proto::common::ConfigGroup {
    let root = config.channel_group.get_or_insert_default();
    root.groups.entry(name.to_owned()).or_default()
}

fn value(message: &impl Message) -> ConfigValue {
    ConfigValue {
        value: message.encode_to_vec().into(),
        mod_policy: "Admins".into(),
        ..Default::default()
    }
}

/// A policy that can be made is judged, for signers that are there and for none.
pub(super) fn signature_policy(input: &[u8]) {
    let Ok(envelope) = SignaturePolicyEnvelope::decode(input) else {
        return;
    };
    let world = world();
    let manager = world.config.msp_manager();
    let Ok(compiled) = policy::compile(&envelope, manager.clone()) else {
        return;
    };
    let members = [
        world.client.identity(),
        world.admin.identity(),
        &*world.peer,
    ];
    let signers: Vec<_> = members
        .iter()
        .filter_map(|member| manager.deserialize(&member.serialized()).ok())
        .collect();
    let by_all = compiled.evaluate_identities(&signers).is_ok();
    reach("compiled");
    if by_all {
        reach("satisfied");
    }
    let by_none = compiled.evaluate_identities(&[]).is_ok();
    let again = signers.iter().rev().cloned().collect::<Vec<_>>();
    let _ = compiled.evaluate_identities(&again);
    assert!(by_all || !by_none, "who signs more does not satisfy less");
}

pub(super) fn signature_policy_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = policy_texts()
        .iter()
        .filter_map(|text| Some(dsl::parse(text).ok()?.encode_to_vec()))
        .collect();
    seeds.push(policy::build::accept_all().encode_to_vec());
    seeds.push(policy::build::reject_all().encode_to_vec());
    seeds
}

/// What is read from text can be used, and its size has to do with the text's.
pub(super) fn policy_text(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(envelope) = dsl::parse(&text) else {
        return;
    };
    let encoded = envelope.encode_to_vec();
    assert!(encoded.len() <= 64 * text.len() + 64);
    let decoded = SignaturePolicyEnvelope::decode(encoded.as_slice());
    assert_eq!(decoded.expect("what was encoded decodes"), envelope);
    let manager = world().config.msp_manager().clone();
    policy::compile(&envelope, manager).expect("what the text form says can be compiled");
    reach("compiled");
}

fn policy_texts() -> [&'static str; 9] {
    [
        "OR('OneMSP.member')",
        "AND('OneMSP.admin', 'OneMSP.client', 'TwoMSP.peer')",
        "OutOf(2, 'OneMSP.peer', 'OneMSP.admin', OR('A.member', 'B.member'))",
        "OutOf('1', 'OneMSP.member', 'Org.with-dash.orderer')",
        "outof(0, 'A.member')",
        "and(or('A.member','B.member'),OUTOF(1.5, 'C.peer','C.peer'))",
        "OR(\"A.member\", 'B\\'s.member')",
        "OutOf(2, 'outof(1, \\'A.member\\')', 'A.member')",
        "AND('A.member', nil, true)",
    ]
}

pub(super) fn policy_text_seeds() -> Vec<Vec<u8>> {
    policy_texts().map(|text| text.as_bytes().to_vec()).to_vec()
}

/// A profile that makes a genesis block makes one that can be read.
pub(super) fn configtx_yaml(input: &[u8]) {
    let mut pick = Pick::new(input);
    let name = pick.text();
    let text = String::from_utf8_lossy(pick.rest());
    let Ok(read) = ConfigTx::from_yaml(&text) else {
        return;
    };
    let _ = read.profile(&name);
    for profile in read.profiles.values() {
        let made = genesis_block(profile, CHANNEL, &world().material, NOW, [1; 24]);
        let Ok(block) = made else {
            continue;
        };
        let raw = block.encode_to_vec();
        assert_eq!(Block::decode(raw.as_slice()).expect("a block"), block);
        // A profile may leave out what a channel needs; reading it says so and does not fall over.
        if ChannelConfig::from_block(&block).is_ok() {
            reach("a channel");
        }
    }
}

pub(super) fn configtx_yaml_seeds() -> Vec<Vec<u8>> {
    let shipped = include_str!("../../../../config/configtx.yaml");
    [PROFILE, shipped]
        .map(|text| Put::default().piece("Fuzz").rest(text))
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If they were refused, the target would never see what follows.
    #[test]
    fn the_seeds_of_updates_are_accepted() {
        for seed in config_update_seeds() {
            let signature_header = signature_header();
            let signed = [signature_header.as_ref(), &seed].concat();
            let update = ConfigUpdateEnvelope {
                config_update: seed.into(),
                signatures: vec![selvage_proto::common::ConfigSignature {
                    signature_header,
                    signature: sign(&signed),
                }],
            };
            let data = update.encode_to_vec().into();
            let admin = &world().admin;
            let envelope = admin.envelope(HeaderType::ConfigUpdate, CHANNEL, data);
            let next = world().config.propose_update(&envelope);
            let next = next.unwrap_or_else(|error| panic!("{}", error.text()));
            world().config.apply(&next).expect("applicable");
        }
    }

    #[test]
    fn the_profile_makes_a_channel() {
        let read = ConfigTx::from_yaml(PROFILE).expect("a profile");
        let profile = read.profile("Fuzz").expect("the profile");
        let block = genesis_block(profile, CHANNEL, &world().material, NOW, [1; 24]);
        ChannelConfig::from_block(&block.expect("a block")).expect("a configuration");
    }
}

//! An orderer's work on a channel made in memory: filters, configuration messages, signed blocks.

#[allow(dead_code)]
#[path = "../../../base/channel/tests/network/mod.rs"]
mod network;

use std::sync::Arc;

use network::{CHANNEL, Consortium, NOW, message, update};
use selvage_channel::names::{APPLICATION, ORDERER};
use selvage_channel::update::set_bft_block_validation;
use selvage_channel::{BlockVerifier, ChannelConfig, config_transaction, open_config};
use selvage_crypto::issue::NodeRole;
use selvage_identity::SigningIdentity;
use selvage_ordering::block::{Tip, sign_block};
use selvage_ordering::filters::{Author, ConfigMessage, Filters, Incoming, Kind, Refusal};
use selvage_proto::Message as _;
use selvage_proto::common::{
    Capabilities, Config, ConfigValue, Consenter, Envelope, HeaderType, Orderers, Status,
};
use selvage_proto::orderer::consensus_type::State;
use selvage_proto::orderer::{BatchSize, ConsensusType};

struct Fixture {
    consortium: Consortium,
    config: ChannelConfig,
    node: SigningIdentity,
    client: SigningIdentity,
    admin: SigningIdentity,
}

fn fixture() -> Fixture {
    let consortium = Consortium::new();
    Fixture {
        config: ChannelConfig::from_block(&consortium.genesis()).expect("a configuration"),
        node: consortium.orderer.member("orderer", NodeRole::Orderer),
        client: consortium.org1.member("client", NodeRole::Client),
        admin: consortium.orderer.member("olga", NodeRole::Admin),
        consortium,
    }
}

impl Fixture {
    fn author(&self) -> Author<'_> {
        Author {
            signer: &self.node,
            nonce: [9; 24],
            unix_seconds: NOW,
        }
    }

    fn process(&self, envelope: Envelope) -> Result<ConfigMessage, Refusal> {
        let incoming = Incoming::open(envelope)?;
        assert_eq!(incoming.kind()?, Kind::ConfigUpdate);
        Filters::default().process_update(&self.config, &incoming, self.author())
    }
}

fn normal(signer: &SigningIdentity, size: usize) -> Incoming {
    let data = vec![7; size].into();
    let envelope = message(signer, HeaderType::EndorserTransaction, data);
    Incoming::open(envelope).expect("a message")
}

/// The configuration with a value of the orderer section replaced.
fn with_orderer(config: &Config, key: &str, value: &impl prost::Message) -> Config {
    let mut changed = config.clone();
    let group = changed.channel_group.as_mut().expect("a tree");
    let orderer = group.groups.get_mut(ORDERER).expect("an orderer section");
    let element = orderer.values.get_mut(key).expect("the value");
    element.value = value.encode_to_vec().into();
    changed
}

fn batch(absolute_max_bytes: u32) -> BatchSize {
    BatchSize {
        max_message_count: 10,
        absolute_max_bytes,
        preferred_max_bytes: 1000,
    }
}

fn consensus(kind: &str, state: State) -> ConsensusType {
    ConsensusType {
        r#type: kind.to_owned(),
        metadata: Default::default(),
        state: state as i32,
    }
}

#[test]
fn normal_messages_are_let_in_or_refused() {
    let f = fixture();
    let filters = Filters::default();
    let check = |message: &Incoming, status: Option<Status>, text: &str| {
        let result = filters.check_normal(&f.config, message, NOW);
        match (result, status) {
            (Ok(sequence), None) => assert_eq!(sequence, 0),
            (Err(refusal), Some(status)) => {
                assert_eq!(refusal.status(), status, "{refusal}");
                assert!(refusal.to_string().contains(text), "{refusal}");
            }
            (result, _) => panic!("{text}: {result:?}"),
        }
    };
    check(&normal(&f.client, 100), None, "");
    let large = normal(&f.client, 10 << 20);
    check(
        &large,
        Some(Status::BadRequest),
        "exceeds maximum allowed 10485760 bytes",
    );
    let stranger = Consortium::new().org1.member("stranger", NodeRole::Client);
    let stranger = normal(&stranger, 1);
    check(
        &stranger,
        Some(Status::Forbidden),
        "'Writers' sub-policies to be satisfied: permission denied",
    );
    let mut forged = normal(&f.client, 1);
    forged.signed.signature = normal(&f.client, 2).signed.signature;
    check(&forged, Some(Status::Forbidden), "permission denied");
    let advice = |message: &Incoming| {
        let refused = filters.check_normal(&f.config, message, NOW);
        refused.expect_err("refused").advice().unwrap_or_default()
    };
    for (message, words) in [
        (&large, "raise AbsoluteMaxBytes"),
        (&stranger, "does not accept the certificate"),
        (&forged, "does not fit the certificate"),
    ] {
        assert!(advice(message).contains(words), "{}", advice(message));
    }

    for (kind, text) in [
        (
            HeaderType::Config,
            "message is of type that cannot be processed directly",
        ),
        (
            HeaderType::OrdererTransaction,
            "message is of type that is no longer supported",
        ),
    ] {
        let incoming = Incoming::open(message(&f.client, kind, Default::default()));
        let refusal = incoming
            .expect("a message")
            .kind()
            .expect_err("not for clients");
        assert_eq!(refusal.to_string(), text);
    }
    let refusal = Incoming::open(Envelope::default()).expect_err("nothing");
    assert_eq!(
        refusal.to_string(),
        "could not determine channel ID: header not set"
    );
}

#[test]
fn updates_become_configuration_messages() {
    let f = fixture();
    let changed = with_orderer(f.config.config(), "BatchSize", &batch(5 << 20));
    let envelope = update(f.config.config(), &changed, &[&f.admin]);
    let made = f.process(envelope).expect("allowed");
    assert_eq!(made.sequence, 0);
    let (channel, config) = open_config(&made.envelope).expect("a configuration");
    assert_eq!(channel, CHANNEL);
    let next = f.config.apply(&config).expect("it follows");
    assert_eq!(
        next.orderer()
            .expect("orderers")
            .batch_size()
            .absolute_max_bytes,
        5 << 20
    );

    // Made again from itself, as long as nothing else changed.
    let again = Filters::default().reprocess_config(&f.config, &made.envelope, f.author());
    let (_, again) = open_config(&again.expect("allowed").envelope).expect("a configuration");
    assert!(again == config);
    let refusal = Filters::default().reprocess_config(&next, &made.envelope, f.author());
    let refusal = refusal.expect_err("applied already").to_string();
    assert!(
        refusal.starts_with("error applying config update to existing channel"),
        "{refusal}"
    );
}

#[test]
fn updates_are_refused_at_each_stage() {
    let f = fixture();
    let current = f.config.config();
    let check = |changed: &Config, signers: &[&SigningIdentity], status: Status, text: &str| {
        let refusal = f
            .process(update(current, changed, signers))
            .expect_err(text);
        assert_eq!(refusal.status(), status, "{refusal}");
        assert!(refusal.to_string().contains(text), "{refusal}");
    };
    let changed = with_orderer(current, "BatchSize", &batch(5 << 20));
    let stranger = Consortium::new().org1.member("stranger", NodeRole::Admin);
    check(
        &changed,
        &[&stranger],
        Status::Forbidden,
        "did not pass initial checks",
    );
    check(
        &changed,
        &[&f.client],
        Status::BadRequest,
        "(it takes /Channel/Orderer/Admins; signed by",
    );
    // A message may be too large for the limits it sets itself, but not for those in force.
    let tiny = with_orderer(current, "BatchSize", &batch(1000));
    f.process(update(current, &tiny, &[&f.admin]))
        .expect("the old limit counts");

    let raft = with_orderer(
        current,
        "ConsensusType",
        &consensus("etcdraft", State::Normal),
    );
    check(
        &raft,
        &[&f.admin],
        Status::BadRequest,
        "did not pass maintenance checks: config transaction inspection failed: attempted to \
         change consensus type from solo to etcdraft, but current config ConsensusType.State is \
         not in maintenance mode",
    );
    let both = with_orderer(
        &changed,
        "ConsensusType",
        &consensus("solo", State::Maintenance),
    );
    check(
        &both,
        &[&f.admin],
        Status::BadRequest,
        "contain more then just the ConsensusType value",
    );
}

/// The fixture with its channel in maintenance.
fn paused() -> Fixture {
    let mut f = fixture();
    let current = f.config.config();
    let paused = with_orderer(
        current,
        "ConsensusType",
        &consensus("solo", State::Maintenance),
    );
    let made = f
        .process(update(current, &paused, &[&f.admin]))
        .expect("allowed");
    let (_, config) = open_config(&made.envelope).expect("a configuration");
    f.config = f.config.apply(&config).expect("it follows");
    f
}

#[test]
fn maintenance_keeps_clients_out() {
    let f = paused();
    let filters = Filters::default();
    let refusal = filters.check_normal(&f.config, &normal(&f.client, 1), NOW);
    let refusal = refusal.expect_err("maintenance");
    assert_eq!(refusal.status(), Status::ServiceUnavailable);
    assert_eq!(
        refusal.to_string(),
        "normal transactions are rejected: maintenance mode"
    );

    // Updates of applications wait until maintenance is over.
    let current = f.config.config();
    let org_admin = f.consortium.org1.member("anna", NodeRole::Admin);
    let mut changed = current.clone();
    let group = changed.channel_group.as_mut().expect("a tree");
    let application = group
        .groups
        .get_mut(APPLICATION)
        .expect("an application section");
    application.policies.remove("LifecycleEndorsement");
    let refusal = f.process(update(current, &changed, &[&org_admin]));
    assert_eq!(
        refusal.expect_err("maintenance").status(),
        Status::Forbidden
    );

    let over = with_orderer(current, "ConsensusType", &consensus("solo", State::Normal));
    f.process(update(current, &over, &[&f.admin]))
        .expect("the way out");
}

#[test]
fn a_move_to_bft_takes_an_engine_the_capability_and_the_policy() {
    let f = paused();
    let current = f.config.config();
    let admins =
        [&f.consortium.org1, &f.consortium.org2].map(|o| o.member("anna", NodeRole::Admin));
    let signers = [&f.admin, &admins[0], &admins[1]];
    let process = |changed: &Config, filters: &Filters| {
        let message = Incoming::open(update(current, changed, &signers)).expect("a message");
        filters.process_update(&f.config, &message, f.author())
    };
    let engine = Filters {
        migration_targets: vec!["BFT".to_owned()],
        ..Filters::default()
    };
    let refused = |changed: &Config, filters: &Filters, text: &str| {
        let refusal = process(changed, filters).expect_err(text).to_string();
        assert!(refusal.contains(text), "{refusal}");
    };
    let bare = with_orderer(
        current,
        "ConsensusType",
        &consensus("BFT", State::Maintenance),
    );
    let capability = "consensus type BFT must be used with V3_0 channel capability";
    refused(&bare, &engine, capability);

    let mut stale = bare.clone();
    let root = stale.channel_group.as_mut().expect("a tree");
    let capabilities = Capabilities {
        capabilities: [("V3_0".to_owned(), Default::default())].into(),
    };
    let value = root.values.get_mut("Capabilities").expect("capabilities");
    value.value = capabilities.encode_to_vec().into();
    let orderer = root.groups.get_mut(ORDERER).expect("an orderer section");
    let consenters = Orderers {
        consenter_mapping: vec![Consenter {
            id: 1,
            msp_id: "OrdererMSP".to_owned(),
            identity: f.node.certificate().to_pem().into(),
            ..Default::default()
        }],
    };
    let value = ConfigValue {
        version: 0,
        value: consenters.encode_to_vec().into(),
        mod_policy: "Admins".to_owned(),
    };
    orderer.values.insert("Orderers".to_owned(), value);
    let policy = "policy /Channel/Orderer/BlockValidation does not fit the consenters";
    refused(&stale, &engine, policy);

    let mut whole = stale;
    let root = whole.channel_group.as_mut().expect("a tree");
    let orderer = root.groups.get_mut(ORDERER).expect("an orderer section");
    set_bft_block_validation(orderer).expect("consenters");
    let none = Filters::default();
    refused(&whole, &none, "transition not supported");
    process(&whole, &engine).expect("there is an engine");
}

#[test]
fn signed_blocks_pass_the_peers_checks() {
    let f = fixture();
    let genesis = f.consortium.genesis();
    let header = genesis.header.as_ref().expect("a header");
    let changed = with_orderer(f.config.config(), "BatchSize", &batch(5 << 20));
    let made = f
        .process(update(f.config.config(), &changed, &[&f.admin]))
        .expect("allowed");
    let config = Arc::new(f.config);
    let mut verifier = BlockVerifier::after(config.clone(), header);
    let mut tip = Tip::after(header);
    let message = normal(&f.client, 10).envelope.encode_to_vec();
    let batches = [
        (vec![message.clone().into(), message.clone().into()], 0),
        (vec![made.envelope.encode_to_vec().into()], 2),
        (vec![message.into()], 2),
    ];
    for (i, (envelopes, last_config)) in batches.into_iter().enumerate() {
        let mut block = tip.next_block(envelopes);
        assert_eq!(block.number(), i as u64 + 1);
        sign_block(
            &mut block,
            last_config,
            Default::default(),
            &f.node,
            [i as u8; 24],
        );
        verifier.verify(&block).expect("the orderer signed it");
        assert_eq!(block.last_config_index().expect("an index"), last_config);
        if last_config == block.number() {
            let envelope = config_transaction(&block).expect("a configuration");
            let (_, next) = open_config(&envelope).expect("a configuration");
            verifier.set_config(Arc::new(config.apply(&next).expect("it follows")));
        }
    }
    let mut foreign = tip.next_block(vec![normal(&f.client, 1).envelope.encode_to_vec().into()]);
    sign_block(&mut foreign, 2, Default::default(), &f.client, [0; 24]);
    let error = verifier
        .verify(&foreign)
        .expect_err("a client is no orderer")
        .to_string();
    assert!(
        error.contains("is not signed as /Channel/Orderer/BlockValidation asks"),
        "{error}"
    );
}

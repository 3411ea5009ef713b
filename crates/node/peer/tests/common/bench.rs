//! Validation of blocks that tests put together, against a state that they write down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_identity::policy::dsl;
use selvage_peer::lifecycle::{BoxError, ChaincodeDefinition, LifecycleError};
use selvage_peer::validator::{Scope, StateView, ValidateError, Validator};
use selvage_proto::common::{Block, BlockData, BlockHeader};
use selvage_proto::peer::application_policy::Type as PolicyType;
use selvage_proto::peer::{
    ApplicationPolicy, CollectionConfig, CollectionConfigPackage, StaticCollectionConfig,
    TxValidationCode as Code, collection_config,
};
use selvage_proto::rwset::TxReadWriteSet;

use super::{Network, Tx, writes};

/// A state before the block that tests write down.
#[derive(Default)]
pub struct World {
    pub known: BTreeSet<String>,
    pub definitions: BTreeMap<String, Arc<ChaincodeDefinition>>,
    pub parameters: BTreeMap<(String, String, Vec<u8>), Bytes>,
    pub garbled: BTreeSet<String>,
    pub broken: bool,
}

impl StateView for World {
    fn has_transaction(&self, tx_id: &str) -> Result<bool, BoxError> {
        if self.broken {
            Err("disk gone".into())
        } else {
            Ok(self.known.contains(tx_id))
        }
    }

    fn state(&self, _: &str, _: &str) -> Result<Option<Bytes>, BoxError> {
        Ok(None)
    }

    fn validation_parameter(
        &self,
        namespace: &str,
        collection: &str,
        key: &[u8],
    ) -> Result<Option<Bytes>, BoxError> {
        let id = (namespace.to_owned(), collection.to_owned(), key.to_vec());
        Ok(self.parameters.get(&id).cloned())
    }

    fn definition(&self, name: &str) -> Result<Option<Arc<ChaincodeDefinition>>, LifecycleError> {
        if name == "_lifecycle" {
            return Ok(Some(Arc::default()));
        }
        if self.garbled.contains(name) {
            return Err(LifecycleError::NotAChaincode("Garbage".into()));
        }
        Ok(self.definitions.get(name).cloned())
    }
}

/// What is broken, how, and the code that follows.
pub type Case<'a> = (&'static str, &'a dyn Fn(&mut Tx), Code);

/// An encoded application policy over a signature policy in text form.
pub fn policy(rule: &str) -> Bytes {
    let policy = dsl::parse(rule).unwrap_or_else(|e| panic!("{rule}: {e}"));
    ApplicationPolicy {
        r#type: Some(PolicyType::SignaturePolicy(policy)),
    }
    .encode_to_vec()
    .into()
}

/// A key-level policy as chaincode stores it.
pub fn key_policy(rule: &str) -> Bytes {
    dsl::parse(rule)
        .unwrap_or_else(|e| panic!("{rule}: {e}"))
        .encode_to_vec()
        .into()
}

pub const BOTH: &str = "AND('OneMSP.peer', 'TwoMSP.peer')";

pub fn definition(rule: &str) -> ChaincodeDefinition {
    let mut definition = ChaincodeDefinition {
        sequence: 1,
        ..Default::default()
    };
    definition.validation.validation_plugin = "vscc".into();
    definition.validation.validation_parameter = policy(rule);
    definition
}

pub fn collection(name: &str, rule: Option<&str>) -> CollectionConfig {
    let endorsement_policy =
        rule.map(|rule| ApplicationPolicy::decode(policy(rule)).expect("policy"));
    let config = StaticCollectionConfig {
        name: name.into(),
        endorsement_policy,
        ..Default::default()
    };
    CollectionConfig {
        payload: Some(collection_config::Payload::StaticCollectionConfig(config)),
    }
}

pub struct Bench {
    pub network: Network,
    pub scope: Arc<Scope>,
    pub validator: Validator,
    pub world: World,
}

impl Bench {
    /// Chaincode `cc` needs both organisations, `easy` only the first.
    pub fn new() -> Self {
        let network = Network::new();
        let config = ChannelConfig::from_block(&network.genesis).expect("configuration");
        let mut world = World::default();
        let mut cc = definition(BOTH);
        cc.collections = CollectionConfigPackage {
            config: vec![
                collection("plain", None),
                collection("first", Some("OR('OneMSP.peer')")),
            ],
        };
        world.definitions.insert("cc".into(), Arc::new(cc));
        world
            .definitions
            .insert("easy".into(), Arc::new(definition("OR('OneMSP.peer')")));
        Self {
            network,
            scope: Arc::new(Scope::new(Arc::new(config))),
            validator: Validator::new(2).expect("threads"),
            world,
        }
    }

    /// A transaction of `cc` that both organisations endorsed.
    pub fn good(&self) -> Tx {
        let endorsers = [&self.network.one.peer, &self.network.two.peer];
        Tx::new(
            &self.network.one.client,
            &endorsers,
            "cc",
            &writes("cc", &[("k", "v")]),
        )
    }

    /// A transaction that only the first organisation endorsed.
    pub fn single(&self, chaincode: &str, results: &TxReadWriteSet) -> Tx {
        Tx::new(
            &self.network.one.client,
            &[&self.network.one.peer],
            chaincode,
            results,
        )
    }

    pub fn codes(&self, envelopes: Vec<Bytes>) -> Result<Vec<Code>, ValidateError> {
        let block = Block {
            header: Some(BlockHeader {
                number: 5,
                ..Default::default()
            }),
            data: Some(BlockData { data: envelopes }),
            metadata: None,
        };
        let prepared = self.validator.prepare(&block, &self.scope);
        Ok(self.validator.judge(&prepared, &self.world)?.codes)
    }

    pub fn check(&self, what: &str, envelope: Bytes, expected: Code) {
        let codes = self
            .codes(vec![envelope])
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(codes, [expected], "{what}");
    }

    pub fn check_all(&self, what: &str, envelopes: Vec<Bytes>, expected: &[Code]) {
        let codes = self
            .codes(envelopes)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(codes, expected, "{what}");
    }
}

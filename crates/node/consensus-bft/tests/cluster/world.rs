//! A channel without certificates: keys that cost nothing, a configuration that names consenters.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use selvage_channel::names::{ORDERER, ORDERERS};
use selvage_consensus_bft::{Judge, Keys, Verifier};
use selvage_crypto::sha256_parts;
use selvage_ordering::{BatchLimits, Parameters};
use selvage_proto::Message as _;
use selvage_proto::common::{
    Block, BlockData, BlockHeader, ChannelHeader, Config, ConfigEnvelope, ConfigGroup, ConfigValue,
    Consenter, Envelope, Header, HeaderType, Orderers, Payload,
};
use selvage_proto::orderer::smartbft::Options;

pub(crate) const CHANNEL: &str = "consortium";

/// Where keys, configuration and messages come from.
pub(crate) trait World {
    fn ids(&self) -> Vec<u32>;
    fn keys(&self, id: u32) -> Arc<dyn Keys>;
    /// The judge of a new node.
    fn judge(&self) -> Arc<dyn Judge>;
    /// A node has a new configuration.
    fn takes_effect(&self, _: &Block) {}
    fn message(&self, text: &str) -> Bytes;
    fn genesis(&self) -> Block;
    /// What a configuration block says.
    fn parameters(&self, block: &Block) -> Parameters;
}

/// A world that costs nothing.
pub(crate) struct Plain {
    consenters: Vec<u32>,
    options: Options,
}

/// "Signs" with a hash that only this test computes for this consenter.
struct Secret(u32);

impl Verifier for Secret {
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        sha256_parts([b"secret".as_slice(), &self.0.to_be_bytes(), message]) == signature
    }
}

impl Keys for Secret {
    fn is_me(&self, consenter: &Consenter) -> bool {
        consenter.id == self.0
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        sha256_parts([b"secret".as_slice(), &self.0.to_be_bytes(), message]).to_vec()
    }

    fn verifier(&self, consenter: &Consenter) -> Result<Arc<dyn Verifier>, String> {
        Ok(Arc::new(Secret(consenter.id)))
    }
}

/// Refuses messages that say so.
struct Taboo;

impl Judge for Taboo {
    fn judge(&self, _: u64, envelope: &Bytes, _: bool) -> Result<(), String> {
        match envelope.windows(9).any(|window| window == b"forbidden") {
            true => Err("it is forbidden".to_owned()),
            false => Ok(()),
        }
    }
}

fn envelope(kind: HeaderType, data: Bytes) -> Bytes {
    let header = ChannelHeader {
        r#type: kind as i32,
        channel_id: CHANNEL.to_owned(),
        ..ChannelHeader::default()
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: header.encode_to_vec().into(),
            signature_header: Bytes::new(),
        }),
        data,
    };
    Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::from_static(b"signature"),
    }
    .encode_to_vec()
    .into()
}

/// A configuration message that names the consenters from then on.
pub(crate) fn config(sequence: u64, consenters: &[u32]) -> Bytes {
    let consenter = |id: &u32| Consenter {
        id: *id,
        host: format!("orderer{id}"),
        identity: id.to_string().into(),
        ..Consenter::default()
    };
    let orderers = Orderers {
        consenter_mapping: consenters.iter().map(consenter).collect(),
    };
    let value = ConfigValue {
        value: orderers.encode_to_vec().into(),
        ..ConfigValue::default()
    };
    let orderer = ConfigGroup {
        values: [(ORDERERS.to_owned(), value)].into(),
        ..ConfigGroup::default()
    };
    let config = ConfigEnvelope {
        config: Some(Config {
            sequence,
            channel_group: Some(ConfigGroup {
                groups: [(ORDERER.to_owned(), orderer)].into(),
                ..ConfigGroup::default()
            }),
        }),
        last_update: None,
    };
    envelope(HeaderType::Config, config.encode_to_vec().into())
}

impl Plain {
    pub(crate) fn new(consenters: impl IntoIterator<Item = u32>) -> Self {
        Self {
            consenters: consenters.into_iter().collect(),
            options: Options::default(),
        }
    }

    pub(crate) fn with_options(self, options: Options) -> Self {
        Self { options, ..self }
    }
}

impl World for Plain {
    fn ids(&self) -> Vec<u32> {
        self.consenters.clone()
    }

    fn keys(&self, id: u32) -> Arc<dyn Keys> {
        Arc::new(Secret(id))
    }

    fn judge(&self) -> Arc<dyn Judge> {
        Arc::new(Taboo)
    }

    fn message(&self, text: &str) -> Bytes {
        let data = Bytes::copy_from_slice(text.as_bytes());
        envelope(HeaderType::EndorserTransaction, data)
    }

    fn genesis(&self) -> Block {
        let data = BlockData {
            data: vec![config(0, &self.consenters)],
        };
        let header = BlockHeader {
            number: 0,
            previous_hash: Bytes::new(),
            data_hash: sha256_parts([data.data[0].as_ref()]).to_vec().into(),
        };
        Block {
            header: Some(header),
            data: Some(data),
            metadata: None,
        }
    }

    fn parameters(&self, block: &Block) -> Parameters {
        let envelope = selvage_channel::config_transaction(block).expect("a configuration");
        let (_, config) = selvage_channel::open_config(&envelope).expect("a configuration");
        let config = config.config.expect("a configuration");
        let root = config.channel_group.expect("a tree");
        let value = root.groups[ORDERER].values[ORDERERS].value.clone();
        let orderers = Orderers::decode(value).expect("consenters");
        Parameters {
            sequence: config.sequence,
            limits: BatchLimits {
                max_messages: 10,
                preferred_bytes: 1 << 20,
            },
            timeout: Duration::from_secs(2),
            metadata: self.options.encode_to_vec().into(),
            consenters: orderers.consenter_mapping.into(),
        }
    }
}

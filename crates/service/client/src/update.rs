//! Changing a channel's configuration: compute the update, gather signatures, send it.

use bytes::Bytes;
use selvage_channel::update::compute;
use selvage_net::deliver::Signer as _;
use selvage_proto::Message as _;
use selvage_proto::common::{Config, ConfigSignature, ConfigUpdateEnvelope, Envelope, HeaderType};

use crate::error::ClientError;
use crate::user::User;

/// A configuration update on its way to enough signatures.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigChange {
    channel_id: String,
    envelope: ConfigUpdateEnvelope,
}

impl ConfigChange {
    /// The update that leads from one configuration to another. Versions in `updated` are ignored.
    pub fn new(channel_id: &str, original: &Config, updated: &Config) -> Result<Self, ClientError> {
        let mut update =
            compute(original, updated).map_err(|e| ClientError::Request(e.to_string()))?;
        channel_id.clone_into(&mut update.channel_id);
        Ok(Self {
            channel_id: channel_id.to_owned(),
            envelope: ConfigUpdateEnvelope {
                config_update: update.encode_to_vec().into(),
                signatures: Vec::new(),
            },
        })
    }

    /// Adds a user's signature.
    pub fn sign(&mut self, user: &User) {
        let signature_header: Bytes = user.signature_header().encode_to_vec().into();
        let update = self.envelope.config_update.as_ref();
        let message = [signature_header.as_ref(), update].concat();
        self.envelope.signatures.push(ConfigSignature {
            signature: user.sign(&message).into(),
            signature_header,
        });
    }

    /// The signed update as orderers take it, sent by a user. Sending adds no signature to it.
    pub fn envelope(&self, sender: &User) -> Envelope {
        let data = self.envelope.encode_to_vec().into();
        sender.envelope(HeaderType::ConfigUpdate, &self.channel_id, data)
    }
}

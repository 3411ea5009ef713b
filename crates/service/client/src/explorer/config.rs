//! Configuration transactions.

use bytes::Bytes;
use selvage_channel::ChannelConfig;
use selvage_channel::update::{changed_elements, open_update};
use selvage_proto::Message as _;
use selvage_proto::common::{ConfigEnvelope, ConfigUpdate, SignatureHeader};
use serde::Serialize;

use super::transaction::IdentityView;

/// A configuration transaction in short.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ConfigView {
    /// The number of configurations before this one.
    pub sequence: u64,
    /// What it changed, as Fabric names elements (`[Value]  /Channel/Orderer/BatchSize`). Empty for
    /// the first configuration.
    pub changes: Vec<String>,
    /// Whose signatures allowed it.
    pub signed_by: Vec<IdentityView>,
    /// The consensus type, with this configuration in force.
    pub consensus: String,
    /// The organisations that order, by MSP id.
    pub orderer_orgs: Vec<String>,
    /// The organisations that run chaincode, by MSP id.
    pub application_orgs: Vec<String>,
}

/// Decodes the data of a configuration transaction as far as it goes; the text says what stopped
/// it.
pub(super) fn view(channel_id: &str, data: &Bytes) -> (ConfigView, Option<String>) {
    let mut view = ConfigView::default();
    let problem = fill(&mut view, channel_id, data).err();
    (view, problem)
}

fn fill(view: &mut ConfigView, channel_id: &str, data: &Bytes) -> Result<(), String> {
    let envelope = ConfigEnvelope::decode(data.clone()).map_err(|e| e.to_string())?;
    if let Some(update) = &envelope.last_update {
        let open = open_update(update).map_err(|e| e.to_string())?;
        for signature in &open.signatures {
            let header = SignatureHeader::decode(signature.signature_header.clone());
            let header = header.map_err(|e| e.to_string())?;
            view.signed_by.push(IdentityView::decode(&header.creator));
        }
        let update = ConfigUpdate::decode(open.config_update).map_err(|e| e.to_string())?;
        view.changes = changed_elements(&update).map_err(|e| e.to_string())?;
    }
    let config = envelope.config.unwrap_or_default();
    view.sequence = config.sequence;
    let config = ChannelConfig::new(channel_id, config).map_err(|e| e.to_string())?;
    if let Some(orderer) = config.orderer() {
        orderer.consensus_type().clone_into(&mut view.consensus);
        view.orderer_orgs = orderer.orgs().values().map(|o| o.msp_id.clone()).collect();
    }
    if let Some(application) = config.application() {
        let orgs = application.orgs().values();
        view.application_orgs = orgs.map(|o| o.msp_id.clone()).collect();
    }
    Ok(())
}

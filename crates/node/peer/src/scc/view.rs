//! A channel's configuration as the lifecycle functions ask about it.

use selvage_channel::ChannelConfig;
use selvage_identity::policy;
use selvage_proto::common::SignaturePolicyEnvelope;

use super::stub::ChannelView;
use crate::report;

impl ChannelView for ChannelConfig {
    fn has_msp(&self, msp_id: &str) -> bool {
        let application = self
            .application()
            .into_iter()
            .flat_map(|a| a.orgs().values());
        let orderer = self.orderer().into_iter().flat_map(|o| o.orgs().values());
        application
            .map(|o| &o.msp_id)
            .chain(orderer.map(|o| &o.msp_id))
            .any(|id| id == msp_id)
    }

    fn knows_identity(&self, serialized: &[u8]) -> bool {
        self.msp_manager().deserialize(serialized).is_ok()
    }

    fn check_policy(&self, envelope: &SignaturePolicyEnvelope) -> Result<(), String> {
        match policy::compile(envelope, self.msp_manager().clone()) {
            Ok(_) => Ok(()),
            Err(e) => Err(report(&e)),
        }
    }

    fn lifecycle_v20(&self) -> bool {
        self.application().is_some_and(|a| a.capabilities().v2_0())
    }
}

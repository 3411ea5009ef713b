//! Chaincode that is part of the peer: `_lifecycle`, `cscc`, `qscc` (Fabric: `core/scc`).

mod cscc;
mod lifecycle;
mod qscc;
mod state;
mod stub;
mod view;

use std::sync::Arc;

use bytes::Bytes;
use selvage_proto::peer::{ChaincodeInput, Response};

#[cfg(test)]
pub(crate) use lifecycle::{Call as LifecycleCall, invoke as invoke_lifecycle};
pub(crate) use lifecycle::{approves, implicit_collection_of};
pub(crate) use state::{CommittedState, SimulatorState};
pub(crate) use stub::{Failure, InstalledPackage, Packages, Place, State};

use crate::chaincode_glue::{Chaincodes, Tx};
use crate::channels::Channels;
use crate::endorser::{Caller, Denied, LocalMsp, acl_check};
use stub::ChannelView;

/// The names of every chaincode a channel has defined.
pub(crate) fn defined_chaincodes(state: &mut dyn State) -> Result<Vec<String>, String> {
    lifecycle::defined_chaincodes(state).map_err(|failure| failure.message)
}

/// Runs system chaincode.
pub(crate) struct SystemChaincodes {
    channels: Arc<Channels>,
    local: LocalMsp,
}

impl SystemChaincodes {
    pub(crate) fn new(channels: Arc<Channels>, local: LocalMsp) -> Self {
        Self { channels, local }
    }

    /// Runs one call; whatever goes wrong is in the response.
    pub(crate) async fn call(
        &self,
        engine: &Chaincodes,
        tx: &mut Tx,
        name: &str,
        input: &ChaincodeInput,
    ) -> Response {
        let args = &input.args;
        match name {
            "_lifecycle" => self.lifecycle(engine, tx, args).await,
            "cscc" => self
                .configuration(tx, args)
                .await
                .unwrap_or_else(Response::from),
            "qscc" => self.query(tx, args).unwrap_or_else(Response::from),
            _ => Failure::new(format!(
                "system chaincode {name} is not available on this peer; chaincode is managed \
                 through _lifecycle"
            ))
            .into(),
        }
    }

    async fn lifecycle(&self, engine: &Chaincodes, tx: &mut Tx, args: &[Bytes]) -> Response {
        let channel_id = tx.channel_id().to_owned();
        let config = tx.config().cloned();
        let view = config.as_deref().map(|c| c as &dyn ChannelView);
        if let Err(failure) = lifecycle::check_call(args, &channel_id, view) {
            return failure.into();
        }
        let function = String::from_utf8_lossy(&args[0]).into_owned();
        if let Err(error) = self.check(tx, &channel_id, &format!("_lifecycle/{function}")) {
            let text = format!("Failed to authorize invocation due to failed ACL check: {error}");
            return Failure::new(text).into();
        }
        if function == "InstallChaincode" {
            return lifecycle::install(&args[1], engine).await;
        }
        let call = lifecycle::Call {
            channel_id: &channel_id,
            view,
            msp_id: self.local.msp_id(),
            packages: engine,
        };
        match tx.simulator_mut() {
            Some(simulator) => {
                let mut state = SimulatorState(simulator);
                lifecycle::invoke(&call, &function, &args[1], Some(&mut state))
            }
            None => lifecycle::invoke(&call, &function, &args[1], None),
        }
    }

    /// May the proposal's creator use a resource of a channel, or of the peer?
    fn check(&self, tx: &Tx, channel_id: &str, resource: &str) -> Result<(), String> {
        let caller = &tx.proposed.caller;
        let unverified;
        // The creator was verified as an identity of the proposal's own channel only.
        let caller = if channel_id == tx.channel_id() {
            caller
        } else {
            unverified = Caller {
                verified: None,
                ..caller.clone()
            };
            &unverified
        };
        let config = self.channels.get(channel_id).map(|c| c.config());
        let checked = acl_check(&self.local, channel_id, config.as_deref(), resource, caller);
        checked.map_err(Denied::logged)
    }
}

/// Refuses calls that come from other chaincode, which could wait for each other.
fn refuse_callers(tx: &Tx, name: &str, refusal: &str) -> Result<(), Failure> {
    let called = &tx.proposed.chaincode;
    if called == name {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{refusal}, original invocation for '{called}'"
    )))
}

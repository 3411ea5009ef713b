//! `selvage invoke` and `selvage query`: one call of a chaincode through the gateway.

use std::path::Path;
use std::sync::Arc;

use selvage_client::{ClientError, Gateway, Invocation, Peer, User};
use selvage_crypto::PrivateKey;
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use selvage_net::Endpoint;
use selvage_net::tls::ClientTls;

use crate::error::ManagerError;
use crate::files::read_limited;
use crate::up::UpReport;

/// Largest certificate or key file.
const MOST: u64 = 64 * 1024;

/// A function to call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Channel; that of the report when absent.
    pub channel: Option<String>,
    /// Chaincode; that of the report when absent.
    pub chaincode: Option<String>,
    /// Function.
    pub function: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallAnswer {
    /// What the chaincode answered.
    pub payload: Vec<u8>,
    /// Transaction id and block, for a submitted transaction.
    pub committed: Option<(String, u64)>,
}

fn failed(error: &ClientError) -> ManagerError {
    ManagerError::Driver(error.text())
}

fn gateway(report: &UpReport, call: &Call) -> Result<Gateway, ManagerError> {
    let at = &report.gateway;
    let read = |path: &Path| read_limited(path, MOST);
    let keys = |source| ManagerError::Keys {
        doing: "use the user's identity",
        source,
    };
    let key = PrivateKey::from_pem(&read(&at.key)?).map_err(keys)?;
    let identity = SigningIdentity::new(&at.msp_id, &read(&at.cert)?, key).map_err(keys)?;
    let origin = at.tls_ca.display().to_string();
    let tls = ClientTls::from_pem(&origin, &read(&at.tls_ca)?, None)
        .map_err(|e| ManagerError::Driver(format!("cannot use {origin}: {e}")))?
        .with_server_name(&at.hostname);
    let peer = Peer::new(&Endpoint::new(&at.endpoint, Some(tls))).map_err(|e| failed(&e))?;
    let channel = call.channel.as_deref().unwrap_or(&report.channel);
    Ok(Gateway::new(
        peer,
        User::new(Arc::new(identity), &Env::real()),
        channel,
    ))
}

/// Calls a function: `submit` orders and commits its transaction, otherwise it only reads.
pub async fn call(
    report: &UpReport,
    call: &Call,
    submit: bool,
) -> Result<CallAnswer, ManagerError> {
    let chaincode = call.chaincode.as_deref().or(report.chaincode.as_deref());
    let chaincode = chaincode.ok_or_else(|| {
        ManagerError::Option(
            "the network was made without a chaincode; name one with --chaincode".to_owned(),
        )
    })?;
    let gateway = gateway(report, call)?;
    let invocation = Invocation::new(chaincode, &call.function).args(&call.args);
    if !submit {
        let payload = gateway
            .evaluate(&invocation, &[])
            .await
            .map_err(|e| failed(&e))?;
        return Ok(CallAnswer {
            payload: payload.to_vec(),
            committed: None,
        });
    }
    let done = gateway
        .submit_transaction(&invocation)
        .await
        .map_err(|e| failed(&e))?;
    Ok(CallAnswer {
        payload: done.result.to_vec(),
        committed: Some((done.tx_id, done.block)),
    })
}

//! Connecting to chaincode that runs as a service (Fabric: `core/chaincode/extcc`).

use futures::StreamExt;
use selvage_chaincode::BoxFuture;
use selvage_chaincode::ccaas::{ServerEndpoint, ServerTls};
use selvage_chaincode::runtime::{ChaincodeStream, ServerDialler};
use selvage_net::services::chaincode_client::ChaincodeClient;
use selvage_net::tls::{ClientTls, TlsIdentity};
use selvage_net::tokio_stream::wrappers::ReceiverStream;
use selvage_net::{Endpoint, MAX_MESSAGE_BYTES, connect};
use selvage_proto::peer::ChaincodeMessage;
use tokio::sync::mpsc;

use crate::report;

/// Messages on their way in either direction. A transaction has one request in flight.
pub(super) const STREAM_QUEUE: usize = 256;

/// Opens `protos.Chaincode/Connect` on services.
#[derive(Debug, Default)]
pub struct ServiceDialler;

impl ServiceDialler {
    async fn open(endpoint: ServerEndpoint) -> Result<ChaincodeStream, String> {
        let tls = endpoint.tls.as_ref().map(client_tls).transpose()?;
        let mut target = Endpoint::new(&endpoint.address, tls);
        target.connect_timeout = endpoint.dial_timeout;
        let channel = connect(&target).map_err(|e| report(&e))?;
        let mut client = ChaincodeClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let (outbound, to_send) = mpsc::channel(STREAM_QUEUE);
        let response = client
            .connect(ReceiverStream::new(to_send))
            .await
            .map_err(|status| format!("{}: {}", status.code(), report(&status)))?;
        Ok(ChaincodeStream {
            inbound: receive(response.into_inner()),
            outbound,
        })
    }
}

/// Reads a gRPC stream into a queue until either side is gone.
pub(super) fn receive(
    mut stream: selvage_net::tonic::Streaming<ChaincodeMessage>,
) -> mpsc::Receiver<ChaincodeMessage> {
    let (received, inbound) = mpsc::channel(STREAM_QUEUE);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = stream.next() => next,
                () = received.closed() => return,
            };
            match next {
                Some(Ok(message)) => {
                    if received.send(message).await.is_err() {
                        return;
                    }
                }
                Some(Err(status)) => {
                    tracing::debug!(error = %report(&status), "chaincode stream ended");
                    return;
                }
                None => return,
            }
        }
    });
    inbound
}

fn client_tls(tls: &ServerTls) -> Result<ClientTls, String> {
    let origin = "connection.json";
    let identity = match &tls.client {
        Some(client) => {
            let (chain, key) = (client.certificate_pem.as_bytes(), client.key_pem.as_bytes());
            Some(TlsIdentity::from_pem(origin, chain, key).map_err(|e| report(&e))?)
        }
        None => None,
    };
    let client = ClientTls::from_pem(origin, tls.root_pem.as_bytes(), identity);
    let client = client.map_err(|e| report(&e))?;
    Ok(match &tls.server_name {
        Some(name) => client.with_server_name(name),
        None => client,
    })
}

impl ServerDialler for ServiceDialler {
    fn dial(&self, endpoint: ServerEndpoint) -> BoxFuture<'_, Result<ChaincodeStream, String>> {
        Box::pin(Self::open(endpoint))
    }
}

//! The chaincode listener: processes that this peer started connect here
//! (Fabric: `ChaincodeSupport.Register`, `core/chaincode/accesscontrol`).

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use selvage_chaincode::runtime::{CertificateIssuer, ClientCertificate, StreamOrigin};
use selvage_crypto::issue::{Authority, LeafProfile, Subject, Validity};
use selvage_env::Clock;
use selvage_net::services::chaincode_support_server::{ChaincodeSupport, ChaincodeSupportServer};
use selvage_net::tls::{ClientAuth, ClientRoots, ServerTls, TlsIdentity, certificates_from_pem};
use selvage_net::tokio_stream::wrappers::ReceiverStream;
use selvage_net::tonic::{Request, Response, Status, Streaming};
use selvage_net::{Connection, MAX_MESSAGE_BYTES};
use selvage_proto::peer::ChaincodeMessage;
use tokio::sync::mpsc;

use super::dialler::{STREAM_QUEUE, receive};
use super::{ChaincodeSetupError, Chaincodes};
use crate::report;

/// The certificate authority between a peer and its chaincode. It lives in memory and ends with
/// the process, so nothing it signed is worth anything afterwards.
pub struct ChaincodeAuthority {
    authority: Authority,
    clock: Arc<dyn Clock>,
}

impl ChaincodeAuthority {
    /// Makes a new authority.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, ChaincodeSetupError> {
        let validity = Validity::ten_years(clock.unix_seconds());
        let subject = Subject::named("chaincode authority of one run of a peer");
        let authority = Authority::new_root(&subject, validity)
            .map_err(|e| ChaincodeSetupError::Authority(report(&e)))?;
        Ok(Self { authority, clock })
    }

    /// TLS for the listener: a certificate for `hosts`, and only clients that this authority
    /// certified.
    pub fn server_tls(&self, hosts: &[&str]) -> Result<ServerTls, ChaincodeSetupError> {
        let validity = Validity::ten_years(self.clock.unix_seconds());
        let name = hosts.first().copied().unwrap_or("localhost");
        let profile = LeafProfile::tls(name, hosts, validity);
        let failed = |e: selvage_crypto::CryptoError| ChaincodeSetupError::Authority(report(&e));
        let (certificate, key) = self.authority.issue_new(&profile).map_err(failed)?;
        let key = key.to_pkcs8_pem().map_err(failed)?;
        let origin = "chaincode listener";
        let identity =
            TlsIdentity::from_pem(origin, certificate.to_pem().as_bytes(), key.as_bytes());
        let roots = certificates_from_pem(origin, self.root_pem().as_bytes());
        let roots = ClientRoots::new(roots.map_err(ChaincodeSetupError::Tls)?);
        let identity = identity.map_err(ChaincodeSetupError::Tls)?;
        Ok(ServerTls::new(identity, ClientAuth::Require(roots)))
    }

    fn root_pem(&self) -> String {
        self.authority.certificate().to_pem()
    }
}

impl std::fmt::Debug for ChaincodeAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChaincodeAuthority")
    }
}

impl CertificateIssuer for ChaincodeAuthority {
    fn issue(&self, package_id: &str) -> Result<ClientCertificate, String> {
        let validity = Validity::ten_years(self.clock.unix_seconds());
        // Names in certificates are short; which package this is for, the registry knows.
        let name: String = package_id.chars().take(60).collect();
        let profile = LeafProfile::tls(&name, &["localhost"], validity);
        let (certificate, key) = self.authority.issue_new(&profile).map_err(|e| report(&e))?;
        Ok(ClientCertificate {
            certificate_pem: certificate.to_pem(),
            key_pem: key.to_pkcs8_pem().map_err(|e| report(&e))?.to_string(),
            certificate_der: Bytes::copy_from_slice(certificate.der()),
            root_pem: self.root_pem(),
        })
    }
}

/// The service `protos.ChaincodeSupport`.
#[derive(Clone)]
pub struct ChaincodeListener {
    chaincodes: Arc<Chaincodes>,
}

impl ChaincodeListener {
    /// Serves streams of the given chaincode.
    pub fn new(chaincodes: Arc<Chaincodes>) -> Self {
        Self { chaincodes }
    }

    /// The gRPC service, with Fabric's message size.
    pub fn into_service(self) -> ChaincodeSupportServer<Self> {
        ChaincodeSupportServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

type Outgoing = Pin<Box<dyn Stream<Item = Result<ChaincodeMessage, Status>> + Send>>;

#[selvage_net::tonic::async_trait]
impl ChaincodeSupport for ChaincodeListener {
    type RegisterStream = Outgoing;

    async fn register(
        &self,
        request: Request<Streaming<ChaincodeMessage>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let connection = Connection::of(request.extensions());
        let origin = StreamOrigin::Accepted {
            client_certificate: connection.and_then(Connection::certificate).cloned(),
        };
        let inbound = receive(request.into_inner());
        let (outbound, to_send) = mpsc::channel(STREAM_QUEUE);
        let runtime = self.chaincodes.runtime().clone();
        tokio::spawn(async move {
            if let Err(error) = runtime.serve(origin, inbound, outbound).await {
                tracing::warn!(error = %report(&error), "chaincode stream refused or lost");
            }
        });
        let outgoing = ReceiverStream::new(to_send).map(Ok);
        Ok(Response::new(Box::pin(outgoing)))
    }
}

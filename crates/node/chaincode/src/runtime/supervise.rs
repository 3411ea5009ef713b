//! Keeps a chaincode running: build, start or dial, wait for registration, start again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::ccaas::{Backoff, ServerEndpoint};

use super::Runtime;
use super::error::LaunchError;
use super::parts::{ClientCertificate, LaunchRequest, StartRequest, StreamOrigin, Target};
use super::registry::{ChaincodeStatus, Found, Link};

/// Tells the registry that a supervisor has ended, however it ends.
struct Release<'a> {
    runtime: &'a Runtime,
    package_id: &'a str,
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.runtime.registry.release(self.package_id);
    }
}

/// How one run of a chaincode ended.
enum Ended {
    /// It was registered and went away.
    AfterReady(String),
    /// It never registered.
    BeforeReady(LaunchError),
    /// We were asked to stop it.
    Stopped,
}

impl Runtime {
    /// The stream of a chaincode, which is started if need be.
    pub(super) async fn ready_link(
        self: &Arc<Self>,
        request: &LaunchRequest,
    ) -> Result<Arc<Link>, LaunchError> {
        let package_id = &request.package_id;
        let mut status = match self.registry.find(package_id)? {
            Found::Ready(link) if *link.ended.borrow() => {
                return Err(LaunchError::Exited(
                    "chaincode stream terminated".to_owned(),
                ));
            }
            Found::Ready(link) if self.registry.status(package_id) == ChaincodeStatus::Ready => {
                return Ok(link);
            }
            // Registered a moment ago: READY is about to be sent.
            Found::Ready(_) => self.registry.subscribe(package_id),
            Found::Starting(status) => status,
            Found::Start(status, stop) => {
                tokio::spawn(self.clone().supervise(request.clone(), stop));
                status
            }
        };
        let waiting = status.wait_for(|status| *status != ChaincodeStatus::Starting);
        let reached = match timeout(self.config.startup_timeout, waiting).await {
            Ok(reached) => reached.map(|status| status.clone()),
            Err(_) => return Err(LaunchError::Timeout(package_id.clone())),
        };
        match reached {
            Ok(ChaincodeStatus::Failed(error)) => Err(error),
            Ok(ChaincodeStatus::Ready) => self
                .registry
                .link(package_id)
                .ok_or_else(|| LaunchError::Exited("chaincode stream terminated".to_owned())),
            Ok(ChaincodeStatus::Stopped | ChaincodeStatus::Starting) | Err(_) => {
                Err(LaunchError::Stopping)
            }
        }
    }

    async fn supervise(self: Arc<Self>, request: LaunchRequest, mut stop: watch::Receiver<bool>) {
        let package_id = &request.package_id;
        let _release = Release {
            runtime: &self,
            package_id,
        };
        let outcome = tokio::select! {
            outcome = self.parts.host.build(package_id) => outcome,
            () = stopped(&mut stop) => return,
        };
        match outcome {
            Ok(target) => self.keep_running(&request, &target, &mut stop).await,
            Err(error) => {
                tracing::error!(package_id, "chaincode build failed: {error}");
                self.registry.set_status(
                    package_id,
                    ChaincodeStatus::Failed(LaunchError::Build(error)),
                );
            }
        }
    }

    /// Runs a chaincode again and again. A first run that never registers ends it: whoever waits
    /// gets the error, and the next launch tries anew.
    async fn keep_running(
        &self,
        request: &LaunchRequest,
        target: &Target,
        stop: &mut watch::Receiver<bool>,
    ) {
        let package_id = &request.package_id;
        let mut backoff = Backoff::default();
        let mut was_ready = false;
        loop {
            let begun = Instant::now();
            let ended = match target {
                Target::Process => self.run_process(request, stop).await,
                Target::Server(endpoint) => self.run_server(endpoint, stop).await,
            };
            match ended {
                Ended::Stopped => return,
                Ended::AfterReady(reason) => {
                    was_ready = true;
                    tracing::warn!(
                        package_id,
                        "chaincode went away: {reason}; it is started again, and what it printed \
                         stands in this log under its name"
                    );
                }
                Ended::BeforeReady(error) => {
                    tracing::error!(package_id, "chaincode did not start: {error}");
                    self.registry
                        .set_status(package_id, ChaincodeStatus::Failed(error));
                    if !was_ready {
                        return;
                    }
                }
            }
            let wait = backoff.after(begun.elapsed());
            tracing::info!(
                package_id,
                "starting chaincode again in {} ms",
                wait.as_millis()
            );
            tokio::select! {
                () = sleep(wait) => {}
                () = stopped(stop) => return,
            }
            self.registry
                .set_status(package_id, ChaincodeStatus::Starting);
        }
    }

    async fn run_process(
        &self,
        request: &LaunchRequest,
        stop: &mut watch::Receiver<bool>,
    ) -> Ended {
        let package_id = &request.package_id;
        let tls = match self
            .parts
            .certificates
            .as_ref()
            .map(|issuer| issuer.issue(package_id))
        {
            Some(Ok(certificate)) => Some(certificate),
            Some(Err(error)) => {
                let error = LaunchError::Certificate(package_id.clone(), error);
                return Ended::BeforeReady(error);
            }
            None => None,
        };
        let certificate = tls
            .as_ref()
            .map(|tls: &ClientCertificate| tls.certificate_der.clone());
        if let Some(der) = &certificate {
            self.registry.add_certificate(der.clone(), package_id);
        }
        let ended = self.run_with_certificate(request, tls, stop).await;
        if let Some(der) = &certificate {
            self.registry.remove_certificate(der);
        }
        ended
    }

    async fn run_with_certificate(
        &self,
        request: &LaunchRequest,
        tls: Option<ClientCertificate>,
        stop: &mut watch::Receiver<bool>,
    ) -> Ended {
        let start = StartRequest {
            package_id: request.package_id.clone(),
            peer_address: self.config.peer_address.clone(),
            msp_id: self.config.msp_id.clone(),
            logging: self.config.logging.clone(),
            tls,
            log_tag: self.log_tag(request),
        };
        let running = match self.parts.host.start(start).await {
            Ok(running) => running,
            Err(error) => return Ended::BeforeReady(LaunchError::Start(error)),
        };
        let mut exited = running.exited;
        // Longer than any caller waits, so that a slow start is there for the caller's next try.
        let again = self.config.registration_timeout;
        let first = self.config.startup_timeout + again;
        let presence = Presence::new(self.registry.subscribe(&request.package_id));
        let reason = tokio::select! {
            reason = &mut exited => reason,
            reason = presence.lost(first, again) => {
                running.stop.stop();
                exited.await;
                reason
            }
            () = stopped(stop) => {
                running.stop.stop();
                exited.await;
                return Ended::Stopped;
            }
        };
        if presence.was_ready() {
            Ended::AfterReady(reason)
        } else {
            Ended::BeforeReady(LaunchError::Exited(reason))
        }
    }

    async fn run_server(
        &self,
        endpoint: &ServerEndpoint,
        stop: &mut watch::Receiver<bool>,
    ) -> Ended {
        let package_id = &endpoint.package_id;
        let failed =
            |reason: String| Ended::BeforeReady(LaunchError::Connect(package_id.clone(), reason));
        let limit = endpoint.dial_timeout;
        let stream = tokio::select! {
            dialled = timeout(limit, self.parts.dialler.dial(endpoint.clone())) => match dialled {
                Ok(Ok(stream)) => stream,
                Ok(Err(reason)) => return failed(reason),
                Err(_) => return failed(format!(
                    "{} did not answer within {} ms",
                    endpoint.address,
                    limit.as_millis()
                )),
            },
            () = stopped(stop) => return Ended::Stopped,
        };
        let presence = Presence::new(self.registry.subscribe(package_id));
        let origin = StreamOrigin::Dialled {
            package_id: package_id.clone(),
        };
        let result = tokio::select! {
            result = self.serve(origin, stream.inbound, stream.outbound) => result,
            () = presence.forever() => return Ended::Stopped,
            () = stopped(stop) => return Ended::Stopped,
        };
        let reason = match result {
            Ok(()) => "the chaincode closed the stream".to_owned(),
            Err(error) => error.to_string(),
        };
        if presence.was_ready() {
            Ended::AfterReady(reason)
        } else {
            failed(reason)
        }
    }

    /// Fabric's logger name of a chaincode container, with name and version as BCS shows them.
    fn log_tag(&self, request: &LaunchRequest) -> String {
        let parts = [
            &self.config.network_id,
            &self.config.peer_id,
            &request.name,
            &request.version,
        ];
        let named: Vec<&str> = parts
            .iter()
            .map(|part| part.as_str())
            .filter(|part| !part.is_empty())
            .collect();
        format!("peer.chaincode.{}", named.join("-"))
    }
}

/// Watches whether a started chaincode registers, and whether it stays.
struct Presence {
    status: watch::Receiver<ChaincodeStatus>,
    ready: AtomicBool,
}

impl Presence {
    fn new(status: watch::Receiver<ChaincodeStatus>) -> Self {
        Self {
            status,
            ready: AtomicBool::new(false),
        }
    }

    fn was_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Resolves when the chaincode has not registered within `first`, or lost its stream and has
    /// not registered again within `again`.
    async fn lost(&self, first: Duration, again: Duration) -> String {
        let mut status = self.status.clone();
        let mut limit = first;
        loop {
            if timeout(limit, until(&mut status, true)).await.is_err() {
                let seconds = limit.as_secs();
                return format!("it runs but has not registered within {seconds} seconds");
            }
            self.ready.store(true, Ordering::Relaxed);
            until(&mut status, false).await;
            limit = again;
        }
    }

    /// Only notes that the chaincode registered.
    async fn forever(&self) {
        let mut status = self.status.clone();
        until(&mut status, true).await;
        self.ready.store(true, Ordering::Relaxed);
        std::future::pending().await
    }
}

async fn until(status: &mut watch::Receiver<ChaincodeStatus>, ready: bool) {
    let reached = status
        .wait_for(|status| (*status == ChaincodeStatus::Ready) == ready)
        .await
        .is_ok();
    if !reached {
        std::future::pending().await
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender is gone when the registry is: that is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

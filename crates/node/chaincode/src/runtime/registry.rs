//! Who is registered, who is starting, and which certificate belongs to whom.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use selvage_proto::peer::ChaincodeMessage;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::shim::{Session, SessionError};

use super::error::LaunchError;
use super::parts::StreamOrigin;

/// Carries the messages of one transaction to the call that runs it.
pub(super) type TxSender = mpsc::Sender<ChaincodeMessage>;

/// Takes a lock whether or not a holder panicked: every change under it is complete by itself.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A registered stream, shared by its reader and the calls that run on it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) session: Mutex<Session<TxSender>>,
    pub(super) outbound: mpsc::Sender<ChaincodeMessage>,
    /// Becomes true when the stream has ended.
    pub(super) ended: watch::Sender<bool>,
    pub(super) calls: Semaphore,
}

/// Whether a chaincode can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChaincodeStatus {
    /// Nobody asked for it, or it was stopped.
    Stopped,
    /// It is being built, started, or started again.
    Starting,
    /// It is registered.
    Ready,
    /// Its last start failed.
    Failed(LaunchError),
}

#[derive(Debug)]
pub(super) struct Entry {
    status: watch::Sender<ChaincodeStatus>,
    link: Option<Arc<Link>>,
    /// Set while a supervisor looks after the chaincode; true asks it to stop.
    supervisor: Option<watch::Sender<bool>>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            status: watch::Sender::new(ChaincodeStatus::Stopped),
            link: None,
            supervisor: None,
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    /// DER of each certificate issued to a running chaincode.
    certificates: HashMap<Bytes, String>,
    stopping: bool,
}

/// Fabric: `HandlerRegistry` together with the certificate map of `accesscontrol`.
#[derive(Debug, Default)]
pub(super) struct Registry {
    inner: Mutex<Inner>,
}

/// What a caller that wants to launch finds.
pub(super) enum Found {
    /// Call it.
    Ready(Arc<Link>),
    /// Wait for a change of status.
    Starting(watch::Receiver<ChaincodeStatus>),
    /// The caller starts a supervisor, which obeys the stop signal.
    Start(watch::Receiver<ChaincodeStatus>, watch::Receiver<bool>),
}

impl Registry {
    pub(super) fn find(&self, package_id: &str) -> Result<Found, LaunchError> {
        let mut inner = lock(&self.inner);
        if let Some(entry) = inner.entries.get(package_id) {
            if let Some(link) = &entry.link {
                return Ok(Found::Ready(link.clone()));
            }
            if entry.supervisor.is_some() {
                return Ok(Found::Starting(entry.status.subscribe()));
            }
        }
        if inner.stopping {
            return Err(LaunchError::Stopping);
        }
        let entry = inner.entries.entry(package_id.to_owned()).or_default();
        let (stop, stop_signal) = watch::channel(false);
        entry.supervisor = Some(stop);
        entry.status.send_replace(ChaincodeStatus::Starting);
        Ok(Found::Start(entry.status.subscribe(), stop_signal))
    }

    pub(super) fn link(&self, package_id: &str) -> Option<Arc<Link>> {
        lock(&self.inner).entries.get(package_id)?.link.clone()
    }

    /// Follows the status of a chaincode.
    pub(super) fn subscribe(&self, package_id: &str) -> watch::Receiver<ChaincodeStatus> {
        let mut inner = lock(&self.inner);
        inner
            .entries
            .entry(package_id.to_owned())
            .or_default()
            .status
            .subscribe()
    }

    pub(super) fn status(&self, package_id: &str) -> ChaincodeStatus {
        let inner = lock(&self.inner);
        inner
            .entries
            .get(package_id)
            .map_or(ChaincodeStatus::Stopped, |entry| {
                entry.status.borrow().clone()
            })
    }

    /// A later status for a supervised chaincode that is not registered.
    pub(super) fn set_status(&self, package_id: &str, status: ChaincodeStatus) {
        let inner = lock(&self.inner);
        if let Some(entry) = inner.entries.get(package_id)
            && entry.link.is_none()
        {
            entry.status.send_replace(status);
        }
    }

    /// The supervisor is done.
    pub(super) fn release(&self, package_id: &str) {
        let mut inner = lock(&self.inner);
        if let Some(entry) = inner.entries.get_mut(package_id) {
            entry.supervisor = None;
            let failed = matches!(*entry.status.borrow(), ChaincodeStatus::Failed(_));
            if entry.link.is_none() && !failed {
                entry.status.send_replace(ChaincodeStatus::Stopped);
            }
        }
    }

    pub(super) fn add_certificate(&self, der: Bytes, package_id: &str) {
        lock(&self.inner)
            .certificates
            .insert(der, package_id.to_owned());
    }

    pub(super) fn remove_certificate(&self, der: &Bytes) {
        lock(&self.inner).certificates.remove(der);
    }

    /// Whether the opener of a stream may be `claimed`.
    pub(super) fn authorise(
        &self,
        origin: &StreamOrigin,
        claimed: &str,
        dev_mode: bool,
    ) -> Result<(), SessionError> {
        let refused = |reason: String| {
            Err(SessionError::Unauthorised {
                claimed: claimed.to_owned(),
                reason,
            })
        };
        let inner = lock(&self.inner);
        match origin {
            StreamOrigin::Dialled { package_id } if package_id == claimed => return Ok(()),
            StreamOrigin::Dialled { package_id } => {
                return refused(format!(
                    "the service that was dialled for {package_id} says it is another chaincode; \
                     set its CORE_CHAINCODE_ID_NAME (or CHAINCODE_ID) to the package id"
                ));
            }
            StreamOrigin::Accepted { client_certificate } => {
                let owner = client_certificate
                    .as_ref()
                    .and_then(|certificate| inner.certificates.get(certificate));
                match owner {
                    Some(owner) if owner != claimed => {
                        return refused(
                            "its TLS certificate belongs to a different chaincode".to_owned(),
                        );
                    }
                    Some(_) => {}
                    // Without TLS no certificate was issued to anyone, so there is none to ask for.
                    None if inner.certificates.values().any(|owner| owner == claimed) => {
                        return refused(
                            "its TLS certificate is missing or not of this peer's \
                                        making"
                                .to_owned(),
                        );
                    }
                    None => {}
                }
            }
        }
        let launched = inner
            .entries
            .get(claimed)
            .is_some_and(|entry| entry.supervisor.is_some());
        if launched || dev_mode {
            return Ok(());
        }
        Err(SessionError::NotLaunched(claimed.to_owned()))
    }

    /// Makes a stream the one that serves `package_id`.
    pub(super) fn register(&self, package_id: &str, link: &Arc<Link>) -> Result<(), SessionError> {
        let mut inner = lock(&self.inner);
        let entry = inner.entries.entry(package_id.to_owned()).or_default();
        if entry.link.is_some() {
            return Err(SessionError::Duplicate(package_id.to_owned()));
        }
        entry.link = Some(link.clone());
        entry.status.send_replace(ChaincodeStatus::Starting);
        Ok(())
    }

    /// `REGISTERED` and `READY` are on their way: calls may begin.
    pub(super) fn ready(&self, package_id: &str) {
        let inner = lock(&self.inner);
        if let Some(entry) = inner.entries.get(package_id) {
            entry.status.send_replace(ChaincodeStatus::Ready);
        }
    }

    /// The stream has ended.
    pub(super) fn deregister(&self, package_id: &str, link: &Arc<Link>) {
        let mut inner = lock(&self.inner);
        let Some(entry) = inner.entries.get_mut(package_id) else {
            return;
        };
        if entry
            .link
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, link))
        {
            entry.link = None;
            let status = if entry.supervisor.is_some() {
                ChaincodeStatus::Starting
            } else {
                ChaincodeStatus::Stopped
            };
            entry.status.send_replace(status);
        }
    }

    /// Asks the supervisor of one chaincode to stop it, and waits until it has.
    pub(super) async fn stop(&self, package_id: &str) {
        let stop = {
            let inner = lock(&self.inner);
            inner
                .entries
                .get(package_id)
                .and_then(|entry| entry.supervisor.clone())
        };
        if let Some(stop) = stop {
            stop.send_replace(true);
            stop.closed().await;
        }
    }

    pub(super) async fn shutdown(&self) {
        let supervisors: Vec<_> = {
            let mut inner = lock(&self.inner);
            inner.stopping = true;
            inner
                .entries
                .values()
                .filter_map(|entry| entry.supervisor.clone())
                .collect()
        };
        for stop in &supervisors {
            stop.send_replace(true);
        }
        for stop in &supervisors {
            stop.closed().await;
        }
    }
}

//! Building and running chaincode on this host, without containers.
//!
//! Fabric's words: this takes the place of the Docker controller, of the platforms behind it, and
//! of the builder for chaincode as a service. A package is built once per host, by its own
//! language's tool, in a cache keyed by its hash; it runs as a confined and supervised process.

mod build;
mod cache;
mod config;
mod limits;
mod output;
mod plan;
mod process;
mod run;
mod sandbox;
mod toolchain;
mod tree;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::BoxFuture;
use crate::ccaas::ServerEndpoint;
use crate::package::{ChaincodeKind, Package};
use crate::runtime::{
    ChaincodeHost, HostError, PackageSource, RunningChaincode, StartRequest, Target,
};

use build::Builder;
use cache::{BuildCache, Built, CacheError};
use process::StopSignal;

pub use config::{HostConfig, RunNetwork};
pub use limits::ProcessLimits;
pub use output::{LogOutput, OutputSink};
pub use sandbox::{Sandbox, SandboxPolicy};

/// Builds and runs chaincode as processes of this host.
pub struct LocalHost {
    inner: Arc<Inner>,
}

struct Inner {
    config: HostConfig,
    packages: Arc<dyn PackageSource>,
    output: Arc<dyn OutputSink>,
    cache: BuildCache,
    sandbox: OnceLock<Result<Sandbox, String>>,
    /// Builds that failed a moment ago.
    failures: Mutex<HashMap<String, (Instant, HostError)>>,
    /// Ends running builds.
    stop_builds: Arc<StopSignal>,
    starts: AtomicU64,
}

impl Drop for LocalHost {
    fn drop(&mut self) {
        self.inner.stop_builds.ask();
    }
}

impl LocalHost {
    /// A host with nothing running. What an earlier run of this peer left in its run folder is
    /// removed.
    pub fn new(
        config: HostConfig,
        packages: Arc<dyn PackageSource>,
        output: Arc<dyn OutputSink>,
    ) -> Self {
        run::sweep(&config.run_dir);
        let cache = BuildCache::new(config.cache_dir.clone(), config.keep_builds);
        let inner = Inner {
            config,
            packages,
            output,
            cache,
            sandbox: OnceLock::new(),
            failures: Mutex::default(),
            stop_builds: Arc::default(),
            starts: AtomicU64::new(0),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The confinement in use, found out by trying it. Blocks for some milliseconds, once.
    pub fn sandbox(&self) -> Result<Sandbox, HostError> {
        self.inner.sandbox()
    }
}

impl ChaincodeHost for LocalHost {
    fn build<'a>(&'a self, package_id: &'a str) -> BoxFuture<'a, Result<Target, HostError>> {
        let inner = self.inner.clone();
        let package_id = package_id.to_owned();
        on_thread("cc-build", move || inner.build(&package_id))
    }

    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<RunningChaincode, HostError>> {
        let inner = self.inner.clone();
        on_thread("cc-start", move || inner.start(request))
    }

    fn build_log(&self, package_id: &str) -> Option<String> {
        let hash = hash_of(package_id)?;
        fs::read_to_string(self.inner.cache.log_path(hash)).ok()
    }
}

/// Runs blocking work on a thread of its own. It goes on when nobody waits any more, so that a
/// retry finds it done, and does not hold up the end of the process.
fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> BoxFuture<'static, Result<T, HostError>> {
    let (sender, receiver) = oneshot::channel();
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _ = sender.send(work());
    });
    Box::pin(async move {
        let failed = |reason: String| HostError::Start {
            package_id: String::new(),
            reason,
        };
        spawned.map_err(|error| failed(format!("cannot start a thread: {error}")))?;
        receiver
            .await
            .unwrap_or_else(|_| Err(failed("the worker has ended".to_owned())))
    })
}

/// The hash in a package id, which names files; `None` when it is not one.
fn hash_of(package_id: &str) -> Option<&str> {
    let (_, hash) = package_id.rsplit_once(':')?;
    let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then_some(hash)
}

impl Inner {
    fn sandbox(&self) -> Result<Sandbox, HostError> {
        let detect = || {
            let found = Sandbox::detect(self.config.sandbox, &self.config.search_path());
            match &found {
                Ok(Sandbox::Unconfined) => tracing::warn!(
                    "chaincode runs unconfined: it can read whatever the peer's user can"
                ),
                Ok(sandbox) => tracing::info!("chaincode is confined with {}", sandbox.name()),
                Err(error) => tracing::error!("{error}"),
            }
            found
        };
        self.sandbox
            .get_or_init(detect)
            .clone()
            .map_err(HostError::Sandbox)
    }

    fn open(&self, package_id: &str) -> Result<Package, HostError> {
        let file = self
            .packages
            .package(package_id)
            .map_err(|reason| HostError::Store {
                package_id: package_id.to_owned(),
                reason,
            })?
            .ok_or_else(|| HostError::NotInstalled(package_id.to_owned()))?;
        let damaged = |reason: String| HostError::Package {
            package_id: package_id.to_owned(),
            reason,
        };
        let package = Package::open(&file).map_err(|error| damaged(error.to_string()))?;
        if package.id() != package_id {
            return Err(damaged(format!(
                "its contents are those of '{}'",
                package.id()
            )));
        }
        Ok(package)
    }

    fn build(&self, package_id: &str) -> Result<Target, HostError> {
        if let Some(key) = self.known_key(package_id)
            && matches!(self.cache.find(&key), Ok(Some(_)))
        {
            return Ok(Target::Process);
        }
        let package = self.open(package_id)?;
        match package.kind() {
            ChaincodeKind::Service => self.service(&package).map(Target::Server),
            ChaincodeKind::Other(kind) => Err(HostError::Unsupported(format!(
                "Unknown chaincodeType: {kind}; this peer builds golang, node and java, and \
                 anything else runs as a service of your own (type ccaas)"
            ))),
            _ => self.built(&package).map(|_| Target::Process),
        }
    }

    /// The key of a package that was built before, found without opening it: its id is its hash,
    /// and every kind of chaincode has a key of its own.
    fn known_key(&self, package_id: &str) -> Option<String> {
        let hash = hash_of(package_id)?;
        [
            ChaincodeKind::Node,
            ChaincodeKind::Golang,
            ChaincodeKind::Java,
        ]
        .iter()
        .map(|kind| key(hash, kind))
        .find(|key| matches!(self.cache.find(key), Ok(Some(_))))
    }

    fn service(&self, package: &Package) -> Result<ServerEndpoint, HostError> {
        let failed = |reason: String| HostError::Package {
            package_id: package.id().to_owned(),
            reason,
        };
        let json = package
            .connection_json()
            .ok_or_else(|| failed("connection.json not found in the chaincode package".into()))?;
        ServerEndpoint::from_connection_json(package.id(), json, &self.config.service_variables)
            .map_err(|error| failed(error.to_string()))
    }

    fn built(&self, package: &Package) -> Result<Built, HostError> {
        let package_id = package.id();
        self.recent_failure(package_id)?;
        let hash = hash_of(package_id).unwrap_or_default();
        let sandbox = self.sandbox()?;
        let builder = Builder {
            config: &self.config,
            sandbox: &sandbox,
            cache: &self.cache,
            stop: &self.stop_builds,
        };
        let result = self
            .cache
            .get(&key(hash, package.kind()), |folder| {
                builder.build(package, folder)
            })
            .map_err(|error| match error {
                CacheError::Build(reason) => HostError::Build {
                    package_id: package_id.to_owned(),
                    reason,
                },
                CacheError::Io(path, error) => disk_error(&path, &error),
            });
        if let Err(error) = &result {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.insert(package_id.to_owned(), (Instant::now(), error.clone()));
        }
        result
    }

    /// A build that has just failed would fail again and keep others waiting.
    fn recent_failure(&self, package_id: &str) -> Result<(), HostError> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, (when, _)| when.elapsed() < self.config.failure_memory);
        match failures.get(package_id) {
            Some((_, error)) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn start(&self, request: StartRequest) -> Result<RunningChaincode, HostError> {
        let built = match self
            .known_key(&request.package_id)
            .map(|key| self.cache.find(&key))
        {
            Some(Ok(Some(built))) => built,
            _ => self.built(&self.open(&request.package_id)?)?,
        };
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        run::start(
            &self.config,
            &self.sandbox()?,
            &self.output,
            built,
            request,
            number,
        )
    }
}

/// Names a build. Code compiled for one processor, or against one kind of runtime, is not code
/// for another.
fn key(hash: &str, kind: &ChaincodeKind) -> String {
    format!("{hash}-{}-{}", kind.as_str(), std::env::consts::ARCH)
}

fn disk_error(path: &Path, error: &std::io::Error) -> HostError {
    HostError::Disk {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests;

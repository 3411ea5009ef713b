//! Starting a built chaincode with the environment that Fabric gives it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::package::ChaincodeKind;
use crate::runtime::{ClientCertificate, HostError, RunningChaincode, StartRequest, StopHandle};

use super::cache::{Built, create_private, remove_folder};
use super::config::{HostConfig, RunNetwork};
use super::output::{OutputSink, Throttle};
use super::plan::address_args;
use super::process::{self, Spec, StopSignal};
use super::sandbox::Sandbox;
use super::toolchain::Toolchain;

const FOLDER_PREFIX: &str = "cc-";

struct Stop(Arc<StopSignal>);

impl StopHandle for Stop {
    fn stop(&self) {
        self.0.ask();
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.ask();
    }
}

/// Removes what an earlier run left behind.
pub(super) fn sweep(run_dir: &Path) {
    let Ok(entries) = fs::read_dir(run_dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(FOLDER_PREFIX)
            && let Err(error) = remove_folder(&entry.path())
        {
            tracing::warn!("cannot remove {}: {error}", entry.path().display());
        }
    }
}

pub(super) fn start(
    config: &HostConfig,
    sandbox: &Sandbox,
    output: &Arc<dyn OutputSink>,
    built: Built,
    request: StartRequest,
    number: u64,
) -> Result<RunningChaincode, HostError> {
    let own = config.run_dir.join(format!("{FOLDER_PREFIX}{number}"));
    let failed = |reason: String| HostError::Start {
        package_id: request.package_id.clone(),
        reason,
    };
    let prepared = prepare(&own, request.tls.as_ref());
    prepared.map_err(|error| HostError::Disk {
        path: own.clone(),
        reason: error.to_string(),
    })?;
    let spec = spec(config, sandbox, &built, &request, &own).map_err(&failed)?;
    let stop = Arc::new(StopSignal::default());
    let (sender, exited) = oneshot::channel();
    let tag = request.log_tag.clone();
    let sink = output.clone();
    let mut throttle = Throttle::new(Instant::now());
    let on_line = move |line: &str| {
        let (admitted, note) = throttle.admit(Instant::now());
        if let Some(note) = note {
            sink.line(&tag, &note);
        }
        if admitted {
            sink.line(&tag, line);
        }
    };
    let tag = request.log_tag.clone();
    let sink = output.clone();
    let folder = own.clone();
    let on_exit = move |exit: process::Exit| {
        sink.line(&tag, &exit.to_string());
        if let Err(error) = remove_folder(&folder) {
            tracing::warn!("cannot remove {}: {error}", folder.display());
        }
        // The build may be evicted from here on.
        drop(built);
        let _ = sender.send(exit.to_string());
    };
    process::start(spec, sandbox, stop.clone(), on_line, on_exit).map_err(|error| {
        let _ = remove_folder(&own);
        failed(error.to_string())
    })?;
    Ok(RunningChaincode {
        exited: Box::pin(async move {
            exited
                .await
                .unwrap_or_else(|_| "its watcher has ended".to_owned())
        }),
        stop: Box::new(Stop(stop)),
    })
}

/// Files for one run: TLS material under the names that Fabric's containers have, and a place for
/// temporary files when the confinement brings none.
fn prepare(folder: &Path, tls: Option<&ClientCertificate>) -> io::Result<()> {
    remove_folder(folder)?;
    create_private(folder)?;
    create_private(&folder.join("tmp"))?;
    let Some(tls) = tls else {
        return Ok(());
    };
    let files = [
        ("client_pem.key", tls.key_pem.clone()),
        ("client_pem.crt", tls.certificate_pem.clone()),
        ("client.key", base64(tls.key_pem.as_bytes())),
        ("client.crt", base64(tls.certificate_pem.as_bytes())),
        ("peer.crt", tls.root_pem.clone()),
    ];
    create_private(&folder.join("tls"))?;
    for (name, contents) in files {
        let path = folder.join("tls").join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(contents.as_bytes())?;
    }
    Ok(())
}

fn spec(
    config: &HostConfig,
    sandbox: &Sandbox,
    built: &Built,
    request: &StartRequest,
    own: &Path,
) -> Result<Spec, String> {
    let kind = ChaincodeKind::parse(&built.manifest.kind);
    // Go chaincode is a program by itself; the others need their runtime.
    let tools = match kind {
        ChaincodeKind::Golang => None,
        _ => Some(Toolchain::find(&kind, &config.search_path())?),
    };
    let cwd = built.folder.join(&built.manifest.folder);
    let program = match &tools {
        _ if built.manifest.program.contains('/') => cwd.join(&built.manifest.program),
        Some(tools) => tools.program(&built.manifest.program),
        None => PathBuf::from(&built.manifest.program),
    };
    let mut args: Vec<OsString> = built.manifest.args.iter().map(OsString::from).collect();
    args.extend(
        address_args(&kind, &request.peer_address)
            .into_iter()
            .map(OsString::from),
    );
    let mut read_only = vec![built.folder.clone()];
    read_only.extend(tools.iter().flat_map(|tools| tools.roots.iter().cloned()));
    read_only.extend(config.read_only_paths.iter().cloned());
    let (temporary, writable) = match sandbox {
        Sandbox::Bubblewrap(_) => (PathBuf::from("/tmp"), Vec::new()),
        Sandbox::Landlock | Sandbox::Unconfined => (own.join("tmp"), vec![own.join("tmp")]),
    };
    if request.tls.is_some() {
        read_only.push(own.join("tls"));
    }
    let mut env: BTreeMap<OsString, OsString> = config
        .run_environment
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let search_path = tools.as_ref().map_or_else(
        || "/usr/local/bin:/usr/bin:/bin".into(),
        |t| t.search_path(),
    );
    env.insert("PATH".into(), search_path);
    env.insert("HOME".into(), temporary.clone().into());
    env.insert("TMPDIR".into(), temporary.into());
    env.insert("LANG".into(), "C.UTF-8".into());
    for (name, value) in memory_environment(&kind, config.run_limits.memory) {
        env.entry(name.into()).or_insert_with(|| value.into());
    }
    env.extend(fabric_environment(request, &own.join("tls")));
    Ok(Spec {
        program,
        args,
        env,
        cwd,
        read_only,
        writable,
        limits: config.run_limits,
        timeout: None,
        connect_only: match config.run_network {
            RunNetwork::Host => None,
            RunNetwork::PeerOnly => Some(port_of(&request.peer_address)?),
        },
    })
}

fn port_of(address: &str) -> Result<u16, String> {
    let port = address
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok());
    port.ok_or_else(|| format!("the peer's chaincode address '{address}' has no port"))
}

/// Has the language's own memory management stay below the limit that the watcher enforces.
fn memory_environment(kind: &ChaincodeKind, limit: u64) -> Vec<(&'static str, String)> {
    let mib = limit >> 20;
    match kind {
        ChaincodeKind::Node => {
            vec![(
                "NODE_OPTIONS",
                format!("--max-old-space-size={}", mib * 3 / 4),
            )]
        }
        ChaincodeKind::Golang => vec![("GOMEMLIMIT", format!("{}MiB", mib * 9 / 10))],
        ChaincodeKind::Java => vec![("JAVA_TOOL_OPTIONS", format!("-Xmx{}m", mib * 3 / 4))],
        ChaincodeKind::Service | ChaincodeKind::Other(_) => Vec::new(),
    }
}

/// What Fabric's Docker controller sets.
fn fabric_environment(request: &StartRequest, tls: &Path) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = vec![
        (
            "CORE_CHAINCODE_ID_NAME".into(),
            request.package_id.clone().into(),
        ),
        (
            "CORE_CHAINCODE_LOGGING_LEVEL".into(),
            request.logging.level.clone().into(),
        ),
        (
            "CORE_CHAINCODE_LOGGING_SHIM".into(),
            request.logging.shim.clone().into(),
        ),
        (
            "CORE_CHAINCODE_LOGGING_FORMAT".into(),
            request.logging.format.clone().into(),
        ),
        ("CORE_PEER_LOCALMSPID".into(), request.msp_id.clone().into()),
    ];
    if request.tls.is_none() {
        env.push(("CORE_PEER_TLS_ENABLED".into(), "false".into()));
        return env;
    }
    env.push(("CORE_PEER_TLS_ENABLED".into(), "true".into()));
    for (name, file) in [
        ("CORE_TLS_CLIENT_KEY_PATH", "client.key"),
        ("CORE_TLS_CLIENT_CERT_PATH", "client.crt"),
        ("CORE_TLS_CLIENT_KEY_FILE", "client_pem.key"),
        ("CORE_TLS_CLIENT_CERT_FILE", "client_pem.crt"),
        ("CORE_PEER_TLS_ROOTCERT_FILE", "peer.crt"),
    ] {
        env.push((name.into(), tls.join(file).into()));
    }
    env
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

//! Chaincode as the configuration wants it.

use std::sync::Arc;
use std::time::Duration;

use selvage_chaincode::host::{HostConfig, LocalHost, LogOutput, SandboxPolicy};
use selvage_chaincode::runtime::{ChaincodeHost, ChaincodeLogging, PackageSource, RuntimeConfig};
use selvage_chaincode::shim::{Offer, QueryLimits};
use selvage_env::Env;

use super::NodeError;
use super::listeners::Bound;
use super::local::Identities;
use crate::chaincode_glue::{ChaincodeParts, Chaincodes, ServiceDialler, packages_folder};
use crate::channels::Channels;
use crate::config::{SettingError, Settings};

/// Puts the chaincode of this peer together. Nothing runs yet.
pub(crate) fn assemble(
    settings: &Settings,
    env: &Env,
    channels: &Arc<Channels>,
    identities: &Identities,
    bound: &Bound,
    dev: bool,
) -> Result<Arc<Chaincodes>, NodeError> {
    let host = host_config(settings)?;
    let data = settings.data_dir();
    Chaincodes::new(ChaincodeParts {
        env: env.clone(),
        packages: packages_folder(&data),
        channels: channels.clone(),
        local: identities.local.clone(),
        runtime: runtime_config(settings, &bound.chaincode_address(settings), dev)?,
        host: Box::new(move |packages: Arc<dyn PackageSource>| {
            Arc::new(LocalHost::new(host, packages, Arc::new(LogOutput))) as Arc<dyn ChaincodeHost>
        }),
        authority: bound.authority.clone(),
        dialler: Arc::new(ServiceDialler),
        install_timeout: settings.core.chaincode.install_timeout.0,
    })
    .map_err(NodeError::Chaincode)
}

fn host_config(settings: &Settings) -> Result<HostConfig, NodeError> {
    let chaincode = &settings.core.chaincode;
    if let Some(builder) = chaincode.external_builders.first() {
        tracing::warn!(
            builder = builder.name,
            "external builders have no effect: this peer builds Go and Node chaincode and \
             chaincode-as-a-service itself"
        );
    }
    let data = settings.data_dir();
    let cache = match chaincode.build_cache.as_str() {
        "" => data.join("chaincode").join("builds"),
        folder => settings.path(folder),
    };
    let mut config = HostConfig::new(cache, data.join("chaincode").join("run"));
    config.sandbox = match chaincode.sandbox.as_str() {
        "auto" => SandboxPolicy::Auto,
        "bubblewrap" => SandboxPolicy::Bubblewrap,
        "landlock" => SandboxPolicy::Landlock,
        "off" => SandboxPolicy::Off,
        other => {
            return Err(unsupported(
                "chaincode.sandbox",
                format!("{other:?} is none of auto, bubblewrap, landlock, off"),
            ));
        }
    };
    config.build_timeout = chaincode.install_timeout.0;
    config.run_limits.memory = chaincode.memory;
    Ok(config)
}

fn runtime_config(
    settings: &Settings,
    peer_address: &str,
    dev: bool,
) -> Result<RuntimeConfig, NodeError> {
    let (peer, chaincode) = (&settings.core.peer, &settings.core.chaincode);
    let dev_mode = match chaincode.mode.as_str() {
        "net" => dev,
        "dev" => true,
        other => {
            let detail = format!("{other:?} is neither net nor dev");
            return Err(unsupported("chaincode.mode", detail));
        }
    };
    let params = &chaincode.runtime_params;
    let keepalive = u64::try_from(chaincode.keepalive)
        .ok()
        .filter(|seconds| *seconds > 0);
    Ok(RuntimeConfig {
        peer_address: peer_address.to_owned(),
        msp_id: peer.local_msp_id.clone(),
        network_id: peer.network_id.clone(),
        peer_id: peer.id.clone(),
        execute_timeout: chaincode.executetimeout.0,
        startup_timeout: chaincode.startuptimeout.0,
        keepalive: keepalive.map(Duration::from_secs),
        dev_mode,
        offer: Offer {
            use_write_batch: params.use_write_batch,
            max_size_write_batch: params.max_size_write_batch,
            use_get_multiple_keys: params.use_get_multiple_keys,
            max_size_get_multiple_keys: params.max_size_get_multiple_keys,
        },
        queries: QueryLimits {
            total: i32::try_from(settings.core.ledger.state.total_query_limit).unwrap_or(i32::MAX),
            ..QueryLimits::default()
        },
        logging: ChaincodeLogging {
            level: chaincode.logging.level.clone(),
            shim: chaincode.logging.shim.clone(),
            format: chaincode.logging.format.clone(),
        },
        ..RuntimeConfig::default()
    })
}

fn unsupported(key: &'static str, detail: String) -> NodeError {
    NodeError::Setting(SettingError::Unsupported { key, detail })
}

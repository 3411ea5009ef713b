//! `selvage deploy`: sends a chaincode to the service and says what becomes of it.

use selvage_manager::control::Running;
use selvage_manager::{DeployAnswer, DeployRequest, read_source};

use crate::options::{DeployOptions, Language};
use crate::service::progress;
use crate::{Failure, say};

pub(crate) async fn deploy(options: &DeployOptions) -> Result<(), Failure> {
    let data = &options.data.data;
    // Read first: a wrong path is the commonest mistake, and needs no service to be seen.
    let (path, without) = (options.path.clone(), data.clone());
    let file = tokio::task::spawn_blocking(move || read_source(&path, &without))
        .await
        .map_err(|e| Failure::Words(format!("reading the chaincode broke off: {e}")))??;
    let running = Running::reach(data).await.ok_or_else(|| {
        Failure::Words(format!(
            "no service runs in {0}; start it with: selvage up --detach --data {0}",
            data.display()
        ))
    })?;
    let language = options.lang.map(|l| match l {
        Language::Node => "node",
        Language::Go => "go",
        Language::Java => "java",
    });
    let request = DeployRequest {
        name: options.name.clone(),
        version: options.version.clone(),
        language: language.map(str::to_owned),
        channel: options.channel.clone(),
    };
    let answer = running.deploy(&request, &file, &progress).await?;
    say::result(words(&answer, data).as_bytes())
}

fn words(answer: &DeployAnswer, data: &std::path::Path) -> String {
    let DeployAnswer {
        name,
        version,
        channel,
        sequence,
        package_id,
    } = answer;
    format!(
        "Chaincode {name} {version} answers in the channel {channel} (sequence {sequence})\n\
         Package   {package_id}\n\
         Call      selvage invoke --data {} --channel {channel} --chaincode {name} FUNCTION \
         ARGUMENTS\n",
        data.display()
    )
}

//! `selvage deploy`: sends a chaincode to the service and says what becomes of it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use selvage_manager::control::Running;
use selvage_manager::{DeployAnswer, DeployRequest, LOG_FILE, read_source, shell};

use crate::options::{DeployOptions, Language};
use crate::service::progress;
use crate::{Failure, say};

pub(crate) async fn deploy(options: &DeployOptions) -> Result<(), Failure> {
    let data = &options.data.data;
    let language = options.lang.map(|l| match l {
        Language::Node => "node",
        Language::Go => "go",
        Language::Java => "java",
    });
    // Read first: a wrong path is the commonest mistake, and needs no service to be seen.
    let (path, without) = (options.path.clone(), data.clone());
    let source = tokio::task::spawn_blocking(move || read_source(&path, &without, language))
        .await
        .map_err(|e| Failure::Words(format!("reading the chaincode broke off: {e}")))??;
    source.taken.into_iter().for_each(progress);
    let running = Running::reach(data).await.ok_or_else(|| {
        Failure::Words(format!(
            "no service runs in {}; start it with: {} up --detach --data {}",
            data.display(),
            shell::program(),
            shell::quoted(data)
        ))
    })?;
    let request = DeployRequest {
        name: options.name.clone(),
        version: options.version.clone(),
        language: language.map(str::to_owned),
        channel: options.channel.clone(),
    };
    let begun = AtomicBool::new(false);
    let heard = |line| {
        begun.store(true, Ordering::Relaxed);
        progress(line);
    };
    let answer = tokio::select! {
        answer = running.deploy(&request, &source.file, &heard) => answer?,
        _ = tokio::signal::ctrl_c() => {
            let begun = begun.load(Ordering::Relaxed);
            return Err(Failure::Words(interrupted(&request, begun, data)));
        }
    };
    say::result(words(&answer, data).as_bytes())
}

/// What becomes of a deployment whose owner has gone.
fn interrupted(request: &DeployRequest, begun: bool, data: &Path) -> String {
    let name = &request.name;
    let state = if begun {
        "the service goes on with it until it has ended, and refuses another one until then"
    } else {
        "the service goes on with it if it has all of the chaincode, else nothing is done"
    };
    let channel = match &request.channel {
        Some(channel) => format!(" --channel {channel}"),
        None => String::new(),
    };
    format!(
        "no longer waiting for {name}; {state}. Its steps and its end are in {} (or in the terminal \
         of `selvage up`); once it is there, this answers: {} query --data {}{channel} \
         --chaincode {name} org.hyperledger.fabric:GetMetadata",
        data.join(LOG_FILE).display(),
        shell::program(),
        shell::quoted(data)
    )
}

fn words(answer: &DeployAnswer, data: &Path) -> String {
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
         Call      {} invoke --data {} --channel {channel} --chaincode {name} FUNCTION ARGUMENTS\n",
        shell::program(),
        shell::quoted(data)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_interrupts_is_told_that_the_work_goes_on() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let request = DeployRequest {
            name: "basic".to_owned(),
            version: None,
            language: None,
            channel: Some("c".to_owned()),
        };
        let text = interrupted(&request, true, folder.path());
        let look = format!(
            "{} query --data {} --channel c --chaincode basic",
            shell::program(),
            folder.path().display()
        );
        let log = folder.path().join("manager.log").display().to_string();
        for part in ["the service goes on", &log, &look] {
            assert!(text.contains(part), "{part:?} is missing in: {text}");
        }
        let text = interrupted(&request, false, folder.path());
        assert!(text.contains("if it has all of the chaincode"), "{text}");
    }
}

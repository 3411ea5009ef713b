//! The Selvage service from the command line: `up`, `down`, `deploy`, `invoke`, `query`, `bench`.
//!
//! `up` makes a Fabric network on this machine, or finds it again: it starts the manager, in this
//! process or detached, and asks it over its control socket. Everything lies in one data folder.

mod deploy;
mod options;
mod say;
mod service;

use std::process::ExitCode;

use clap::Parser;
use selvage_manager::{Call, Target, UpAnswer, shell};

use options::{CallOptions, Command, Options};

/// What ends a command badly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The manager could not do it.
    #[error(transparent)]
    Manager(#[from] selvage_manager::ManagerError),
    /// The load generator could not do it.
    #[error(transparent)]
    Bench(#[from] selvage_loadgen::BenchError),
    /// The system could not do it.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Something else, in words.
    #[error("{0}")]
    Words(String),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let service = matches!(options.command, Command::Serve(_) | Command::Up(_));
    log(service);
    // Two threads are enough for a console and leave the cores to the nodes.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(options.command)),
        Err(source) => Err(Failure::System {
            what: "cannot start threads".to_owned(),
            source,
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::note(format_args!("selvage: {}", with_causes(&error)));
            match error {
                Failure::Manager(selvage_manager::ManagerError::Locked { .. }) => {
                    ExitCode::from(service::LOCKED)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// The error with causes that it does not name itself.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Logs go to standard error; `RUST_LOG` chooses more or less of them.
fn log(service: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        if service {
            "warn,selvage_manager=info"
        } else {
            "warn"
        }
        .into()
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(options) if options.detach => {
            let answer = service::up_detached(&options).await?;
            print(&answer, options.json, &options.data.data)
        }
        Command::Up(options) => service::up_here(&options).await,
        Command::Serve(options) => service::serve(&options).await,
        Command::Down(options) => service::down(&options.data).await,
        Command::Invoke(options) => invoke(&options, true).await,
        Command::Query(options) => invoke(&options, false).await,
        Command::Deploy(options) => deploy::deploy(&options).await,
        Command::Bench(arguments) => {
            let report = selvage_loadgen::cli::run(arguments).await?;
            say::result(format!("{report}\n").as_bytes())
        }
    }
}

async fn invoke(options: &CallOptions, submit: bool) -> Result<(), Failure> {
    let mut target = match &options.profile {
        Some(profile) => Target::of_profile(profile)?,
        None => Target::of_data(&options.data.data)?,
    };
    if let (Some(cert), Some(key)) = (&options.user_cert, &options.user_key) {
        target = target.with_user(cert.clone(), key.clone());
    }
    let call = Call {
        channel: options.channel.clone(),
        chaincode: options.chaincode.clone(),
        function: options.function.clone(),
        args: options.args.clone(),
    };
    let answer = selvage_manager::call(&target, &call, submit).await?;
    if let Some((id, block)) = &answer.committed {
        say::note(format_args!("transaction {id} committed in block {block}"));
    }
    let mut payload = answer.payload.to_vec();
    if !payload.is_empty() {
        payload.push(b'\n');
    }
    say::result(&payload)
}

/// Prints what there is: console and password, SDK files, a line to copy.
pub(crate) fn print(answer: &UpAnswer, json: bool, data: &std::path::Path) -> Result<(), Failure> {
    let text = if json {
        serde_json::to_string_pretty(&answer.report)
            .map_err(|e| Failure::Words(format!("cannot print the report: {e}")))?
            + "\n"
    } else {
        words(answer, data)
    };
    say::result(text.as_bytes())
}

fn words(answer: &UpAnswer, data: &std::path::Path) -> String {
    let report = &answer.report;
    let mut text = format!(
        "Console   {}   user {}   first password {}\n\
         SDK       {}\n\
         User      {}\n",
        report.console,
        answer.user,
        answer.password,
        answer.sdk.display(),
        report.gateway.cert.display(),
    );
    let (program, data) = (shell::program(), shell::quoted(data));
    // One that may be run again, and by somebody who has created assets already.
    let line = match &report.chaincode {
        Some(_) => format!("{program} invoke --data {data} Put greeting hello"),
        None => format!("deploy a chaincode first: {program} deploy --data {data} NAME FOLDER"),
    };
    text.push_str(&format!("Submit    {line}\n"));
    text
}

//! Running the service, here or detached.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use selvage_manager::control::{self, Running};
use selvage_manager::{
    CancellationToken, DataDir, LOG_FILE, Manager, ManagerError, NO_CHAINCODE, Portal, Programs,
    Sample, Settings, UpAnswer, UpRequest, UpTurn, holder, is_held, shell,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::options::{
    self, Consensus, Data, NODE_HOST, NetworkOptions, ServeOptions, Sign, UpOptions,
};
use crate::say::note;
use crate::{Failure, print};

include!(concat!(env!("OUT_DIR"), "/samples.rs"));

/// Where console and API listen unless told otherwise: the port of BCS's agent.
const PORTAL: &str = "127.0.0.1:30603";
/// Where nodes listen unless told otherwise.
const NODE_LISTEN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Any free port.
const ANY: &str = "127.0.0.1:0";
/// File in the data folder that keeps the address of the console.
const PORTAL_FILE: &str = "portal";
/// How often a starting service is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long a service may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the system may take to give back the port of a killed service.
const MOMENT: Duration = Duration::from_secs(3);
/// How often `up` asks again when a service hangs up.
const HANG_UPS: u32 = 5;
/// Exit status when another service has the data folder; sysexits.h calls it EX_TEMPFAIL.
pub(crate) const LOCKED: u8 = 75;

fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Failure {
    move |source| Failure::System {
        what: what.into(),
        source,
    }
}

pub(crate) fn progress(line: String) {
    note(format_args!("  {line}"));
}

fn request(options: NetworkOptions) -> UpRequest {
    let consensus = |consensus| match consensus {
        Consensus::Solo => "solo",
        Consensus::Raft => "etcdraft",
        Consensus::Bft => "SFLIC",
    };
    let sign = |sign| match sign {
        Sign::Ecdsa => "ECDSA",
        Sign::Sm2 => "sm2",
    };
    let chaincode = |sample| match sample {
        options::Sample::Node => "node",
        options::Sample::Go => "go",
        options::Sample::None => NO_CHAINCODE,
    };
    UpRequest {
        orgs: options.orgs,
        consensus: options.consensus.map(consensus).map(str::to_owned),
        orderers: options.orderers,
        sign_algorithm: options.sign.map(sign).map(str::to_owned),
        chaincode: options.chaincode.map(chaincode).map(str::to_owned),
        node_ous: options.node_ous,
    }
}

fn settings(options: &ServeOptions) -> Result<Settings, Failure> {
    let folders = match &options.programs {
        Some(folder) => vec![folder.clone()],
        None => {
            let own = std::env::current_exe();
            let own = own.map_err(system("cannot tell where this program is"))?;
            own.parent().map(Path::to_owned).into_iter().collect()
        }
    };
    Ok(Settings {
        programs: Programs::new(folders),
        node_host: options.node_host.clone(),
        node_listen: options.node_listen.unwrap_or(NODE_LISTEN),
        samples: vec![
            Sample {
                language: "node",
                files: NODE,
            },
            Sample {
                language: "go",
                files: GO,
            },
        ],
    })
}

/// Takes the address asked for; without one, that of the last time or the usual one, and any other
/// when somebody else has it.
async fn portal(data: &Path, options: &ServeOptions) -> Result<Portal, Failure> {
    let kept = std::fs::read_to_string(data.join(PORTAL_FILE)).unwrap_or_default();
    let kept = kept.trim().parse::<SocketAddr>().ok();
    let wanted = match (&options.listen, kept) {
        (Some(address), _) => address.clone(),
        (None, Some(kept)) => kept.to_string(),
        (None, None) => PORTAL.to_owned(),
    };
    let own = kept.is_some_and(|kept| kept.to_string() == wanted);
    let began = tokio::time::Instant::now();
    loop {
        match Portal::bind(data, &wanted, options.tls).await {
            // A manager that was killed keeps its port a moment longer than its folder.
            Err(ManagerError::Listen { .. }) if own && began.elapsed() < MOMENT => {
                tokio::time::sleep(LOOK).await;
            }
            Err(ManagerError::Listen { .. }) if options.listen.is_none() => {
                return Ok(Portal::bind(data, ANY, options.tls).await?);
            }
            other => return Ok(other?),
        }
    }
}

/// Refuses what would be refused anyway, before anything is written.
fn check(options: &ServeOptions, wish: &UpRequest) -> Result<(), Failure> {
    wish.check()?;
    let listen = match &options.listen {
        Some(listen) => Some(Portal::check(listen, options.tls)?),
        None => None,
    };
    // In a folder that is there a service may be running, at this very address.
    if options.data.data.exists() {
        return Ok(());
    }
    let programs = settings(options)?.programs;
    for program in ["peer", "orderer"] {
        programs.find(program)?;
    }
    if let Some(address) = listen {
        Portal::probe(address)?;
    }
    Ok(())
}

/// A service that runs in this process.
struct Service {
    manager: Manager,
    portal: tokio::task::JoinHandle<Result<(), ManagerError>>,
    control: tokio::task::JoinHandle<Result<(), ManagerError>>,
    stop: CancellationToken,
    asked: mpsc::Receiver<()>,
}

impl Service {
    async fn start(options: &ServeOptions) -> Result<Self, Failure> {
        let data = DataDir::open(&options.data.data)?;
        let portal = portal(data.path(), options).await?;
        let path = data.path().join(PORTAL_FILE);
        std::fs::write(&path, portal.address().to_string())
            .map_err(system(format!("cannot write {}", path.display())))?;
        let manager = Manager::start(data, settings(options)?).await?;
        manager.set_portal(&portal.url());
        let stop = CancellationToken::new();
        let (ask, asked) = mpsc::channel(1);
        let control = tokio::spawn(control::serve(manager.clone(), ask));
        let portal = tokio::spawn(portal.serve(manager.clone(), stop.clone()));
        Ok(Self {
            manager,
            portal,
            control,
            stop,
            asked,
        })
    }

    /// Waits for a signal or an owner's wish, then ends everything in order.
    async fn until_told(mut self) -> Result<(), Failure> {
        let listen = |kind| signal(kind).map_err(system("cannot listen for signals"));
        let mut term = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        // A terminal that closes must not end a detached service.
        let mut hangup = listen(SignalKind::hangup())?;
        let outcome = loop {
            tokio::select! {
                _ = term.recv() => break Ok(()),
                _ = interrupt.recv() => break Ok(()),
                _ = self.asked.recv() => break Ok(()),
                _ = hangup.recv() => {}
                ended = &mut self.control => break flat(ended),
                ended = &mut self.portal => break flat(ended),
            }
        };
        self.control.abort();
        self.stop.cancel();
        self.manager.stop().await;
        outcome
    }
}

fn flat(ended: Result<Result<(), ManagerError>, tokio::task::JoinError>) -> Result<(), Failure> {
    match ended {
        Ok(outcome) => Ok(outcome?),
        Err(error) => Err(Failure::Words(format!("the service broke off: {error}"))),
    }
}

/// What is said about options that a running service, or a network that is there, cannot follow.
fn passed_over(options: &ServeOptions, answer: &UpAnswer, running: bool) -> Vec<String> {
    let report = &answer.report;
    let mut lines = Vec::new();
    let (scheme, console) = report
        .api
        .split_once("://")
        .unwrap_or(("", report.api.as_str()));
    let mut ignored = Vec::new();
    // Port 0 asks for any, which the service has.
    let other = |l: &&str| *l != console && !l.ends_with(":0");
    if let Some(listen) = options.listen.as_deref().filter(other) {
        ignored.push(format!("--listen {listen}"));
    }
    if options.tls && scheme != "https" {
        ignored.push("--tls".to_owned());
    }
    // The answer does not tell where the nodes listen: whoever asks is told that nothing changes.
    if let Some(listen) = options.node_listen {
        ignored.push(format!("--node-listen {listen}"));
    }
    if running && !ignored.is_empty() {
        lines.push(format!(
            "{} was ignored: the service runs already, at {}; stop it first with: {} down --data {}",
            ignored.join(" "),
            report.console,
            shell::program(),
            shell::quoted(&options.data.data)
        ));
    }
    let node = report.gateway.endpoint.as_str();
    let host = node.rsplit_once(':').map_or(node, |(host, _)| host);
    if options.node_host != NODE_HOST && options.node_host != host {
        lines.push(format!(
            "--node-host {} was ignored: the network in this folder was made for {host}, and its \
             certificates name that; choose another folder with --data for another network",
            options.node_host
        ));
    }
    lines
}

/// `selvage serve`.
pub(crate) async fn serve(options: &ServeOptions) -> Result<(), Failure> {
    Service::start(options).await?.until_told().await
}

/// Waits until no other `selvage up` works on the folder: the network is made once, and who fails
/// stops no manager that somebody else just asks.
async fn turn(data: &Path) -> Result<UpTurn, Failure> {
    let mut told = false;
    loop {
        if let Some(turn) = UpTurn::take(data)? {
            return Ok(turn);
        }
        if !told {
            progress(format!(
                "another selvage up works on {}; waiting for it",
                data.display()
            ));
            told = true;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// `selvage up`: the service runs here until it is interrupted.
pub(crate) async fn up_here(options: &UpOptions) -> Result<(), Failure> {
    let data = &options.data.data;
    let wish = request(options.network);
    check(options, &wish)?;
    let turn = turn(data).await?;
    let began = tokio::time::Instant::now();
    let service = loop {
        let tried = match Running::reach(data).await {
            Some(running) => running.up(&wish, &progress).await.map(Some),
            None => Ok(None),
        };
        match tried {
            Ok(Some(answer)) => {
                print(&answer, options.json, data)?;
                let lines = passed_over(options, &answer, true);
                lines.into_iter().for_each(progress);
                note(format_args!(
                    "It was running already; stop it with: {} down --data {}",
                    shell::program(),
                    shell::quoted(data)
                ));
                return Ok(());
            }
            Ok(None) => match Service::start(options).await {
                // It begins or ends just now: soon it can be reached, or the folder is free.
                Err(Failure::Manager(ManagerError::Locked { .. }))
                    if began.elapsed() < PATIENCE => {}
                started => break started?,
            },
            // It ended just now.
            Err(ManagerError::HungUp { .. }) if began.elapsed() < PATIENCE => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK).await;
    };
    let outcome = tokio::select! {
        outcome = service.manager.up(&wish, &progress) => outcome,
        _ = tokio::signal::ctrl_c() => Err(ManagerError::Option("interrupted".to_owned())),
    };
    let outcome = match outcome {
        Ok(answer) => print(&answer, options.json, data).map(|()| answer),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(answer) => {
            drop(turn);
            let lines = passed_over(options, &answer, false);
            lines.into_iter().for_each(progress);
            note("Press Ctrl-C to stop.");
            service.until_told().await
        }
        Err(error) => {
            service.stop.cancel();
            service.manager.stop().await;
            Err(error)
        }
    }
}

/// `selvage up --detach`: the service runs in a process of its own.
pub(crate) async fn up_detached(options: &UpOptions) -> Result<UpAnswer, Failure> {
    let data = &options.data.data;
    let wish = request(options.network);
    check(options, &wish)?;
    let _turn = turn(data).await?;
    let mut started = None;
    let mut hung_up = 0;
    let outcome = loop {
        let running = reach_or_start(options, &mut started).await?;
        match running.up(&wish, &progress).await {
            // A manager that was killed a moment ago took the question with it; the next one is
            // asked again. One that was started here and is gone has said why in its log.
            Err(ManagerError::HungUp { .. }) if hung_up < HANG_UPS && !is_gone(&mut started)? => {
                hung_up += 1;
            }
            outcome => break outcome,
        }
    };
    // What was started for nothing is not left behind.
    if outcome.is_err()
        && let Some(child) = &started
        && i32::try_from(child.id()).ok() == holder(data)
        && let Some(running) = Running::reach(data).await
    {
        running.down(data).await?;
    }
    let answer = outcome?;
    let lines = passed_over(options, &answer, started.is_none());
    lines.into_iter().for_each(progress);
    Ok(answer)
}

/// Whether a service was started here and has ended.
fn is_gone(started: &mut Option<Child>) -> Result<bool, Failure> {
    match started {
        None => Ok(false),
        Some(child) => {
            let ended = child.try_wait();
            Ok(ended.map_err(system("cannot watch the service"))?.is_some())
        }
    }
}

/// Reaches the service of the folder. When nobody has the folder, one is started; when it ends
/// instead of answering, its last words are the error.
async fn reach_or_start(
    options: &ServeOptions,
    started: &mut Option<Child>,
) -> Result<Running, Failure> {
    let data = &options.data.data;
    let began = tokio::time::Instant::now();
    loop {
        if let Some(running) = Running::reach(data).await {
            return Ok(running);
        }
        let ended = match started.as_mut() {
            None => None,
            Some(child) => child
                .try_wait()
                .map_err(system("cannot watch the service"))?,
        };
        // Looking whether the folder is held holds it for an instant: not while a service starts
        // here. While somebody else has it, that service begins or ends just now.
        if (started.is_none() || ended.is_some()) && !is_held(data) {
            match ended {
                None => *started = Some(spawn(options)?),
                // It met somebody who had the folder and has left it since.
                Some(status) if status.code() == Some(i32::from(LOCKED)) => {
                    *started = Some(spawn(options)?);
                }
                Some(_) => return Err(Failure::Words(last_words(&data.join(LOG_FILE)))),
            }
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::Words(format!(
                "the service does not answer within {} seconds; see {}",
                PATIENCE.as_secs(),
                data.join(LOG_FILE).display()
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn spawn(options: &ServeOptions) -> Result<Child, Failure> {
    let data = &options.data.data;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(system(format!(
            "cannot make the folder {}; choose another one with --data",
            data.display()
        )))?;
    let path = data.join(LOG_FILE);
    let open = || {
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(system(format!(
                "cannot write {}; choose another folder with --data",
                path.display()
            )))
    };
    let own = std::env::current_exe().map_err(system("cannot tell where this program is"))?;
    let mut command = Command::new(own);
    command.arg("serve").arg("--data").arg(data);
    if let Some(listen) = &options.listen {
        command.arg("--listen").arg(listen);
    }
    if options.tls {
        command.arg("--tls");
    }
    if let Some(programs) = &options.programs {
        command.arg("--programs").arg(programs);
    }
    if let Some(listen) = options.node_listen {
        command.arg("--node-listen").arg(listen.to_string());
    }
    command
        .arg("--node-host")
        .arg(&options.node_host)
        .stdin(Stdio::null())
        .stdout(open()?)
        .stderr(open()?)
        .process_group(0);
    command.spawn().map_err(system("cannot start the service"))
}

/// The error a service printed before it ended.
fn last_words(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(4096)))?;
        let mut bytes = Vec::new();
        file.take(4096).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let line = text
        .lines()
        .rev()
        .find(|l| !l.trim().is_empty())
        .unwrap_or_default();
    match line.strip_prefix("selvage: ") {
        Some(reason) => reason.to_owned(),
        None => format!("the service ended; see {}: {line}", log.display()),
    }
}

/// `selvage down`.
pub(crate) async fn down(data: &Data) -> Result<(), Failure> {
    let data = &data.data;
    let began = tokio::time::Instant::now();
    loop {
        match Running::reach(data).await {
            Some(running) => match running.down(data).await {
                Ok(()) => {
                    note(format_args!(
                        "Stopped. The data stays in {}",
                        data.display()
                    ));
                    return Ok(());
                }
                // It was killed a moment ago.
                Err(ManagerError::HungUp { .. }) if began.elapsed() < PATIENCE => {}
                Err(error) => return Err(error.into()),
            },
            // While somebody has the folder, its service begins or ends just now.
            None if is_held(data) && began.elapsed() < PATIENCE => {}
            None => break,
        }
        tokio::time::sleep(LOOK).await;
    }
    // No manager: it was killed, or never ran. Nodes may be left of it.
    let nodes = control::stop_leftovers(data).await;
    if nodes == 0 {
        note(format_args!("Nothing runs in {}", data.display()));
    } else {
        note(format_args!(
            "No service ran; its nodes are stopped. The data stays in {}",
            data.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Command as Parsed, Options};
    use clap::Parser as _;
    use selvage_manager::{GatewayReport, UpReport};

    fn answer(endpoint: &str) -> UpAnswer {
        UpAnswer {
            report: UpReport {
                console: "http://127.0.0.1:30603/".to_owned(),
                api: "http://127.0.0.1:30603".to_owned(),
                ak: String::new(),
                sk: String::new(),
                project_id: String::new(),
                blockchain_id: String::new(),
                channel: "channel".to_owned(),
                chaincode: None,
                gateway: GatewayReport {
                    endpoint: endpoint.to_owned(),
                    tls_ca: "ca".into(),
                    hostname: String::new(),
                    msp_id: String::new(),
                    cert: "cert".into(),
                    key: "key".into(),
                },
            },
            user: String::new(),
            password: String::new(),
            sdk: "sdk".into(),
            resumed: true,
        }
    }

    fn parsed(line: &str) -> UpOptions {
        match Options::try_parse_from(line.split_whitespace()) {
            Ok(Options {
                command: Parsed::Up(up),
            }) => up,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn lines(options: &str, running: bool) -> Vec<String> {
        let up = parsed(&format!("selvage up --data /d {options}"));
        passed_over(&up, &answer("127.0.0.1:7051"), running)
    }

    #[test]
    fn options_that_are_not_followed_are_named() {
        assert!(lines("", true).is_empty());
        assert!(lines("--listen 127.0.0.1:30603", true).is_empty());
        let moved = "--listen 127.0.0.1:4000 --tls --node-listen 0.0.0.0";
        // A service that starts here follows them.
        assert!(lines(moved, false).is_empty());
        let told = lines(moved, true).join("\n");
        assert!(
            told.contains("--listen 127.0.0.1:4000 --tls --node-listen 0.0.0.0 was ignored"),
            "{told}"
        );
        assert!(told.contains("http://127.0.0.1:30603/"), "{told}");
        assert!(told.contains(" down --data /d"), "{told}");
        for running in [false, true] {
            let told = lines("--node-host chain.example", running).join("\n");
            assert!(told.contains("made for 127.0.0.1"), "{told}");
        }
    }

    #[tokio::test]
    async fn a_start_that_is_refused_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let data = folder.path().join("data");
        let programs = folder.path().join("bin");
        std::fs::create_dir(&programs).expect("folder");
        let refused = async |options: &str, part: &str| {
            let (data, programs) = (data.display(), programs.display());
            let line = format!("selvage up --data {data} --programs {programs} {options}");
            let up = parsed(&line);
            for outcome in [up_here(&up).await, up_detached(&up).await.map(|_| ())] {
                let error = outcome.expect_err(part).to_string();
                assert!(error.contains(part), "{part:?} is missing in: {error}");
            }
            assert!(!up.data.data.exists(), "{options}");
        };
        refused("", "the program `peer` is not in").await;
        for program in ["peer", "orderer"] {
            let path = programs.join(program);
            OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o755)
                .open(path)
                .expect("a program");
        }
        refused("--listen nowhere", "--listen takes host:port").await;
        refused("--listen 0.0.0.0:0", "add --tls").await;
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("its address");
        let listen = format!("--listen {address}");
        refused(&listen, "another process uses this port").await;
        refused("--orgs 1000", "at most").await;
    }
}

//! A running manager's back door for its owner: a socket in the data folder over which `selvage up`,
//! `selvage down` and `selvage deploy` speak to it, one JSON object a line; a chaincode to deploy
//! follows its line as bytes. Who may open the folder may use it.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::chaincode::{DeployAnswer, DeployRequest, MOST_FILE};
use crate::driver::local::stop_in_folder;
use crate::error::ManagerError;
use crate::files;
use crate::service::Manager;
use crate::up::{UpAnswer, UpRequest};

/// Longest line.
const LINE: u64 = 64 * 1024;
/// Lines of progress that may wait for a slow reader.
const WAITING: usize = 64;
/// Name of the socket in the folder `run`.
const SOCKET: &str = "control.sock";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "op")]
enum Question {
    Up(UpRequest),
    Deploy {
        request: DeployRequest,
        /// Bytes of the file behind this line.
        size: usize,
    },
    Down,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Progress(String),
    Up(Box<UpAnswer>),
    Deployed(DeployAnswer),
    Down,
    Failed(String),
}

/// The socket's folder, open. Socket paths may have only about a hundred bytes, so the socket is
/// reached through the descriptor of its folder, however long the folder's own path is.
fn short_path(run: &Path) -> Result<(std::fs::File, PathBuf), ManagerError> {
    let folder =
        std::fs::File::open(run).map_err(|e| ManagerError::file("open the folder", run, e))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()));
    Ok((folder, path))
}

/// Answers owners until the manager stops. `stop` is told when one asks for the end.
pub async fn serve(manager: Manager, stop: mpsc::Sender<()>) -> Result<(), ManagerError> {
    let run = manager.data().join("run");
    files::make_dir(&run)?;
    let (_folder, path) = short_path(&run)?;
    // Left over from a manager that was killed; the lock says that none runs.
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(ManagerError::file(
            "remove the old socket",
            run.join(SOCKET),
            error,
        ));
    }
    let listener = UnixListener::bind(&path)
        .map_err(|e| ManagerError::file("listen on", run.join(SOCKET), e))?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the control socket");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let (manager, stop) = (manager.clone(), stop.clone());
        tokio::spawn(async move {
            if let Err(error) = answer(manager, stop, stream).await {
                tracing::debug!(%error, "an owner hung up");
            }
        });
    }
}

async fn answer(
    manager: Manager,
    stop: mpsc::Sender<()>,
    stream: UnixStream,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = String::new();
    (&mut read).take(LINE).read_line(&mut line).await?;
    match serde_json::from_str(&line) {
        Ok(Question::Down) => {
            send(&mut write, &Line::Down).await?;
            let _ = stop.send(()).await;
        }
        Ok(Question::Up(request)) => {
            let work = async |say: Said| match manager.up(&request, &say.closure()).await {
                Ok(answer) => Line::Up(Box::new(answer)),
                Err(error) => Line::Failed(error.to_string()),
            };
            told(&mut write, work).await?;
        }
        Ok(Question::Deploy { request, size }) => {
            let file = file(&mut read, size).await?;
            let work = async |say: Said| {
                let deploying = manager.clone();
                let work = async move { deploying.deploy(request, file, &say.closure()).await };
                match manager.detached(work).await {
                    Ok(answer) => Line::Deployed(answer),
                    Err(error) => Line::Failed(error.to_string()),
                }
            };
            told(&mut write, work).await?;
        }
        Err(error) => send(&mut write, &Line::Failed(error.to_string())).await?,
    }
    Ok(())
}

/// Reads the file behind a question.
async fn file(read: &mut (impl AsyncRead + Unpin), size: usize) -> std::io::Result<Bytes> {
    if size > MOST_FILE {
        return Err(std::io::Error::other("the file is too large"));
    }
    let mut file = vec![0; size];
    read.read_exact(&mut file).await?;
    Ok(file.into())
}

/// Progress on its way to an owner.
struct Said(mpsc::Sender<String>);

impl Said {
    fn closure(self) -> impl Fn(String) + Send + Sync {
        move |text| {
            // Progress is for people; a full queue may lose some of it.
            let _ = self.0.try_send(text);
        }
    }
}

/// Does work and sends its progress, then its outcome.
async fn told(
    write: &mut (impl AsyncWriteExt + Unpin),
    work: impl AsyncFnOnce(Said) -> Line,
) -> std::io::Result<()> {
    let (lines, mut said) = mpsc::channel(WAITING);
    let work = work(Said(lines));
    tokio::pin!(work);
    let last = loop {
        tokio::select! {
            biased;
            Some(text) = said.recv() => send(write, &Line::Progress(text)).await?,
            last = &mut work => break last,
        }
    };
    while let Ok(text) = said.try_recv() {
        send(write, &Line::Progress(text)).await?;
    }
    send(write, &last).await
}

async fn send(write: &mut (impl AsyncWriteExt + Unpin), line: &Line) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// A running manager, seen from another process.
#[derive(Debug)]
pub struct Running {
    stream: UnixStream,
}

impl Running {
    /// Reaches the manager of a data folder; none when no manager answers there. One that was just
    /// killed may still be reached and then hangs up: the system takes a moment to end it.
    pub async fn reach(data: &Path) -> Option<Self> {
        let (_folder, path) = short_path(&data.join("run")).ok()?;
        Some(Self {
            stream: UnixStream::connect(path).await.ok()?,
        })
    }

    async fn ask(
        self,
        question: &Question,
        file: &[u8],
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Line, ManagerError> {
        let lost = |source: std::io::Error| ManagerError::HungUp { source };
        let (read, mut write) = self.stream.into_split();
        let mut text =
            serde_json::to_vec(question).map_err(|e| ManagerError::Option(e.to_string()))?;
        text.push(b'\n');
        write.write_all(&text).await.map_err(lost)?;
        write.write_all(file).await.map_err(lost)?;
        let mut lines = BufReader::new(read).lines();
        while let Some(text) = lines.next_line().await.map_err(lost)? {
            let line = serde_json::from_str(&text).map_err(|e| ManagerError::Corrupt {
                what: "answer",
                reason: e.to_string(),
            })?;
            match line {
                Line::Progress(text) => say(text),
                Line::Failed(reason) => return Err(ManagerError::Driver(reason)),
                other => return Ok(other),
            }
        }
        Err(lost(std::io::ErrorKind::UnexpectedEof.into()))
    }

    /// Asks for the network.
    pub async fn up(
        self,
        request: &UpRequest,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<UpAnswer, ManagerError> {
        match self.ask(&Question::Up(request.clone()), &[], say).await? {
            Line::Up(answer) => Ok(*answer),
            other => Err(ManagerError::Driver(format!(
                "the manager answered {other:?}"
            ))),
        }
    }

    /// Asks for a chaincode to be deployed. The work goes on when this is given up.
    pub async fn deploy(
        self,
        request: &DeployRequest,
        file: &[u8],
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<DeployAnswer, ManagerError> {
        let question = Question::Deploy {
            request: request.clone(),
            size: file.len(),
        };
        match self.ask(&question, file, say).await? {
            Line::Deployed(answer) => Ok(answer),
            other => Err(ManagerError::Driver(format!(
                "the manager answered {other:?}"
            ))),
        }
    }

    /// Asks for the end and waits until the data folder is free.
    pub async fn down(self, data: &Path) -> Result<(), ManagerError> {
        self.ask(&Question::Down, &[], &|_| ()).await?;
        let mut left = 3000;
        while crate::data_dir::is_held(data) {
            left -= 1;
            if left == 0 {
                return Err(ManagerError::Driver(
                    "the manager does not end; see manager.log".to_owned(),
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// Stops the nodes that a killed manager left running in a data folder; answers how many folders of
/// nodes there are.
pub async fn stop_leftovers(data: &Path) -> usize {
    let folders = |path: PathBuf| -> Vec<PathBuf> {
        std::fs::read_dir(path)
            .map(|entries| entries.flatten().map(|e| e.path()).collect())
            .unwrap_or_default()
    };
    let nodes: Vec<PathBuf> = folders(data.join("instances"))
        .into_iter()
        .flat_map(|instance| folders(instance.join("nodes")))
        .collect();
    futures::future::join_all(nodes.iter().map(|n| stop_in_folder(n))).await;
    nodes.len()
}

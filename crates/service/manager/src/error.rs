//! Failures of the manager that are not answers to a request.

use std::path::PathBuf;

use selvage_manager_api::{ApiError, ErrorCode};

use crate::shell;

/// What can go wrong while the manager starts or works.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// A file or folder could not be used.
    #[error("cannot {action} {path}: {hint}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Cause in words, with the remedy where there is one.
        hint: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The folder belongs to a running manager.
    #[error(
        "{path} is in use by a manager with process id {pid}; stop it with `{} down --data {}` or \
         choose another folder with --data",
        shell::program(),
        shell::quoted(.path)
    )]
    Locked {
        /// The data folder.
        path: PathBuf,
        /// The other process; 0 when it could not be read.
        pid: i32,
    },
    /// The volume is nearly full.
    #[error("{path} has {free_mb} MB free and needs {needed_mb} MB; free some space or use --data")]
    DiskFull {
        /// The data folder.
        path: PathBuf,
        /// Megabytes free.
        free_mb: u64,
        /// Megabytes needed.
        needed_mb: u64,
    },
    /// The console cannot listen where it should.
    #[error("{reason}; or choose another address for the console with --listen")]
    Listen {
        /// The address asked for.
        address: String,
        /// Why not, with the address.
        reason: String,
    },
    /// An option contradicts another or is not possible.
    #[error("{0}")]
    Option(String),
    /// The database failed.
    #[error("the management database failed while it should {doing}: {source}")]
    Store {
        /// What was tried.
        doing: &'static str,
        /// The database's error.
        source: sqlx::Error,
    },
    /// The database holds something this version cannot read.
    #[error("the management database holds an unreadable {what}: {reason}")]
    Corrupt {
        /// Which column.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The manager ended while it was asked: it was killed or stopped, or it failed.
    #[error("the manager hung up: {source}; its log is manager.log in the data folder")]
    HungUp {
        /// How the connection to it ended.
        source: std::io::Error,
    },
    /// The node driver failed.
    #[error("{0}")]
    Driver(String),
    /// Key material could not be made or read.
    #[error("cannot {doing}: {source}")]
    Keys {
        /// What was tried.
        doing: &'static str,
        /// The library's error.
        source: selvage_crypto::CryptoError,
    },
    /// A user's certificate or key cannot be used.
    #[error("{path} cannot be used as a user's certificate or key: {source}")]
    Identity {
        /// The file.
        path: PathBuf,
        /// The library's error.
        source: selvage_crypto::CryptoError,
    },
    /// A genesis block could not be made.
    #[error("cannot make the genesis block of {channel}: {source}")]
    Genesis {
        /// The channel.
        channel: String,
        /// The library's error.
        source: Box<selvage_channel::genesis::GenesisError>,
    },
}

impl ManagerError {
    /// A file failure; out-of-space and permission errors get their remedy.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: std::io::Error,
    ) -> Self {
        let path = path.into();
        let hint = match source.kind() {
            std::io::ErrorKind::PermissionDenied => format!(
                "{source}; give this user the right to write there or choose another folder \
                 with --data"
            ),
            std::io::ErrorKind::StorageFull => {
                format!("{source}; free some space on this volume")
            }
            std::io::ErrorKind::ReadOnlyFilesystem
            | std::io::ErrorKind::AlreadyExists
            | std::io::ErrorKind::NotADirectory => {
                format!("{source}; choose another folder with --data")
            }
            _ => source.to_string(),
        };
        Self::File {
            action,
            path,
            hint,
            source,
        }
    }

    /// For `map_err` on queries.
    pub(crate) fn store(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Store { doing, source }
    }
}

impl From<ManagerError> for ApiError {
    fn from(error: ManagerError) -> Self {
        tracing::error!(%error, "request failed inside the manager");
        Self::new(
            ErrorCode::Internal,
            format!("Internal Server Error: {error}"),
        )
    }
}

//! Volumes in memory that can be small, full or read-only. Making one takes root.

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// A `tmpfs`, unmounted when dropped.
pub struct Volume {
    folder: tempfile::TempDir,
}

impl Volume {
    /// A volume of so many MiB; `None`, said loudly, where mounting is not allowed.
    ///
    /// # Panics
    /// When the environment says `CI=true`, where such tests have to run.
    pub fn new(mib: u32) -> Option<Self> {
        let folder = tempfile::Builder::new()
            .prefix("volume-")
            .tempdir()
            .unwrap();
        let made = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mib}m,mode=700"),
                "tmpfs",
            ])
            .arg(folder.path())
            .output();
        let reason = match made {
            Ok(output) if output.status.success() => return Some(Self { folder }),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "a volume cannot be mounted, so a test cannot run: {reason}"
        );
        eprintln!("NOT RUN: a volume cannot be mounted without root: {reason}");
        None
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves no byte free.
    ///
    /// # Panics
    /// When something but the end of the space stops it.
    pub fn fill(&self) {
        let mut filler = std::fs::File::create(self.filler()).unwrap();
        for chunk in [1 << 20, 4096, 1] {
            let zeros = vec![0; chunk];
            while let Ok(()) = filler.write_all(&zeros) {}
        }
    }

    /// Gives the space back.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn drain(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> std::path::PathBuf {
        self.path().join("filler")
    }

    /// Makes it read-only.
    ///
    /// # Panics
    /// When files on it are open for writing.
    pub fn read_only(&self) {
        let status = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(self.path())
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily: a process that still looks into it must not keep it in the table.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

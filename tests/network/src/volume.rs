//! Volumes that can be small, full, read-only or broken. Making one takes root.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system, unmounted when dropped.
pub struct Volume {
    folder: tempfile::TempDir,
    /// The file that stands for a disk; none for a volume in memory.
    image: Option<tempfile::NamedTempFile>,
}

impl Volume {
    /// A volume in memory of so many MiB; `None`, said loudly, where mounting is not allowed.
    ///
    /// # Panics
    /// When the environment says `CI=true`, where such tests have to run.
    pub fn new(mib: u32) -> Option<Self> {
        let folder = mount_point();
        let size = format!("size={mib}m,mode=700");
        let made = run(
            "mount",
            &["-t", "tmpfs", "-o", &size, "tmpfs"],
            Some(folder.path()),
        );
        or_not_run(made)?;
        Some(Self {
            folder,
            image: None,
        })
    }

    /// A disk of so many MiB under an ext4 that becomes read-only when it meets a fault, as
    /// installers of Linux set it up; `None`, said loudly, where there are no loop devices.
    pub fn disk(mib: u64) -> Option<Self> {
        let image = tempfile::NamedTempFile::with_prefix("disk-").unwrap();
        image.as_file().set_len(mib << 20).unwrap();
        let volume = Self {
            folder: mount_point(),
            image: Some(image),
        };
        let made = run("mkfs.ext4", &["-q", "-F"], volume.image());
        match made.and_then(|_| volume.mount_image()) {
            Ok(_) => Some(volume),
            Err(reason) => {
                eprintln!("NOT RUN: no disk can be made of a file: {reason}");
                None
            }
        }
    }

    fn image(&self) -> Option<&Path> {
        self.image.as_ref().map(|image| image.path())
    }

    fn mount_image(&self) -> Result<String, String> {
        let image = self.image().unwrap_or(Path::new("none")).to_string_lossy();
        let options = ["-o", "loop,errors=remount-ro", &image];
        run("mount", &options, Some(self.path()))
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

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Makes it read-only.
    ///
    /// # Panics
    /// When files on it are open for writing.
    pub fn read_only(&self) {
        run("mount", &["-o", "remount,ro"], Some(self.path())).unwrap();
    }

    /// Has a disk meet a fault: its file system is read-only from now on, for open files, too, until
    /// it is [mended](Self::mend).
    ///
    /// # Panics
    /// When it is no disk.
    pub fn break_down(&self) {
        let device = run("findmnt", &["-n", "-o", "SOURCE"], Some(self.path())).unwrap();
        let device = device.trim().trim_start_matches("/dev/");
        std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").unwrap();
    }

    /// Repairs a disk and mounts it again.
    ///
    /// # Panics
    /// When files on it are open, or it cannot be repaired.
    pub fn mend(&self) {
        run("umount", &[], Some(self.path())).unwrap();
        // It says by its exit code that it had something to do.
        println!("    {:?}", run("e2fsck", &["-f", "-y"], self.image()));
        self.mount_image().unwrap();
    }

    /// Lets nobody, root included, change any file on a disk, open ones included; or lets them again.
    ///
    /// # Panics
    /// When it is no disk.
    pub fn set_immutable(&self, immutable: bool) {
        let flag = if immutable { "+i" } else { "-i" };
        // Files come and go while it runs.
        println!(
            "    {:?}",
            run("chattr", &["-R", "-f", flag], Some(self.path()))
        );
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily: a process that still looks into it must not keep it in the table.
        let _ = run("umount", &["-l"], Some(self.path()));
    }
}

fn mount_point() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("volume-").tempdir();
    folder.unwrap()
}

/// What a program prints, or why it failed.
fn run(program: &str, arguments: &[&str], last: Option<&Path>) -> Result<String, String> {
    let output = Command::new(program).args(arguments).args(last).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}: {said}", output.status))
}

fn or_not_run(made: Result<String, String>) -> Option<()> {
    let reason = match made {
        Ok(_) => return Some(()),
        Err(reason) => reason,
    };
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "a volume cannot be mounted, so a test cannot run: {reason}"
    );
    eprintln!("NOT RUN: a volume cannot be mounted without root: {reason}");
    None
}

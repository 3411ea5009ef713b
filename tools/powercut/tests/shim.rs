//! The shim against a process that writes files: this test binary, run again as a child.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use selvage_powercut::{Losses, Machine, Outcome};

const SCENE: &str = "POWERCUT_TEST_SCENE";

/// Not a test of its own: what the child of the others does in its folder.
#[test]
fn child() {
    let Ok(scene) = std::env::var(SCENE) else {
        return;
    };
    let root = std::env::var_os("POWERCUT_ROOT").unwrap();
    let root = Path::new(&root);
    SCENES.iter().find(|(name, _)| *name == scene).unwrap().1(root);
}

type Scene = (&'static str, fn(&Path));

const SCENES: &[Scene] = &[
    ("writes", |root| {
        for (name, sync) in [("synced", true), ("unsynced", false)] {
            let mut file = File::create(root.join(name)).unwrap();
            file.write_all(b"one").unwrap();
            if sync {
                file.sync_data().unwrap();
            }
            file.write_all(b" two").unwrap();
        }
        sync(root);
        fs::write(root.join("nameless"), b"x").unwrap();
        sync(&root.join("nameless"));
    }),
    ("synced_again", |root| {
        let mut file = File::create(root.join("file")).unwrap();
        file.write_all(b"a long text").unwrap();
        file.sync_all().unwrap();
        sync(root);
        file.set_len(2).unwrap();
        file.sync_all().unwrap();
        file.set_len(0).unwrap();
    }),
    ("rename", |root| {
        durable(root, "old", b"content");
        fs::rename(root.join("old"), root.join("new")).unwrap();
    }),
    ("rename_synced", |root| {
        durable(root, "old", b"content");
        fs::rename(root.join("old"), root.join("new")).unwrap();
        sync(root);
    }),
    ("replaced", |root| {
        durable(root, "file", b"old");
        durable(root, "file.tmp", b"new");
        fs::rename(root.join("file.tmp"), root.join("file")).unwrap();
    }),
    ("removed", |root| {
        durable(root, "file", b"content");
        fs::remove_file(root.join("file")).unwrap();
        // Another file may get its inode, and is not it.
        fs::write(root.join("other"), b"other").unwrap();
    }),
    ("removed_synced", |root| {
        durable(root, "file", b"content");
        fs::remove_file(root.join("file")).unwrap();
        sync(root);
        fs::write(root.join("other"), b"other").unwrap();
        sync(root);
    }),
    ("folders", |root| {
        for name in ["listed", "unlisted"] {
            fs::create_dir(root.join(name)).unwrap();
            durable(&root.join(name), "file", b"x");
        }
        sync(root);
        fs::create_dir(root.join("late")).unwrap();
        durable(&root.join("late"), "file", b"x");
        fs::create_dir(root.join("listed/empty")).unwrap();
        sync(&root.join("listed"));
        fs::write(root.join("listed/empty/file"), b"x").unwrap();
        sync(&root.join("listed/empty/file"));
    }),
    ("synchronous", |root| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).custom_flags(O_DSYNC);
        let mut file = options.open(root.join("file")).unwrap();
        file.write_all(b"one").unwrap();
        sync(root);
        file.write_all(b" two").unwrap();
    }),
    ("volume", |root| {
        fs::create_dir(root.join("deep")).unwrap();
        fs::write(root.join("deep/file"), b"x").unwrap();
        assert!(Command::new("sync").status().unwrap().success());
        fs::write(root.join("deep/late"), b"x").unwrap();
    }),
    ("mapped", |root| {
        durable(root, "file", &[b'-'; 8]);
        let script = "import mmap, sys
file = open(sys.argv[1], 'r+b')
memory = mmap.mmap(file.fileno(), 8)
memory[0:3] = b'one'
memory.flush()
memory[3:6] = b'two'";
        let mut python = Command::new("python3");
        let file = root.join("file");
        let status = python.args(["-c", script]).arg(file).status();
        assert!(status.unwrap().success());
    }),
    ("threads", |root| {
        let mut options = OpenOptions::new();
        let file = options
            .append(true)
            .create(true)
            .open(root.join("file"))
            .unwrap();
        sync(root);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mut file = file.try_clone().unwrap();
                scope.spawn(move || {
                    for _ in 0..100 {
                        file.write_all(b"0123456789").unwrap();
                        file.sync_data().unwrap();
                    }
                });
            }
        });
    }),
    ("large", |root| {
        let file = File::create(root.join("file")).unwrap();
        file.set_len(64 << 20).unwrap();
        (&file).write_all(b"start").unwrap();
        file.sync_all().unwrap();
        sync(root);
    }),
    ("outside", |root| {
        let file = File::create(root.with_extension("outside")).unwrap();
        file.sync_all().unwrap();
    }),
];

const O_DSYNC: i32 = 0o10000;

fn sync(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

fn durable(folder: &Path, name: &str, content: &[u8]) {
    fs::write(folder.join(name), content).unwrap();
    sync(&folder.join(name));
    sync(folder);
}

struct Cut {
    _folder: tempfile::TempDir,
    machine: Machine,
    root: std::path::PathBuf,
    losses: Losses,
}

fn play(scene: &str, machine: &Machine) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .envs(machine.environment())
        .env(SCENE, scene)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scene}: {said}");
}

/// Plays a scene and cuts the power.
fn cut_after(scene: &str, outcome: Outcome) -> Cut {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let shadow = folder.path().join("shadow");
    fs::create_dir(&root).unwrap();
    fs::create_dir(&shadow).unwrap();
    let machine = Machine::new(&root, &shadow).unwrap();
    play(scene, &machine);
    let losses = machine.cut(&root, outcome).unwrap();
    Cut {
        _folder: folder,
        machine,
        root,
        losses,
    }
}

/// Every path below a folder, sorted, with the contents of files.
fn tree(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            lines.push(format!("{name}/"));
            lines.extend(tree(&path).iter().map(|line| format!("{name}/{line}")));
        } else {
            lines.push(format!("{name}: {}", fs::read_to_string(&path).unwrap()));
        }
    }
    lines.sort();
    lines
}

#[track_caller]
fn check(scene: &str, left: &[&str]) {
    let cut = cut_after(scene, Outcome::Least);
    assert_eq!(tree(&cut.root), left, "{scene}");
    // What is left is there after the next cut as well, when nothing was written.
    cut.machine.cut(&cut.root, Outcome::Least).unwrap();
    assert_eq!(tree(&cut.root), left, "{scene}, cut again");
}

#[test]
fn only_what_was_synced_is_left() {
    check("writes", &["synced: one", "unsynced: "]);
    check("synced_again", &["file: a "]);
    check("synchronous", &["file: one two"]);
    check("volume", &["deep/", "deep/file: x"]);
    check("mapped", &["file: one-----"]);
    check("outside", &[]);
}

#[test]
fn what_is_to_be_forgotten_does_not_count() {
    let (root, shadow) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let machine = Machine::new(root.path(), shadow.path()).unwrap();
    let machine = machine.forgetting("unlisted");
    play("folders", &machine);
    machine.cut(root.path(), Outcome::Least).unwrap();
    let left = tree(root.path());
    assert_eq!(
        left,
        ["listed/", "listed/empty/", "listed/file: x", "unlisted/"]
    );
}

#[test]
fn names_count_when_their_folder_was_synced() {
    check("rename", &["old: content"]);
    check("rename_synced", &["new: content"]);
    check("replaced", &["file.tmp: new", "file: old"]);
    check("removed", &["file: content"]);
    check("removed_synced", &["other: "]);
    check(
        "folders",
        &[
            "listed/",
            "listed/empty/",
            "listed/file: x",
            "unlisted/",
            "unlisted/file: x",
        ],
    );
}

#[test]
fn syncs_of_several_threads_all_count() {
    let cut = cut_after("threads", Outcome::Least);
    let left = fs::read(cut.root.join("file")).unwrap();
    assert_eq!(left.len(), 4 * 100 * 10);
    assert_eq!(cut.losses, Losses { whole: 1, hurt: 0 });
}

#[test]
fn holes_cost_nothing() {
    use std::os::unix::fs::MetadataExt;
    let cut = cut_after("large", Outcome::Least);
    let file = fs::metadata(cut.root.join("file")).unwrap();
    assert_eq!(file.len(), 64 << 20);
    assert!(file.blocks() * 512 < 1 << 20);
}

/// Some of what was not synced may be left, but what was synced always is.
#[test]
fn parts_of_what_was_not_synced_may_be_left() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..24 {
        let cut = cut_after("writes", Outcome::Some(seed));
        let left = tree(&cut.root);
        assert!(left[0].starts_with("nameless") || left[0].starts_with("synced: one"));
        assert!(left.iter().any(|line| line.starts_with("synced: one")));
        seen.insert(left);
    }
    assert!(seen.len() > 3, "{seen:?}");
}

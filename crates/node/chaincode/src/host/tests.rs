use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use super::cache::Manifest;
use super::output::{Throttle, lines};
use super::process::{Exit, Spec, run};
use super::toolchain::Toolchain;
use super::*;

const SMALL: ProcessLimits = ProcessLimits {
    memory: 1 << 30,
    processes: 100,
    open_files: 256,
    file_size: 1 << 20,
    temporary: 1 << 20,
};

fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// The confinements that work here. Both do where this is developed and tested.
fn sandboxes() -> Vec<Sandbox> {
    let found: Vec<Sandbox> = [SandboxPolicy::Bubblewrap, SandboxPolicy::Landlock]
        .into_iter()
        .filter_map(|policy| match Sandbox::detect(policy, &path()) {
            Ok(sandbox) => Some(sandbox),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "{error}");
                eprintln!("\n*** {policy:?} WAS NOT TESTED: {error} ***\n");
                None
            }
        })
        .collect();
    assert!(!found.is_empty(), "no confinement works on this host");
    found
}

fn shell(folder: &Path, script: &str) -> Spec {
    Spec {
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".into(), script.into()],
        env: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
        cwd: folder.to_owned(),
        read_only: Vec::new(),
        writable: vec![folder.to_owned()],
        limits: SMALL,
        timeout: Some(Duration::from_secs(60)),
        connect_only: None,
    }
}

fn run_spec(spec: Spec, sandbox: &Sandbox) -> (Exit, Vec<String>) {
    let output = Arc::new(Mutex::new(Vec::new()));
    let sink = output.clone();
    let stop = Arc::new(StopSignal::default());
    let exit = run(spec, sandbox, &stop, move |line| {
        sink.lock().unwrap().push(line.to_owned());
    })
    .unwrap();
    let output = output.lock().unwrap().clone();
    (exit, output)
}

#[test]
fn a_confined_process_sees_its_own_folders_only() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("key.pem");
    std::fs::write(&secret, "secret").unwrap();
    for sandbox in sandboxes() {
        let inside = tempfile::tempdir().unwrap();
        let shown = tempfile::tempdir().unwrap();
        std::fs::write(shown.path().join("lib"), "library").unwrap();
        let script = format!(
            "cat {secret}; echo x > {outside}/new; echo x > /usr/new; cat {shown}/lib; echo; \
             echo x > {shown}/new; echo fine > mine; cat mine; cat /root/.bashrc; \
             echo HOME=$HOME USER_KEY=$SELVAGE_TEST_KEY; ls /etc/shadow > /dev/null && \
             cat /etc/shadow",
            secret = secret.display(),
            outside = outside.path().display(),
            shown = shown.path().display(),
        );
        let mut spec = shell(inside.path(), &script);
        spec.read_only.push(shown.path().to_owned());
        let (_, output) = run_spec(spec, &sandbox);
        let said: Vec<&str> = output
            .iter()
            .map(String::as_str)
            .filter(|line| !line.contains("/bin/sh") && !line.contains(": "))
            .collect();
        assert_eq!(
            said,
            ["library", "fine", "HOME= USER_KEY="],
            "{}: {output:#?}",
            sandbox.name()
        );
        assert!(!outside.path().join("new").exists() && !Path::new("/usr/new").exists());
        assert!(!shown.path().join("new").exists());
        assert_eq!(
            std::fs::read_to_string(inside.path().join("mine")).unwrap(),
            "fine\n"
        );
    }
}

#[test]
fn a_confined_process_cannot_look_into_the_peer() {
    for sandbox in sandboxes() {
        let inside = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        let script = format!("cat /proc/{pid}/environ /proc/{pid}/mem; kill -0 {pid} && echo hit");
        let (exit, output) = run_spec(shell(inside.path(), &script), &sandbox);
        assert!(exit != Exit::Code(0), "{}: {output:?}", sandbox.name());
        assert!(
            !output
                .iter()
                .any(|line| line == "hit" || line.contains("PATH=")),
            "{output:?}"
        );
    }
}

#[test]
fn limits_end_a_process_with_a_reason() {
    let check = |sandbox: &Sandbox, change: fn(&mut Spec), script: &str, wanted: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = shell(folder.path(), script);
        change(&mut spec);
        let begun = Instant::now();
        let (exit, output) = run_spec(spec, sandbox);
        let text = exit.to_string();
        let said = || output.iter().any(|line| line.contains(wanted));
        assert!(
            text.contains(wanted) || said(),
            "{}: {text}: {output:?}",
            sandbox.name()
        );
        assert!(begun.elapsed() < Duration::from_secs(50));
    };
    for sandbox in sandboxes() {
        let none = |_: &mut Spec| {};
        check(
            &sandbox,
            |spec| spec.limits.memory = 60 << 20,
            "while :; do head -c 1000000 /dev/zero; sleep 0.01; done | tail",
            "more than the limit of 60 MiB",
        );
        check(
            &sandbox,
            |spec| spec.limits.processes = 10,
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 60 & done; wait",
            "more than the limit of 10",
        );
        // This one ends no process: its program is told, and whoever reads what it prints.
        check(
            &sandbox,
            |spec| {
                spec.program = PathBuf::from("/bin/bash");
                spec.limits.open_files = 20;
            },
            "for i in {1..40}; do exec {f}</dev/null || exit 1; done; echo all opened",
            "no more than the limit of 20 open files",
        );
        check(
            &sandbox,
            |spec| spec.timeout = Some(Duration::from_millis(300)),
            "sleep 60",
            "it took longer than the limit of 0 seconds",
        );
        check(
            &sandbox,
            none,
            "head -c 5000000 /dev/zero > big; exit 3",
            "container exited with 3",
        );
        check(
            &sandbox,
            none,
            "kill -9 $$",
            if sandbox == Sandbox::Landlock {
                "container exited by signal 9"
            } else {
                // bubblewrap tells the end of its child as shells do.
                "container exited with 137"
            },
        );
    }
}

#[test]
fn connections_can_be_confined_to_one_port() {
    let listen = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (peer, other) = (listen(), listen());
    let port = |listener: &std::net::TcpListener| listener.local_addr().unwrap().port();
    for sandbox in sandboxes() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "for p in {} {}; do (exec 3<>/dev/tcp/127.0.0.1/$p) 2>/dev/null && echo $p; done",
            port(&peer),
            port(&other)
        );
        let mut spec = shell(folder.path(), &script);
        spec.program = PathBuf::from("/bin/bash");
        spec.connect_only = Some(port(&peer));
        let (_, output) = run_spec(spec, &sandbox);
        assert_eq!(output, [port(&peer).to_string()], "{}", sandbox.name());
    }
}

#[test]
fn files_cannot_grow_beyond_the_limit() {
    for sandbox in sandboxes() {
        let folder = tempfile::tempdir().unwrap();
        run_spec(
            shell(folder.path(), "head -c 5000000 /dev/zero > big"),
            &sandbox,
        );
        let size = std::fs::metadata(folder.path().join("big")).unwrap().len();
        assert_eq!(size, 1 << 20, "{}", sandbox.name());
    }
}

#[test]
fn stopping_leaves_nothing_running() {
    for sandbox in sandboxes() {
        let folder = tempfile::tempdir().unwrap();
        let beat = folder.path().join("beat");
        let script = "(while :; do echo x > beat; sleep 0.05; done) & \
                      (while :; do echo x > beat; sleep 0.05; done) & wait";
        let stop = Arc::new(StopSignal::default());
        let (ended, exit) = std::sync::mpsc::channel();
        process::start(
            shell(folder.path(), script),
            &sandbox,
            stop.clone(),
            |_| {},
            move |exit| ended.send(exit).unwrap(),
        )
        .unwrap();
        wait_for(|| beat.exists());
        stop.ask();
        assert_eq!(exit.recv().unwrap(), Exit::Stopped);
        assert_silent(&beat);
    }
}

fn wait_for(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Nobody writes the file any more. Whoever lived would write it twenty times a second.
fn assert_silent(beat: &Path) {
    let begun = Instant::now();
    loop {
        let _ = std::fs::remove_file(beat);
        std::thread::sleep(Duration::from_millis(500));
        if !beat.exists() {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "a process lives on"
        );
    }
}

#[test]
fn no_confinement_is_an_error_unless_switched_off() {
    let nowhere = std::ffi::OsString::from("/nonexistent");
    let error = Sandbox::detect(SandboxPolicy::Bubblewrap, &nowhere).unwrap_err();
    assert!(error.contains("bubblewrap"), "{error}");
    assert_eq!(
        Sandbox::detect(SandboxPolicy::Off, &nowhere),
        Ok(Sandbox::Unconfined)
    );
}

#[test]
fn lines_are_bounded_and_cleaned() {
    let check = |input: &[u8], wanted: &[&str]| {
        let mut got = Vec::new();
        lines(input, |line| got.push(line.to_owned()));
        assert_eq!(got, wanted);
    };
    check(b"", &[]);
    check(b"one\ntwo", &["one", "two"]);
    check(b"one\r\n\n\ttab\n", &["one", "", "\ttab"]);
    check(b"\x1b[31mred\x1b[0m\n", &["red"]);
    check(b"a\x1b]0;title\x07b\n", &["a ]0;title b"]);
    check(b"\xff\n", &["\u{fffd}"]);
    let long = vec![b'x'; 40_000];
    let mut sizes = Vec::new();
    lines(long.as_slice(), |line| sizes.push(line.len()));
    assert_eq!(sizes, [16_384, 16_384, 7_232]);
}

#[test]
fn a_flood_of_lines_is_thinned() {
    let begun = Instant::now();
    let mut throttle = Throttle::new(begun);
    let admitted = (0..5000).filter(|_| throttle.admit(begun).0).count();
    assert_eq!(admitted, 2000);
    let (passed, note) = throttle.admit(begun + Duration::from_secs(1));
    assert!(passed);
    assert_eq!(
        note.unwrap(),
        "3000 lines dropped: more than 2000 lines in a second"
    );
}

#[test]
fn a_missing_tool_is_named_with_a_remedy() {
    let check = |kind: ChaincodeKind, program: &str, remedy: &str| {
        let error = Toolchain::find(&kind, "/nonexistent".as_ref()).unwrap_err();
        assert!(
            error.contains(&format!("needs the program '{program}'")),
            "{error}"
        );
        assert!(error.contains(remedy) && error.contains("ccaas"), "{error}");
    };
    check(ChaincodeKind::Node, "node", "install Node.js");
    check(ChaincodeKind::Golang, "go", "install Go");
    check(ChaincodeKind::Java, "java", "install a JDK");
}

fn manifest() -> Manifest {
    Manifest {
        kind: "golang".into(),
        folder: "out".into(),
        program: "./chaincode".into(),
        args: Vec::new(),
    }
}

#[test]
fn a_build_happens_once_however_many_ask() {
    let root = tempfile::tempdir().unwrap();
    let builds = AtomicUsize::new(0);
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            // Each has a cache of its own, as peers in different processes have.
            scope.spawn(|| {
                let cache = BuildCache::new(root.path().to_owned(), 10);
                barrier.wait();
                let built = cache
                    .get::<String>("k", |folder| {
                        builds.fetch_add(1, Ordering::SeqCst);
                        std::fs::write(folder.join("file"), "x").unwrap();
                        Ok(manifest())
                    })
                    .unwrap();
                assert!(built.folder.join("file").is_file());
                assert_eq!(built.manifest, manifest());
            });
        }
    });
    assert_eq!(builds.load(Ordering::SeqCst), 1);
}

#[test]
fn builds_of_a_host_run_one_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let running = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (root, running) = (root.path().to_owned(), &running);
            scope.spawn(move || {
                let cache = BuildCache::new(root, 10);
                cache
                    .get::<String>(&format!("k{number}"), |_| {
                        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::sleep(Duration::from_millis(20));
                        running.fetch_sub(1, Ordering::SeqCst);
                        Ok(manifest())
                    })
                    .unwrap();
            });
        }
    });
}

#[test]
fn an_unfinished_build_is_begun_anew() {
    let root = tempfile::tempdir().unwrap();
    let cache = BuildCache::new(root.path().to_owned(), 10);
    let failed = cache.get("k", |folder| {
        std::fs::write(folder.join("half"), "x").unwrap();
        Err("no compiler".to_owned())
    });
    assert!(matches!(failed, Err(CacheError::Build(reason)) if reason == "no compiler"));
    // What a builder that was killed leaves.
    std::fs::create_dir_all(root.path().join("builds/k/deep")).unwrap();
    std::fs::write(root.path().join("builds/k/manifest.tmp"), "{").unwrap();
    assert!(cache.find("k").unwrap().is_none());
    let built = cache.get::<String>("k", |folder| {
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
        Ok(manifest())
    });
    assert!(built.is_ok());
}

#[test]
fn old_builds_are_evicted_unless_in_use() {
    let root = tempfile::tempdir().unwrap();
    let cache = BuildCache::new(root.path().to_owned(), 2);
    let make = |key: &str| cache.get::<String>(key, |_| Ok(manifest())).unwrap();
    let used = make("a");
    drop(make("b"));
    drop(make("c"));
    drop(make("d"));
    let there = |key: &str| cache.find(key).unwrap().is_some();
    assert!(there("a"), "a build in use stays");
    assert!(there("d"), "the newest build stays");
    assert!(!there("b"));
    drop(used);
}

#[test]
fn an_unusable_cache_folder_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    let cache = BuildCache::new(file.join("cache"), 2);
    match cache.get::<String>("k", |_| Ok(manifest())) {
        Err(CacheError::Io(path, _)) => assert!(path.starts_with(&file)),
        other => panic!("{other:?}"),
    }
}

/// Says to [`builder_that_is_killed`] that it is the one to be killed, and where to work.
const KILLED_IN: &str = "SELVAGE_TEST_KILLED_IN";

/// Not a test by itself: [`a_builder_killed_in_the_middle_leaves_no_trace`] runs it.
#[test]
fn builder_that_is_killed() {
    let Some(folder) = std::env::var_os(KILLED_IN).map(PathBuf::from) else {
        return;
    };
    let index: usize = std::fs::read_to_string(folder.join("sandbox"))
        .unwrap()
        .parse()
        .unwrap();
    let sandbox = sandboxes().swap_remove(index);
    let cache = BuildCache::new(folder.join("cache"), 2);
    let _ = cache.get::<String>("k", |_| {
        let work = folder.join("work");
        run_spec(
            shell(&work, "while :; do echo x > beat; sleep 0.05; done"),
            &sandbox,
        );
        Ok(manifest())
    });
}

#[test]
fn a_builder_killed_in_the_middle_leaves_no_trace() {
    for index in 0..sandboxes().len() {
        let folder = tempfile::tempdir().unwrap();
        let beat = folder.path().join("work/beat");
        std::fs::create_dir(folder.path().join("work")).unwrap();
        std::fs::write(folder.path().join("sandbox"), index.to_string()).unwrap();
        let mut builder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "host::tests::builder_that_is_killed"])
            .env(KILLED_IN, folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_for(|| beat.exists());
        builder.kill().unwrap();
        builder.wait().unwrap();
        assert_silent(&beat);
        let cache = BuildCache::new(folder.path().join("cache"), 2);
        assert!(cache.get::<String>("k", |_| Ok(manifest())).is_ok());
    }
}

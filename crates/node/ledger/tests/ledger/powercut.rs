//! Power cuts of a process with the real databases (`tools/powercut`).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use selvage_ledger::{Ledger, LedgerOptions};
use selvage_powercut::{Machine, Outcome};

use crate::recovery::{check_story, tell_with};
use crate::support::Fixed;

const CHILD: &str = "SELVAGE_LEDGER_POWERCUT_CHILD";
const MEMTABLE: &str = "SELVAGE_LEDGER_POWERCUT_MEMTABLE";

/// Not a test of its own: the process whose power is cut.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let options = LedgerOptions {
        memtable_bytes: std::env::var(MEMTABLE).unwrap().parse().unwrap(),
        ..LedgerOptions::default()
    };
    let disk = Arc::new(selvage_env::RealDisk);
    let dir = Path::new(&dir).join("channel");
    let ledger = Ledger::open(disk, &dir, options, Arc::new(Fixed)).expect("opens");
    check_story(&ledger);
    println!("opened {}", ledger.height());
    loop {
        println!("committed {}", tell_with(&ledger, 9000));
    }
}

/// Lets a process commit, kills it and cuts the power, again and again; an error when the ledger
/// did not open with everything that was acknowledged.
fn rounds(forget: Option<&str>, count: usize) -> Result<(), String> {
    let (dir, shadow) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut machine = Machine::new(dir.path(), shadow.path()).unwrap();
    if let Some(part) = forget {
        machine = machine.forgetting(part);
    }
    let mut acknowledged = None;
    for round in 0..count {
        // Small, so that the databases write tables out all the time; large, so that much of the
        // state is in a journal that nobody syncs.
        let memtable = [64 << 10, 4 << 20][round % 2];
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "powercut::child", "--nocapture"])
            .envs(machine.environment())
            .env(CHILD, dir.path())
            .env(MEMTABLE, memtable.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut left = [1, 5, 25][round % 3];
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((_, number)) = line.rsplit_once("opened ") {
                let height = number.parse::<u64>().unwrap();
                if Some(height) <= acknowledged {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    return Err(format!(
                        "round {round}: {height}, not above {acknowledged:?}"
                    ));
                }
            }
            if let Some((_, number)) = line.rsplit_once("committed ") {
                acknowledged = Some(number.parse::<u64>().unwrap());
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        child.kill().unwrap();
        let said = child.wait_with_output().unwrap().stderr;
        if left > 0 {
            let said = String::from_utf8_lossy(&said);
            return Err(format!("round {round}: the child ended: {said}"));
        }
        let outcome = match round {
            0..4 => Outcome::Least,
            seed => Outcome::Some(seed as u64),
        };
        let losses = machine.cut(dir.path(), outcome).unwrap();
        println!("{acknowledged:?}: {outcome:?}: {losses:?}");
    }
    Ok(())
}

/// Whatever a power cut leaves of the files, the ledger opens with everything it acknowledged,
/// private data included, and its state is what the blocks make of it.
#[test]
fn cut_power_loses_nothing() {
    rounds(None, 18).unwrap();
}

/// The same test notices syncs that are left out.
#[test]
fn syncs_that_are_left_out_are_noticed() {
    for part in [".seg", "/blocks", "/private", "/keyspaces"] {
        let noticed = rounds(Some(part), 18).expect_err(part);
        println!("without the syncs of {part}: {noticed}");
    }
}

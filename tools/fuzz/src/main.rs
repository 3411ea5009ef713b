//! Tries targets by hand: what failed again, or one target for long.

use std::path::Path;
use std::process::ExitCode;

use selvage_fuzz::driver::{drive, survive};
use selvage_fuzz::{TARGETS, target};

const USAGE: &str = "usage:
  selvage-fuzz list                               the targets
  selvage-fuzz run TARGET FILE…                   tries inputs, such as one that failed
  selvage-fuzz drive TARGET [SEED [ITERATIONS]]   changes the seeds, as `make test` does";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match act(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn act(words: &[&str]) -> Result<(), String> {
    match words {
        ["list"] => {
            for target in TARGETS {
                println!("{:<20} {}", target.name, target.about);
            }
            Ok(())
        }
        ["run", name, files @ ..] if !files.is_empty() => {
            let target = target(name)?;
            for file in files {
                let input = std::fs::read(Path::new(file)).map_err(|e| format!("{file}: {e}"))?;
                survive(target, &input).map_err(|e| format!("{file}: {e}"))?;
                println!("{file}: survived");
            }
            Ok(())
        }
        ["drive", name, rest @ ..] if rest.len() <= 2 => {
            let target = target(name)?;
            let number = |at: usize, default: u64| {
                rest.get(at).map_or(Ok(default), |text| {
                    text.parse().map_err(|_| format!("{text} is no number"))
                })
            };
            let seed = number(0, 0)?;
            let iterations = u32::try_from(number(1, target.iterations.into())?)
                .map_err(|_| "too many iterations".to_owned())?;
            let tried = drive(target, seed, iterations).map_err(|failure| failure.to_string())?;
            println!("{name}: {iterations} changes of its seeds survived (seed {seed})");
            println!("where they got to: {:?}", tried.changes);
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    }
}

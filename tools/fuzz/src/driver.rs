//! Tries a target on changed seeds, in a way that follows from one number.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once};

use crate::mutate::Chance;
use crate::{Reached, Target, mutate, reach};

/// An input that a target did not survive.
#[derive(Debug)]
pub struct Failure {
    /// The target.
    pub target: &'static str,
    /// The number that the run started from.
    pub seed: u64,
    /// Which input of the run it was.
    pub iteration: u32,
    /// The input.
    pub input: Vec<u8>,
    /// What the panic said.
    pub message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            target,
            seed,
            iteration,
            input,
            message,
        } = self;
        write!(f, "{target} (seed {seed}, input {iteration}): {message}")?;
        match self.keep() {
            Ok(path) => write!(
                f,
                "\n    again with: cargo run --release -p selvage-fuzz -- run {target} {}",
                path.display()
            ),
            Err(error) => write!(f, "\n    the input ({error} when keeping it): {input:?}"),
        }
    }
}

impl Failure {
    /// Writes the input where it can be taken up again.
    fn keep(&self) -> std::io::Result<PathBuf> {
        let name = format!("selvage-fuzz-{}-{}.bin", self.target, self.iteration);
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, &self.input)?;
        Ok(path)
    }
}

/// Runs a target once; the error is what a panic said, in whatever thread it was.
pub fn survive(target: &Target, input: &[u8]) -> Result<(), String> {
    watch_panics();
    WATCHING.store(true, Ordering::SeqCst);
    let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    WATCHING.store(false, Ordering::SeqCst);
    let said = std::mem::take(&mut *panics()).join("; ");
    match (ended, said.is_empty()) {
        (Ok(()), true) => Ok(()),
        (_, true) => Err("a panic that said nothing".to_owned()),
        (_, false) => Err(said),
    }
}

/// Where the inputs of a run got to.
#[derive(Debug, Default)]
pub struct Tried {
    /// The seeds.
    pub seeds: Reached,
    /// Changes of them.
    pub changes: Reached,
}

/// Tries every seed as it is, then `iterations` changes of them.
pub fn drive(target: &Target, seed: u64, iterations: u32) -> Result<Tried, Box<Failure>> {
    let mut tried = Tried::default();
    reach::take();
    let mut seeds = (target.seeds)();
    seeds.push(Vec::new());
    let chance = Chance::new(seed);
    let mut last = Vec::new();
    for iteration in 0..seeds.len() as u32 + iterations {
        let input = match seeds.get(iteration as usize) {
            Some(seed) => seed.clone(),
            None => {
                let other = &seeds[chance.below(seeds.len())];
                // Some changes go on from the last one, so that they add up.
                let from = match chance.one_in(3) {
                    true => &last,
                    false => &seeds[chance.below(seeds.len())],
                };
                mutate(from, other, seed ^ u64::from(iteration) << 20)
            }
        };
        if let Err(message) = survive(target, &input) {
            return Err(Box::new(Failure {
                target: target.name,
                seed,
                iteration,
                input,
                message,
            }));
        }
        last = input;
        if iteration as usize + 1 == seeds.len() {
            tried.seeds = reach::take();
        }
    }
    tried.changes = reach::take();
    Ok(tried)
}

static WATCHING: AtomicBool = AtomicBool::new(false);
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn panics() -> MutexGuard<'static, Vec<String>> {
    // Nothing is done under the lock that could leave the list half changed.
    PANICS.lock().unwrap_or_else(|e| e.into_inner())
}

/// Notes panics of all threads while a target runs, instead of printing them: what runs on a thread of its own must not
/// panic either, although nobody who waits for it would fall over.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if WATCHING.load(Ordering::SeqCst) {
                panics().push(info.to_string());
            } else {
                print(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(run: fn(&[u8])) -> Target {
        Target {
            name: "test",
            about: "",
            run,
            seeds: || vec![b"seed".to_vec()],
            reaches: &[],
            iterations: 0,
        }
    }

    #[test]
    fn a_panic_is_found_wherever_it_is_and_comes_again() {
        let quiet = target(|_| {});
        drive(&quiet, 1, 100).expect("nothing happens");
        let loud = target(|input| assert!(input.len() < 10, "too long"));
        let first = drive(&loud, 1, 10_000).expect_err("a longer input");
        assert!(first.message.contains("too long"), "{}", first.message);
        assert_eq!(survive(&quiet, &first.input), Ok(()));
        let again = drive(&loud, 1, 10_000).expect_err("the same");
        assert_eq!(
            (first.iteration, &first.input),
            (again.iteration, &again.input)
        );
        let elsewhere = target(|input| {
            let long = input.len() > 10;
            let thread = std::thread::spawn(move || assert!(!long, "too long elsewhere"));
            let _ = thread.join();
        });
        let found = drive(&elsewhere, 1, 10_000).expect_err("a longer input");
        assert!(found.message.contains("elsewhere"), "{}", found.message);
    }
}

//! What processes print, line by line.

use std::io::Read;
use std::time::{Duration, Instant};

/// Longer lines are cut into pieces of this many bytes.
const LINE_LIMIT: usize = 16 * 1024;
/// Lines per second that a chaincode may add to the peer's log, after a burst of as many.
const LINES_PER_SECOND: u32 = 2000;

/// Where the output of chaincode goes.
pub trait OutputSink: Send + Sync {
    /// One line; `tag` names peer and chaincode:
    /// `peer.chaincode.<network>-<peer>-<name>-<version>`.
    fn line(&self, tag: &str, line: &str);
}

/// Puts chaincode output into the process's own log, as `[tag] line`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogOutput;

impl OutputSink for LogOutput {
    fn line(&self, tag: &str, line: &str) {
        tracing::info!(target: "peer.chaincode", "[{tag}] {line}");
    }
}

/// Splits a stream into lines until its end. Invalid UTF-8 and control characters, by which a
/// chaincode could forge lines of others, are replaced.
pub(super) fn lines(mut reader: impl Read, mut on_line: impl FnMut(&str)) {
    let mut pending: Vec<u8> = Vec::new();
    let mut buffer = [0; 8 * 1024];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        for byte in &buffer[..read] {
            if *byte == b'\n' {
                on_line(&clean(&pending));
                pending.clear();
            } else {
                pending.push(*byte);
                if pending.len() >= LINE_LIMIT {
                    on_line(&clean(&pending));
                    pending.clear();
                }
            }
        }
    }
    if !pending.is_empty() {
        on_line(&clean(&pending));
    }
}

/// Says behind the first line that tells of too many open files what the limit is: the process goes
/// on, so unlike with other limits there is no end that could say it.
pub(super) fn explained(open_files: u64, mut on_line: impl FnMut(&str)) -> impl FnMut(&str) {
    const SIGNS: [&str; 3] = ["Too many open files", "too many open files", "EMFILE"];
    let mut is_told = false;
    move |line| {
        on_line(line);
        if !is_told && SIGNS.iter().any(|sign| line.contains(sign)) {
            is_told = true;
            on_line(&format!(
                "a process here may have no more than the limit of {open_files} open files: close \
                 files and connections that are done with"
            ));
        }
    }
}

fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix('\r').unwrap_or(&text);
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\t' => cleaned.push(c),
            // Colours are for terminals: `ESC [ … letter`.
            '\u{1b}' if rest.peek() == Some(&'[') => {
                rest.next();
                while rest.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
            }
            c if c.is_control() => cleaned.push(' '),
            c => cleaned.push(c),
        }
    }
    cleaned
}

/// Lets only so many lines through in a second and says how many it held back.
#[derive(Debug)]
pub(super) struct Throttle {
    window: Instant,
    passed: u32,
    dropped: u64,
}

impl Throttle {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window: now,
            passed: 0,
            dropped: 0,
        }
    }

    /// Whether to pass a line now, and a note on lines dropped before.
    pub(super) fn admit(&mut self, now: Instant) -> (bool, Option<String>) {
        let mut note = None;
        if now.duration_since(self.window) >= Duration::from_secs(1) {
            note = self.note();
            self.window = now;
            self.passed = 0;
        }
        if self.passed < LINES_PER_SECOND {
            self.passed += 1;
            return (true, note);
        }
        self.dropped += 1;
        (false, note)
    }

    /// The note on lines dropped so far, once.
    pub(super) fn note(&mut self) -> Option<String> {
        let dropped = std::mem::take(&mut self.dropped);
        (dropped > 0).then(|| {
            format!("{dropped} lines dropped: more than {LINES_PER_SECOND} lines in a second")
        })
    }
}

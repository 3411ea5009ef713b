//! What is printed. Who reads it may go away at any time, as `head` does: that ends nothing and is
//! no failure of the command.

use std::io::{ErrorKind, Write};

use crate::Failure;

/// A line for a person, on standard error.
pub(crate) fn note(line: impl std::fmt::Display) {
    // Where nobody can be told, nobody can be told that either.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The result of a command, on standard output.
pub(crate) fn result(bytes: &[u8]) -> Result<(), Failure> {
    to(&mut std::io::stdout().lock(), bytes)
}

fn to(out: &mut impl Write, bytes: &[u8]) -> Result<(), Failure> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(source) if source.kind() != ErrorKind::BrokenPipe => Err(Failure::System {
            what: "cannot print".to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        assert!(to(&mut writer, b"text").is_ok());
        let mut full: &mut [u8] = &mut [0; 2];
        assert!(to(&mut full, b"text").is_err());
    }
}

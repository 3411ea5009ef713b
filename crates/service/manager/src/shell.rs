//! Lines that a person copies into a shell: they have to run as they stand.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What this program is called where nothing better is known.
const NAME: &str = "selvage";

/// This program, for the beginning of a line: by its name where the `PATH` leads to this very
/// program, else by a path from the current directory when it lies below that, else by its whole
/// path.
pub fn program() -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::current_exe() {
        // The file may have been replaced or removed since this program was started.
        Ok(own) if own.exists() => quoted(&called(&own, &here, &path)),
        _ => NAME.to_owned(),
    }
}

/// A path as one word of a line.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn called(own: &Path, here: &Path, path: &OsStr) -> PathBuf {
    let Some(name) = own.file_name() else {
        return own.to_owned();
    };
    let found = std::env::split_paths(path)
        .map(|folder| here.join(folder).join(name))
        .find(|file| may_be_run(file));
    if found.is_some_and(|file| is_same(&file, own)) {
        return PathBuf::from(name);
    }
    match own.strip_prefix(here) {
        // A word without a slash would be looked for in the PATH.
        Ok(below) if below.components().count() == 1 => Path::new(".").join(below),
        Ok(below) => below.to_owned(),
        Err(_) => own.to_owned(),
    }
}

fn may_be_run(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(one).is_some_and(|one| real(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    fn program_in(folder: &Path) -> PathBuf {
        std::fs::create_dir_all(folder).expect("a folder");
        let file = folder.join("selvage");
        std::fs::write(&file, "#!/bin/sh\n").expect("a file");
        let may_run = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&file, may_run).expect("permissions");
        file
    }

    #[test]
    fn the_program_is_called_as_a_shell_finds_it() {
        let top = tempfile::tempdir().expect("temporary folder");
        let top = top.path().canonicalize().expect("a path");
        let own = program_in(&top.join("build/bin"));
        let other = program_in(&top.join("other"));
        let linked = top.join("linked");
        std::fs::create_dir(&linked).expect("a folder");
        symlink(&own, linked.join("selvage")).expect("a link");
        let empty = top.join("empty");
        let bin = own.parent().expect("a folder");
        let not_found = [empty.as_path()];
        let check = |here: &Path, path: &[&Path], wanted: &Path| {
            let path = std::env::join_paths(path).expect("a PATH");
            assert_eq!(called(&own, here, &path), wanted, "{here:?} {path:?}");
        };
        check(&top, &not_found, Path::new("build/bin/selvage"));
        check(bin, &not_found, Path::new("./selvage"));
        check(&empty, &not_found, &own);
        check(&empty, &[&empty, bin], Path::new("selvage"));
        check(&empty, &[&linked], Path::new("selvage"));
        // The first one counts.
        let elsewhere = other.parent().expect("a folder");
        check(&empty, &[elsewhere, bin], &own);
        check(&top, &[Path::new("build/bin")], Path::new("selvage"));
    }

    #[test]
    fn quoted_paths_are_one_word() {
        for (path, wanted) in [
            (".selvage", ".selvage"),
            ("/var/lib/selvage-1_2", "/var/lib/selvage-1_2"),
            ("", "''"),
            ("my data", "'my data'"),
            ("~", "'~'"),
            ("it's $HOME;`id`", r"'it'\''s $HOME;`id`'"),
            ("数据", "'数据'"),
        ] {
            let word = quoted(Path::new(path));
            assert_eq!(word, wanted);
            let line = format!("printf %s {word}");
            let read = Command::new("sh").args(["-c", &line]).output();
            assert_eq!(read.expect("a shell").stdout, path.as_bytes(), "{word}");
        }
    }

    #[test]
    fn a_test_is_called_by_its_own_path() {
        let line = format!("{} --list shell::tests", program());
        let listed = Command::new("sh").args(["-c", &line]).output();
        let listed = String::from_utf8(listed.expect("a shell").stdout).expect("UTF-8");
        assert!(listed.contains("a_test_is_called_by"), "{listed}");
    }
}

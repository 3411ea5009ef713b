//! Node configuration: a YAML file with Fabric's keys, defaults below it and environment variables
//! above it.
//!
//! The settings are an ordinary struct with a `Default`. Its serialised form says which keys exist
//! and what kind each value has; the file and the environment are merged into that form, and the
//! result is read back into the struct. Keys match whatever their case, as Fabric's loader does
//! (`common/viperutil`). An environment variable is the prefix and the path of the key in upper
//! case, joined by `_`: `ORDERER_GENERAL_LISTENPORT`. **An empty variable does not override.**
//!
//! A key whose default is null or an empty map takes whatever the file says below it.

mod values;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_norway::{Mapping, Value};
use thiserror::Error;

pub use values::{ByteSize, GoDuration, duration_text, parse_byte_size, parse_duration};

/// Where nodes look when `FABRIC_CFG_PATH` is not set and the working directory has no file.
const OFFICIAL_DIR: &str = "/etc/hyperledger/fabric";
/// The largest configuration file that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No file in any of the places.
    #[error(
        "no {name} in {}: set FABRIC_CFG_PATH to the folder that holds it",
        places(searched)
    )]
    Missing {
        /// The file's name.
        name: String,
        /// The folders that were searched.
        searched: Vec<PathBuf>,
    },
    /// The file is there and cannot be read.
    #[error("cannot read the configuration file {}: let this process read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not YAML, or not a map.
    #[error("the configuration file {} is not valid YAML: {reason}; correct it there", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A value of the wrong kind.
    #[error("configuration key {key}: {reason}")]
    Value {
        /// The key's path, or the variable that sets it.
        key: String,
        /// What is expected.
        reason: String,
    },
}

fn places(folders: &[PathBuf]) -> String {
    let shown: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
    shown.join(", ")
}

/// Environment variables, as a value so that tests have their own.
pub type Variables = HashMap<String, String>;

/// The variables of this process. Variables that are not UTF-8 are left out.
pub fn process_variables() -> Variables {
    std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .collect()
}

/// A loaded configuration and what was odd about it.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The settings.
    pub settings: T,
    /// The file they came from.
    pub file: PathBuf,
    /// Keys of the file that this node does not know; they have no effect.
    pub unknown: Vec<String>,
}

impl<T> Loaded<T> {
    /// The folder that relative paths in the file start from.
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }
}

/// Finds `name` in `FABRIC_CFG_PATH` or, without it, in the working directory and then in Fabric's
/// official folder.
pub fn find(name: &str, variables: &Variables) -> Result<PathBuf, ConfigError> {
    let searched = match variables.get("FABRIC_CFG_PATH").filter(|v| !v.is_empty()) {
        Some(folder) => vec![PathBuf::from(folder)],
        None => vec![PathBuf::from("."), PathBuf::from(OFFICIAL_DIR)],
    };
    let found = searched.iter().map(|f| f.join(name)).find(|f| f.is_file());
    found.ok_or_else(|| ConfigError::Missing {
        name: name.to_owned(),
        searched,
    })
}

/// Reads `file` over the defaults of `T` and applies the variables that begin with `prefix`, for
/// example `ORDERER`.
pub fn load<T>(file: &Path, prefix: &str, variables: &Variables) -> Result<Loaded<T>, ConfigError>
where
    T: Serialize + DeserializeOwned + Default,
{
    let read_error = |source| ConfigError::Read {
        path: file.to_owned(),
        source,
    };
    let size = fs::metadata(file).map_err(read_error)?.len();
    if size > MAX_FILE_BYTES {
        return Err(read_error(io::Error::other(format!(
            "{size} bytes are more than the {MAX_FILE_BYTES} a configuration may have"
        ))));
    }
    let text = fs::read_to_string(file).map_err(read_error)?;
    let syntax = |reason: String| ConfigError::Syntax {
        path: file.to_owned(),
        reason,
    };
    let (settings, unknown) = merge_text(&text, prefix, variables, syntax)?;
    Ok(Loaded {
        settings,
        file: file.to_owned(),
        unknown,
    })
}

fn merge_text<T>(
    text: &str,
    prefix: &str,
    variables: &Variables,
    syntax: impl Fn(String) -> ConfigError,
) -> Result<(T, Vec<String>), ConfigError>
where
    T: Serialize + DeserializeOwned + Default,
{
    let given: Value = serde_norway::from_str(text).map_err(|e| syntax(e.to_string()))?;
    if !matches!(given, Value::Mapping(_) | Value::Null) {
        return Err(syntax("a map of keys is expected".to_owned()));
    }
    let mut tree = serde_norway::to_value(T::default()).map_err(|e| syntax(e.to_string()))?;
    let mut unknown = Vec::new();
    merge(&mut tree, given, "", &mut unknown)?;
    override_from(&mut tree, prefix, variables)?;
    let settings = serde_path_to_error::deserialize(tree).map_err(|error| ConfigError::Value {
        key: error.path().to_string(),
        reason: error.inner().to_string(),
    })?;
    Ok((settings, unknown))
}

/// A path of the configuration, taken from `folder` when it is relative; empty stays empty.
pub fn path_in(folder: &Path, path: &str) -> PathBuf {
    if path.is_empty() {
        PathBuf::new()
    } else {
        folder.join(path)
    }
}

fn key_text(key: &Value) -> String {
    match key {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => String::from("?"),
    }
}

fn merge(
    tree: &mut Value,
    given: Value,
    path: &str,
    unknown: &mut Vec<String>,
) -> Result<(), ConfigError> {
    match (tree, given) {
        // A key without a value leaves the default.
        (_, Value::Null) => Ok(()),
        (Value::Mapping(known), Value::Mapping(given)) if !known.is_empty() => {
            merge_maps(known, given, path, unknown)
        }
        (tree, given) => {
            *tree = coerce(tree, given).map_err(|reason| ConfigError::Value {
                key: path.to_owned(),
                reason,
            })?;
            Ok(())
        }
    }
}

fn merge_maps(
    known: &mut Mapping,
    given: Mapping,
    path: &str,
    unknown: &mut Vec<String>,
) -> Result<(), ConfigError> {
    for (key, value) in given {
        let name = key_text(&key);
        let below = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let slot = known
            .iter_mut()
            .find(|(k, _)| key_text(k).eq_ignore_ascii_case(&name));
        match slot {
            Some((_, slot)) => merge(slot, value, &below, unknown)?,
            None => unknown.push(below),
        }
    }
    Ok(())
}

/// Makes `given` the kind of value that `default` is, where that loses nothing.
fn coerce(default: &Value, given: Value) -> Result<Value, String> {
    match (default, given) {
        (Value::String(_), Value::Number(n)) => Ok(Value::String(n.to_string())),
        (Value::String(_), Value::Bool(b)) => Ok(Value::String(b.to_string())),
        (Value::String(_), Value::Mapping(_)) => Err("a text is expected".to_owned()),
        (Value::Bool(_), Value::String(text)) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "f" | "0" => Ok(Value::Bool(false)),
            _ => Err(format!("{text:?} is neither true nor false")),
        },
        (Value::Number(_), Value::String(text)) => match serde_norway::from_str(text.trim()) {
            Ok(Value::Number(n)) => Ok(Value::Number(n)),
            _ => Err(format!("{text:?} is not a number")),
        },
        (Value::Sequence(_), Value::String(text)) => Ok(Value::Sequence(list(&text))),
        (Value::Bool(_), Value::Bool(b)) => Ok(Value::Bool(b)),
        (Value::Bool(_), _) => Err("true or false is expected".to_owned()),
        (Value::Number(_), Value::Number(n)) => Ok(Value::Number(n)),
        (Value::Number(_), _) => Err("a number is expected".to_owned()),
        (Value::Sequence(_), Value::Sequence(items)) => Ok(Value::Sequence(items)),
        (Value::Sequence(_), _) => Err("a list is expected".to_owned()),
        (Value::Mapping(known), given) if !known.is_empty() => {
            Err(format!("a map of keys is expected, not {given:?}"))
        }
        (_, given) => Ok(given),
    }
}

/// `[a, b]` or `a,b`, as scripts write lists into variables.
fn list(text: &str) -> Vec<Value> {
    let text = text.trim();
    let inner = text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .unwrap_or(text);
    inner
        .split(',')
        .map(|item| item.trim().trim_matches('"').to_owned())
        .filter(|item| !item.is_empty())
        .map(Value::String)
        .collect()
}

fn override_from(tree: &mut Value, name: &str, variables: &Variables) -> Result<(), ConfigError> {
    if let Value::Mapping(map) = tree
        && !map.is_empty()
    {
        for (key, value) in map.iter_mut() {
            let below = format!("{name}_{}", key_text(key).to_uppercase().replace('.', "_"));
            override_from(value, &below, variables)?;
        }
        return Ok(());
    }
    let Some(text) = variables.get(name).filter(|text| !text.is_empty()) else {
        return Ok(());
    };
    let error = |reason| ConfigError::Value {
        key: format!("{name} (environment)"),
        reason,
    };
    *tree = match &*tree {
        Value::Null if text.starts_with(['[', '{']) => {
            serde_norway::from_str(text).map_err(|e| error(e.to_string()))?
        }
        Value::Mapping(_) => serde_norway::from_str(text).map_err(|e| error(e.to_string()))?,
        Value::Sequence(_) if text.contains('{') => {
            serde_norway::from_str(text).map_err(|e| error(e.to_string()))?
        }
        current => coerce(current, Value::String(text.clone())).map_err(error)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    struct Settings {
        general: General,
        consensus: Value,
    }

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    struct General {
        listen_address: String,
        listen_port: u16,
        enabled: bool,
        window: GoDuration,
        limit: ByteSize,
        roots: Vec<String>,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self {
                general: General {
                    listen_address: "127.0.0.1".into(),
                    listen_port: 7050,
                    enabled: true,
                    window: GoDuration(Duration::from_secs(900)),
                    limit: ByteSize(1 << 20),
                    roots: vec![],
                },
                consensus: Value::Null,
            }
        }
    }

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<(Settings, Vec<String>), String> {
        let variables = variables
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        merge_text(text, "ORDERER", &variables, |reason| ConfigError::Syntax {
            path: "orderer.yaml".into(),
            reason,
        })
        .map_err(|e| e.to_string())
    }

    #[test]
    fn file_over_defaults() {
        let text = "
general:
    listenport: 7051
    LISTENADDRESS: 0.0.0.0
    Window: 10m
    Limit: 2 MB
    Roots:
      - a.pem
    Colour: red
Consensus:
    WALDir: /x
";
        let (settings, unknown) = read(text, &[]).unwrap();
        assert_eq!(settings.general.listen_port, 7051);
        assert_eq!(settings.general.listen_address, "0.0.0.0");
        assert_eq!(settings.general.window.0, Duration::from_secs(600));
        assert_eq!(settings.general.limit.0, 2 << 20);
        assert_eq!(settings.general.roots, ["a.pem"]);
        assert_eq!(settings.consensus["WALDir"], "/x");
        assert_eq!(unknown, ["general.Colour"]);
    }

    #[test]
    fn empty_files_and_empty_keys_leave_defaults() {
        for text in [
            "",
            "---\n",
            "General:\n",
            "General:\n    Roots:\n    ListenPort:\n",
        ] {
            assert_eq!(read(text, &[]).unwrap().0, Settings::default(), "{text:?}");
        }
    }

    #[test]
    fn variables_override() {
        let variables = [
            ("ORDERER_GENERAL_LISTENPORT", "9"),
            ("ORDERER_GENERAL_LISTENADDRESS", ""),
            ("ORDERER_GENERAL_ENABLED", "false"),
            ("ORDERER_GENERAL_WINDOW", "1h30m"),
            ("ORDERER_GENERAL_ROOTS", "[/x/ca.crt, /y/ca.crt]"),
            ("CORE_GENERAL_LISTENPORT", "10"),
        ];
        let (settings, _) = read("General: {ListenAddress: host}", &variables).unwrap();
        assert_eq!(settings.general.listen_port, 9);
        assert_eq!(settings.general.listen_address, "host");
        assert!(!settings.general.enabled);
        assert_eq!(settings.general.window.0, Duration::from_secs(5400));
        assert_eq!(settings.general.roots, ["/x/ca.crt", "/y/ca.crt"]);
    }

    #[test]
    fn wrong_kinds_name_the_key() {
        let check = |text: &str, variables: &[(&str, &str)], part: &str| {
            let error = read(text, variables).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check("General: {ListenPort: many}", &[], "General.ListenPort");
        check("General: {Enabled: 7}", &[], "General.Enabled");
        check("General: [1]", &[], "General");
        check("General: {ListenPort: 70500}", &[], "General.ListenPort");
        check("- a", &[], "map of keys");
        check("a: [", &[], "YAML");
        check(
            "",
            &[("ORDERER_GENERAL_LISTENPORT", "x")],
            "ORDERER_GENERAL_LISTENPORT",
        );
    }

    #[test]
    fn the_folder_is_found_by_variable() {
        let variables = Variables::from([("FABRIC_CFG_PATH".into(), "/nowhere/at/all".into())]);
        let error = find("orderer.yaml", &variables).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all"), "{error}");
        assert!(error.contains("FABRIC_CFG_PATH"), "{error}");
    }
}

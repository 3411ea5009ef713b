//! Fabric's logging specification: `[logger[,logger...]=]level[:...]`.

use std::collections::BTreeMap;
use std::fmt;

use tracing::level_filters::LevelFilter;

use super::LoggingError;

/// Levels by logger. A name that ends in a dot means exactly that logger, one without means it and
/// everything below it.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    default: Named,
    loggers: BTreeMap<String, Named>,
}

/// A level under the name Fabric gives it.
#[derive(Debug, Clone, Copy)]
struct Named {
    name: &'static str,
    filter: LevelFilter,
}

const fn named(name: &'static str, filter: LevelFilter) -> Named {
    Named { name, filter }
}

fn level(text: &str) -> Option<Named> {
    Some(match text.to_ascii_lowercase().as_str() {
        "payload" => named("payload", LevelFilter::TRACE),
        "debug" => named("debug", LevelFilter::DEBUG),
        "info" | "notice" => named("info", LevelFilter::INFO),
        "warn" | "warning" => named("warn", LevelFilter::WARN),
        "error" | "critical" => named("error", LevelFilter::ERROR),
        // Whatever ends a node is logged as an error here.
        "dpanic" => named("dpanic", LevelFilter::ERROR),
        "panic" => named("panic", LevelFilter::ERROR),
        "fatal" => named("fatal", LevelFilter::ERROR),
        _ => return None,
    })
}

fn is_name(text: &str) -> bool {
    text.split('.').all(|part| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '#' | ':' | '-'))
    })
}

impl Spec {
    pub(super) fn parse(spec: &str) -> Result<Self, LoggingError> {
        let info = named("info", LevelFilter::INFO);
        let mut parsed = Self {
            default: info,
            loggers: BTreeMap::new(),
        };
        for segment in spec.split(':') {
            let bad_segment = || LoggingError::Segment {
                spec: spec.to_owned(),
                segment: segment.to_owned(),
            };
            let Some((names, text)) = segment.split_once('=') else {
                parsed.default = match segment {
                    "" => info,
                    text => level(text).ok_or_else(bad_segment)?,
                };
                continue;
            };
            if names.is_empty() {
                return Err(LoggingError::NoLogger {
                    spec: spec.to_owned(),
                    segment: segment.to_owned(),
                });
            }
            let wanted = level(text).ok_or_else(bad_segment)?;
            for name in names.split(',') {
                if !is_name(name.strip_suffix('.').unwrap_or(name)) {
                    return Err(LoggingError::Logger {
                        spec: spec.to_owned(),
                        logger: name.to_owned(),
                    });
                }
                parsed.loggers.insert(name.to_owned(), wanted);
            }
        }
        Ok(parsed)
    }

    pub(super) fn most_verbose(&self) -> LevelFilter {
        let loggers = self.loggers.values().map(|named| named.filter);
        loggers.fold(self.default.filter, LevelFilter::max)
    }

    /// The level of a tracing target.
    pub(super) fn level_of(&self, target: &str) -> LevelFilter {
        let name = logger_name(target);
        if let Some(exact) = self.loggers.get(&format!("{name}.")) {
            return exact.filter;
        }
        let mut candidate = name.as_str();
        loop {
            if let Some(found) = self.loggers.get(candidate) {
                return found.filter;
            }
            match candidate.rsplit_once('.') {
                Some((parent, _)) => candidate = parent,
                None => break,
            }
        }
        if is_ours(target) {
            self.default.filter
        } else {
            // Libraries speak about frames and polls below this; a specification can name them.
            self.default.filter.min(LevelFilter::WARN)
        }
    }
}

/// Log statements of this project: by module path, or by a name of Fabric's style.
pub(super) fn is_ours(target: &str) -> bool {
    target.starts_with("selvage") || (target.contains('.') && !target.contains("::"))
}

/// `selvage_orderer::broadcast` is the logger `orderer.broadcast`.
pub(super) fn logger_name(target: &str) -> String {
    let bare = target.strip_prefix("selvage_").unwrap_or(target);
    bare.replace("::", ".")
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (logger, level) in &self.loggers {
            write!(f, "{logger}={}:", level.name)?;
        }
        f.write_str(self.default.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_by_logger() {
        let spec = Spec::parse("warn:orderer,peer.gossip=debug:orderer.deliver=error:a.b.=info");
        let spec = spec.unwrap();
        let check = |target, level| assert_eq!(spec.level_of(target), level, "{target}");
        check("selvage_peer::endorser", LevelFilter::WARN);
        check("selvage_orderer::broadcast", LevelFilter::DEBUG);
        check("selvage_orderer::deliver::acl", LevelFilter::ERROR);
        check("selvage_peer::gossip", LevelFilter::DEBUG);
        check("a.b", LevelFilter::INFO);
        check("a.b.c", LevelFilter::WARN);
        assert_eq!(spec.most_verbose(), LevelFilter::DEBUG);
    }

    #[test]
    fn libraries_are_quiet_unless_named() {
        let check = |text: &str, level| {
            assert_eq!(
                Spec::parse(text).unwrap().level_of("h2::codec"),
                level,
                "{text}"
            );
        };
        check("debug", LevelFilter::WARN);
        check("error", LevelFilter::ERROR);
        check("info:h2=debug", LevelFilter::DEBUG);
    }

    #[test]
    fn normal_form() {
        let check = |text: &str, normal: &str| {
            assert_eq!(Spec::parse(text).unwrap().to_string(), normal, "{text}");
        };
        check("", "info");
        check("DEBUG", "debug");
        check("b,a=WARNING:info", "a=warn:b=warn:info");
    }

    #[test]
    fn bad_specifications() {
        for (text, part) in [
            ("loud", "bad segment 'loud'"),
            ("info:=debug", "no logger specified in segment '=debug'"),
            ("a=loud", "bad segment 'a=loud'"),
            ("a=b=debug", "bad segment"),
            (".a=debug", "bad logger name '.a'"),
            ("a b=debug", "bad logger name 'a b'"),
        ] {
            let error = Spec::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}

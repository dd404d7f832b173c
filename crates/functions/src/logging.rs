//! How a function logs (Lambda API: LoggingConfig; Lambda: Configuring JSON and plain text log formats).

use serde::{Deserialize, Serialize};

use crate::Error;

/// The format of a function's log, and what is left out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Logging {
    /// Lines of text, all of them.
    #[default]
    Text,
    /// A JSON object a line.
    Json {
        /// Lines of the code from this level on; its runtime client leaves the others out.
        application: LogLevel,
        /// Lines of the platform from this level on: `Debug`, `Info` or `Warn`.
        system: LogLevel,
    },
}

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogLevel {
    /// `TRACE`
    Trace,
    /// `DEBUG`
    Debug,
    /// `INFO`
    Info,
    /// `WARN`
    Warn,
    /// `ERROR`
    Error,
    /// `FATAL`
    Fatal,
}

impl LogLevel {
    /// From the least important to the most.
    pub const ALL: [Self; 6] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Fatal];

    /// Lambda's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }

    /// Reads Lambda's name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// A change: `None` leaves a member as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoggingChange {
    /// Whether the format is JSON.
    pub json: Option<bool>,
    /// `ApplicationLogLevel`
    pub application: Option<LogLevel>,
    /// `SystemLogLevel`
    pub system: Option<LogLevel>,
}

impl LoggingChange {
    /// What it makes of what was.
    pub(crate) fn apply(self, now: Logging) -> Result<Logging, Error> {
        let (was_json, application, system) = match now {
            Logging::Text => (false, LogLevel::Info, LogLevel::Info),
            Logging::Json { application, system } => (true, application, system),
        };
        if self.json.unwrap_or(was_json) {
            let (application, system) =
                (self.application.unwrap_or(application), self.system.unwrap_or(system));
            return Ok(Logging::Json { application, system });
        }
        if self.application.is_some() || self.system.is_some() {
            return Err(Error::Invalid(
                "LogLevel is not supported when LogFormat is set to \"Text\". Remove LogLevel from your request or \
                 change the LogFormat to \"JSON\" and try again."
                    .to_owned(),
            ));
        }
        Ok(Logging::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let json = |application, system| Logging::Json { application, system };
        let change = |json, application, system| LoggingChange { json, application, system };
        let check = |change: LoggingChange, now| change.apply(now).ok();
        use LogLevel::{Debug, Info, Warn};
        assert_eq!(check(LoggingChange::default(), Logging::Text), Some(Logging::Text));
        assert_eq!(check(change(Some(true), None, None), Logging::Text), Some(json(Info, Info)));
        assert_eq!(check(change(Some(true), Some(Debug), None), Logging::Text), Some(json(Debug, Info)));
        assert_eq!(check(change(None, None, Some(Warn)), json(Debug, Info)), Some(json(Debug, Warn)));
        assert_eq!(check(change(Some(false), None, None), json(Debug, Warn)), Some(Logging::Text));
        assert_eq!(check(change(None, Some(Debug), None), Logging::Text), None);
        assert_eq!(check(change(Some(false), Some(Debug), None), json(Debug, Warn)), None);
    }

    #[test]
    fn levels_are_named_and_ordered() {
        for level in LogLevel::ALL {
            assert_eq!(LogLevel::parse(level.as_str()), Some(level));
        }
        assert!(LogLevel::ALL.is_sorted());
        assert_eq!(LogLevel::parse("info"), None);
    }
}

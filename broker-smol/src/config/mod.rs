//! The configuration file: YAML with the keys of [`limits_table`].
//!
//! Durations are `500ms`, `10s`, `2m`, `1h`, `7d` or plain seconds; sizes `64KiB`, `1MiB`, `1GiB`,
//! `1MB` or plain bytes. Every error names line, column and remedy.

mod keys;
mod setting;
mod units;
mod value;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Spanned;

use crate::Listen;
use keys::{ALIASES, KEYS, REFUSED};
use setting::Key;
use value::Value;

/// All that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Limits and choices of the broker itself.
    pub core: fulmar_core::broker::Config,
    /// Shards, each with a thread; 0 for one per core. 0.
    pub shards: u16,
    /// Where to listen. `localhost:1883`.
    pub listeners: Vec<Listen>,
    /// Whether clients may connect without credentials. `None`: from this machine only.
    pub allow_anonymous: Option<bool>,
    /// How long a stop waits for clients to take their last packets. 9 s.
    pub shutdown_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            core: fulmar_core::broker::Config::default(),
            shards: 0,
            listeners: vec![Listen::Localhost(1883)],
            allow_anonymous: None,
            shutdown_timeout: Duration::from_secs(9),
        }
    }
}

impl Settings {
    /// Reads the text of a configuration file. What it does not mention keeps its default.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(yaml: &str) -> Result<Self, ConfigError> {
        let root = value::parse(yaml)?;
        let mut settings = Self::default();
        let entries = match &root.value {
            Value::Null => return Ok(settings),
            Value::Map(entries) => entries,
            other => return Err(at(&root, format!("expected keys with values, found {other}"))),
        };
        let mut seen: Vec<(&str, &Spanned<String>)> = Vec::new();
        for (name, value) in entries {
            let key = find(name)?;
            if let Some((_, first)) = seen.iter().find(|(known, _)| *known == key.name) {
                let line = first.referenced.line();
                let text = format!("{} is already set as {} in line {line}", key.name, first.value);
                return Err(at(name, text));
            }
            seen.push((key.name, name));
            key.set(&mut settings, name, value)?;
        }
        Ok(settings)
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let yaml = std::fs::read_to_string(path)
            .map_err(|error| LoadError::Read { path: path.into(), error })?;
        Self::parse(&yaml).map_err(|error| LoadError::Invalid { path: path.into(), error })
    }
}

/// A table of all keys in Markdown, each with its default and the reason for it.
#[must_use]
pub fn limits_table() -> String {
    let mut table = String::from("| key | default | why |\n|---|---|---|\n");
    let mut defaults = Settings::default();
    for key in KEYS {
        let default = key.show(&mut defaults);
        table += &format!("| `{}` | {default} | {} |\n", key.name, key.why);
    }
    table
}

/// The names of all keys, in the order of [`limits_table`].
pub fn key_names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}

/// What is wrong in a configuration file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
    /// What is wrong and what is allowed, in one line.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Why a configuration file was not taken.
#[derive(Debug)]
pub enum LoadError {
    /// It cannot be read.
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Something in it is wrong.
    Invalid {
        /// Which.
        path: PathBuf,
        /// What.
        error: ConfigError,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, error) = match self {
            Self::Invalid { path, error } => return write!(f, "{}: {error}", path.display()),
            Self::Read { path, error } => (path.display(), error),
        };
        match error.kind() {
            io::ErrorKind::NotFound => {
                write!(f, "there is no file {path}; check the path given with --config")
            }
            io::ErrorKind::PermissionDenied => {
                write!(f, "no permission to read {path}; make it readable for this user")
            }
            io::ErrorKind::InvalidData => write!(f, "{path} is not a text file in UTF-8"),
            _ => write!(f, "cannot read {path}: {error}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// An error at the place of something.
fn at<T>(what: &Spanned<T>, message: String) -> ConfigError {
    let place = what.referenced;
    ConfigError { line: place.line(), column: place.column(), message }
}

/// The key of this name or older name.
fn find(name: &Spanned<String>) -> Result<&'static Key, ConfigError> {
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name.value) {
        return Err(at(name, format!("{} is not available: {why}", name.value)));
    }
    let own = ALIASES.iter().find(|(alias, _)| *alias == name.value);
    let own = own.map_or(name.value.as_str(), |(_, own)| own);
    KEYS.iter().find(|key| key.name == own).ok_or_else(|| {
        unknown(name, KEYS.iter().map(|key| key.name).chain(ALIASES.iter().map(|a| a.0)))
    })
}

/// An error that names the nearest known key.
fn unknown(name: &Spanned<String>, known: impl Iterator<Item = &'static str>) -> ConfigError {
    let written = name.value.to_lowercase();
    let nearest = known.min_by_key(|known| distance(known, &written)).unwrap_or_default();
    at(name, format!("unknown key {:?}; the nearest known key is \"{nearest}\"", name.value))
}

/// Characters to insert, remove or replace to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    // A longer name is nowhere near, and must not cost its length squared.
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;

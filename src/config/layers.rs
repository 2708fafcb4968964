//! The configuration file and the command line, put together.

use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::Settings;
use crate::error::Error;
use crate::tree::Escaped;

/// A setting that was given outside the configuration file.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// How it was given, for messages: the flag with its name.
    pub place: String,
}

impl Given {
    /// A setting with a flag of its own.
    pub fn flag(key: &str, value: impl Into<Value>) -> Self {
        let place = format!("--{}", key.replace('_', "-"));
        Self {
            key: key.into(),
            value: value.into(),
            place,
        }
    }

    /// A setting given as `KEY=VALUE`, the value as in the file; quotes around text can be left out.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no `=`.
    pub fn assignment(text: &str) -> Result<Self, Error> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| Error::Usage(format!("'{text}' is not of the form KEY=VALUE")))?;
        let parsed = toml::from_str::<Table>(&format!("value = {value}"))
            .ok()
            .and_then(|mut table| table.remove("value").filter(|_| table.is_empty()))
            .unwrap_or_else(|| Value::String(value.trim().into()));
        Ok(Self {
            key: key.trim().into(),
            value: parsed,
            place: "--set".into(),
        })
    }
}

/// The settings from a configuration file, if there is one, and what was given besides, which wins.
///
/// # Errors
/// [`Error::Setting`] with file, line and key for what is wrong in the file, [`Error::Usage`] with the
/// flag for what is wrong on the command line.
pub fn load(file: Option<&Path>, given: &[Given]) -> Result<Settings, Error> {
    let mut table = match file {
        Some(path) => read(path)?,
        None => Table::new(),
    };
    for Given { key, value, .. } in given {
        table.insert(key.clone(), value.clone());
    }
    let place = |key: &str| given.iter().rev().find(|given| given.key == key);
    let settings: Settings = serde_path_to_error::deserialize(table).map_err(|error| {
        // The file was found to be right before, so it can only be something given.
        let key = error.path().to_string();
        let reason = error.inner().message().trim_end();
        match place(&key) {
            Some(given) => Error::Usage(format!("{}: {key}: {reason}", given.place)),
            None => Error::Usage(format!("--set: {reason}")),
        }
    })?;
    match settings.check() {
        Ok(()) => Ok(settings),
        Err((key, reason)) => Err(match (place(key), file) {
            (None, Some(file)) => Error::Setting {
                place: shown(file),
                reason: format!("{key} {reason}"),
            },
            (Some(given), _) => Error::Usage(format!("{}: {key} {reason}", given.place)),
            (None, None) => Error::Usage(format!("{key} {reason}")),
        }),
    }
}

/// Reads a configuration file, each value checked where it stands.
fn read(path: &Path) -> Result<Table, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::Setting {
        place: shown(path),
        reason: format!("cannot read the configuration: {error}"),
    })?;
    check_each(path, &text)?;
    toml::from_str(&text).map_err(|error| wrong(path, &text, None, &error))
}

fn check_each(path: &Path, text: &str) -> Result<(), Error> {
    let parser =
        toml::Deserializer::parse(text).map_err(|error| wrong(path, text, None, &error))?;
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(parser, &mut track);
    match Settings::deserialize(tracked) {
        Ok(_) => Ok(()),
        Err(error) => Err(wrong(path, text, Some(track.path().to_string()), &error)),
    }
}

fn wrong(path: &Path, text: &str, key: Option<String>, error: &toml::de::Error) -> Error {
    let mut place = shown(path);
    if let Some(span) = error.span() {
        let before = text.as_bytes().iter().take(span.start);
        let line = 1 + before.filter(|&&byte| byte == b'\n').count();
        place = format!("{place}:{line}");
    }
    // An unknown key is named by the message itself; at the top of the file the path is a dot.
    let reason = match key.filter(|key| key != "." && !error.message().contains(key.as_str())) {
        Some(key) => format!("{key}: {}", error.message()),
        None => error.message().into(),
    };
    Error::Setting { place, reason }
}

fn shown(path: &Path) -> String {
    Escaped::path(path).to_string()
}

//! Values with limits, checked while they are read, so that the error knows the line.

use std::fmt::Display;
use std::time::Duration;

use super::Compression;
use crate::tree::{Filter, Rule};
use crate::wire::{LEVEL_MAX, LEVEL_MIN};
use bytesize::ByteSize;
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// A whole number from `MIN` to `MAX`.
pub(super) fn within<'de, D, T, const MIN: u64, const MAX: u64>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64, Error: Display>,
{
    let value = i64::deserialize(from)?;
    match u64::try_from(value) {
        Ok(value) if (MIN..=MAX).contains(&value) => T::try_from(value).map_err(D::Error::custom),
        _ => Err(D::Error::custom(format_args!(
            "{value} is not within {MIN} to {MAX}"
        ))),
    }
}

/// A number of bytes from `MIN` to `MAX`: a whole number, or text with a unit such as `"8MiB"`.
pub(super) fn bytes_within<'de, D, const MIN: u64, const MAX: u64>(from: D) -> Result<u64, D::Error>
where
    D: Deserializer<'de>,
{
    let bytes = from.deserialize_any(Bytes)?;
    if (MIN..=MAX).contains(&bytes) {
        return Ok(bytes);
    }
    let [value, min, max] = [bytes, MIN, MAX].map(|bytes| ByteSize(bytes).display().iec());
    Err(D::Error::custom(format_args!(
        "{value} is not within {min} to {max}"
    )))
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = u64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number of bytes, such as 8388608 or \"8MiB\"")
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<u64, E> {
        bytes
            .try_into()
            .map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let size = text.parse::<ByteSize>();
        size.map(|size| size.as_u64())
            .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// A time between two of something: text with a unit such as `"24h"`, from 1 s to 365 days, or 0 s for
/// never.
pub(super) fn interval<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    const MAX: Duration = Duration::from_secs(365 * 24 * 3600);
    let text = String::deserialize(from)?;
    let time = text.parse::<jiff::SignedDuration>().ok();
    let time = time.and_then(|time| Duration::try_from(time).ok());
    match time {
        Some(time) if time.is_zero() || (Duration::from_secs(1)..=MAX).contains(&time) => {
            Ok(Some(time))
        }
        Some(_) => Err(D::Error::custom(format_args!(
            "'{text}' is not within 1s to 8760h, nor 0s"
        ))),
        None => Err(D::Error::custom(format_args!(
            "'{}' is no time with a unit, such as 90s, 30m or 24h",
            text.escape_default()
        ))),
    }
}

/// Filter rules, one text each.
pub(super) fn rules<'de, D: Deserializer<'de>>(from: D) -> Result<Filter, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let rule = |text: &String| {
        Rule::parse(text.as_bytes())
            .map_err(|why| D::Error::custom(format_args!("'{}': {why}", text.escape_default())))
    };
    let rules = texts.iter().map(rule).collect::<Result<_, _>>()?;
    Filter::new(rules).map_err(D::Error::custom)
}

/// A word, or a level: as a whole number, or as text, which is how the command line gives it.
pub(super) fn compression<'de, D: Deserializer<'de>>(from: D) -> Result<Compression, D::Error> {
    let text = match toml::Value::deserialize(from)? {
        toml::Value::String(text) => text,
        toml::Value::Integer(level) => level.to_string(),
        other => other.type_str().to_owned(),
    };
    match (text.as_str(), text.parse()) {
        ("auto", _) => Ok(Compression::Auto),
        ("off", _) => Ok(Compression::Off),
        (_, Ok(level @ LEVEL_MIN..=LEVEL_MAX)) => Ok(Compression::Level(level)),
        _ => Err(D::Error::custom(format_args!(
            "'{}' is neither auto nor off nor a level from {LEVEL_MIN} to {LEVEL_MAX}",
            text.escape_default()
        ))),
    }
}

/// A share: above 0, at most 1.
pub(super) fn share<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(from)?;
    if value > 0.0 && value <= 1.0 {
        return Ok(value);
    }
    Err(D::Error::custom(format_args!(
        "{value} is not above 0 and at most 1"
    )))
}

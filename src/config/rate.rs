//! Limits of the backlog, as people write them: `10MB/s`, `500`, `none`.

use std::ops::RangeInclusive;

use bytesize::ByteSize;
use serde::de::{Deserialize, Deserializer, Error};

use crate::report::RateLimits;

/// Bytes in a second, such as `10MB/s` or `64KiB`; `None` for `none`.
///
/// # Errors
/// What is wrong with the text, as the end of a sentence.
pub fn parse_bandwidth(text: &str) -> Result<Option<u64>, String> {
    let parse = |text: &str| text.parse::<ByteSize>().ok().map(|size| size.as_u64());
    let rate = text.strip_suffix("/s").unwrap_or(text);
    let shown = |bytes| format!("{}/s", ByteSize(bytes).display().iec());
    let what = "a rate, such as 10MB/s or 64KiB/s";
    parsed(text, parse(rate), RateLimits::BYTES_PER_S, shown, what)
}

/// Operations in a second, such as `500`; `None` for `none`.
///
/// # Errors
/// As [`parse_bandwidth`].
pub fn parse_iops(text: &str) -> Result<Option<u64>, String> {
    let shown = |operations: u64| operations.to_string();
    let what = "a number of operations a second, such as 500";
    parsed(
        text,
        text.parse().ok(),
        RateLimits::OPERATIONS_PER_S,
        shown,
        what,
    )
}

fn parsed(
    text: &str,
    rate: Option<u64>,
    range: RangeInclusive<u64>,
    shown: impl Fn(u64) -> String,
    what: &str,
) -> Result<Option<u64>, String> {
    match rate {
        _ if text == "none" => Ok(None),
        Some(rate) if range.contains(&rate) => Ok(Some(rate)),
        Some(rate) => {
            let [rate, min, max] = [rate, *range.start(), *range.end()].map(shown);
            Err(format!("{rate} is not within {min} to {max}"))
        }
        None => Err(format!(
            "'{}' is neither {what}, nor none",
            text.escape_default()
        )),
    }
}

/// [`parse_bandwidth`] of a text or a number.
pub(super) fn bandwidth<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    parse_bandwidth(&text(from)?).map_err(D::Error::custom)
}

/// [`parse_iops`] of a text or a number.
pub(super) fn iops<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    parse_iops(&text(from)?).map_err(D::Error::custom)
}

/// A text, or a whole number as one.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match toml::Value::deserialize(from)? {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        other => Err(D::Error::custom(format_args!(
            "a {} is neither a number nor a text",
            other.type_str()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidth_has_a_unit_and_perhaps_a_time() {
        for (text, bytes) in [
            ("10MB/s", Some(10_000_000)),
            ("10MiB/s", Some(10 << 20)),
            ("10MiB", Some(10 << 20)),
            ("16384", Some(16_384)),
            ("1TiB/s", Some(1 << 40)),
            ("none", None),
        ] {
            assert_eq!(parse_bandwidth(text), Ok(bytes), "{text}");
        }
        for text in ["", "fast", "10MB/h", "10/s/s", "16383", "2TiB/s", "0", "-1"] {
            assert!(parse_bandwidth(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_bandwidth("1KiB/s"),
            Err("1.0 KiB/s is not within 16.0 KiB/s to 1.0 TiB/s".to_owned())
        );
    }

    #[test]
    fn operations_are_a_number() {
        assert_eq!(parse_iops("500"), Ok(Some(500)));
        assert_eq!(parse_iops("none"), Ok(None));
        for text in ["", "0", "-1", "1.5", "10000001", "many", "500/s"] {
            assert!(parse_iops(text).is_err(), "{text}");
        }
    }
}

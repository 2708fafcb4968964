//! Filter rules: which entries take part in replication, with the rules that rsync users know.
//!
//! A list of `+ PATTERN` and `- PATTERN`; the first that matches an entry decides, and an entry that
//! none matches is included. What lies in an excluded directory is excluded with it. The meaning of a
//! pattern is rsync's, to which tests compare it.

mod pattern;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use self::pattern::Pattern;
use super::{Escaped, RelPath};

/// Most rules in one filter.
pub const RULES_MAX: usize = 1024;

/// Most bytes of all patterns of one filter together.
pub const RULES_BYTES_MAX: usize = 64 * 1024;

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1023;

/// Why some text is no rule, or some rules no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// Neither `+ ` nor `- ` in front.
    #[error(
        "a rule is '+ PATTERN' or '- PATTERN'; merged files, hide, show, protect, risk, '!' and \
         modifiers are not supported"
    )]
    Kind,
    /// No pattern.
    #[error("the pattern is empty")]
    Empty,
    /// A pattern that would mean something else to rsync.
    #[error("the pattern begins like a rule; write rules to a file for --filter-from")]
    Signed,
    /// A pattern above [`PATTERN_BYTES_MAX`].
    #[error("the pattern is longer than {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    /// A NUL byte, which no name can hold.
    #[error("the pattern holds a NUL byte")]
    Nul,
    /// Above [`RULES_MAX`] or [`RULES_BYTES_MAX`].
    #[error("there are more than {RULES_MAX} rules or {RULES_BYTES_MAX} bytes of patterns")]
    TooMany,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    includes: bool,
    pattern: Pattern,
}

impl Rule {
    /// What the pattern matches takes part.
    ///
    /// # Errors
    /// [`InvalidRule`] if it is no pattern.
    pub fn include(pattern: &[u8]) -> Result<Self, InvalidRule> {
        Self::unsigned(true, pattern)
    }

    /// What the pattern matches is left alone.
    ///
    /// # Errors
    /// [`InvalidRule`] if it is no pattern.
    pub fn exclude(pattern: &[u8]) -> Result<Self, InvalidRule> {
        Self::unsigned(false, pattern)
    }

    fn unsigned(includes: bool, pattern: &[u8]) -> Result<Self, InvalidRule> {
        if pattern == b"!" || pattern.starts_with(b"+ ") || pattern.starts_with(b"- ") {
            return Err(InvalidRule::Signed);
        }
        let pattern = Pattern::new(pattern)?;
        Ok(Self { includes, pattern })
    }

    /// `+ PATTERN` or `- PATTERN`; as in rsync, the space may be an underscore.
    ///
    /// # Errors
    /// [`InvalidRule`] if it is neither.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidRule> {
        let (includes, pattern) = match text {
            [b'+', b' ' | b'_', pattern @ ..] => (true, pattern),
            [b'-', b' ' | b'_', pattern @ ..] => (false, pattern),
            _ => return Err(InvalidRule::Kind),
        };
        let pattern = Pattern::new(pattern)?;
        Ok(Self { includes, pattern })
    }

    /// The rules of a file: one a line. Empty lines and lines that begin with `#` or `;` say nothing.
    ///
    /// # Errors
    /// The number of the line, from 1, and what is wrong with it.
    pub fn parse_lines(text: &[u8]) -> Result<Vec<Self>, (usize, InvalidRule)> {
        let mut rules = Vec::new();
        for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !matches!(line, [] | [b'#' | b';', ..]) {
                rules.push(Self::parse(line).map_err(|why| (at + 1, why))?);
            }
            if rules.len() > RULES_MAX {
                return Err((at + 1, InvalidRule::TooMany));
            }
        }
        Ok(rules)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let sign = if self.includes { b"+ " } else { b"- " };
        [sign, self.pattern.text()].concat()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.to_bytes()).fmt(f)
    }
}

/// Which entries take part. Cheap to clone; the default has no rules and includes everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<ByteBuf>", into = "Vec<ByteBuf>")]
pub struct Filter {
    rules: Arc<[Rule]>,
}

impl Filter {
    /// A filter of these rules, the first that matches counts.
    ///
    /// # Errors
    /// [`InvalidRule::TooMany`] above the limits.
    pub fn new(rules: Vec<Rule>) -> Result<Self, InvalidRule> {
        let bytes: usize = rules.iter().map(|rule| rule.pattern.text().len()).sum();
        if rules.len() > RULES_MAX || bytes > RULES_BYTES_MAX {
            return Err(InvalidRule::TooMany);
        }
        Ok(Self {
            rules: rules.into(),
        })
    }

    /// True if it includes everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// True if an entry of this kind is excluded by itself, its directory being included. The root never
    /// is.
    #[must_use]
    pub fn excludes_entry(&self, path: &RelPath, is_dir: bool) -> bool {
        self.entry_rule(path.as_bytes(), is_dir)
            .is_some_and(|rule| !rule.includes)
    }

    fn entry_rule(&self, path: &[u8], is_dir: bool) -> Option<&Rule> {
        if path.is_empty() {
            return None;
        }
        let mut rules = self.rules.iter();
        rules.find(|rule| rule.pattern.matches(path, is_dir))
    }

    /// True if an entry of this kind is excluded, by itself or with a directory above it.
    #[must_use]
    pub fn excludes(&self, path: &RelPath, is_dir: bool) -> bool {
        self.why(path, is_dir).is_some()
    }

    /// True if whatever may be at this path is excluded.
    #[must_use]
    pub fn excludes_all(&self, path: &RelPath) -> bool {
        self.excludes(path, false) && self.excludes(path, true)
    }

    /// The rule that excludes an entry of this kind, or a directory above it.
    #[must_use]
    pub fn why(&self, path: &RelPath, is_dir: bool) -> Option<&Rule> {
        if self.is_empty() {
            return None;
        }
        let bytes = path.as_bytes();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let above = ends.map(|(end, _)| (&bytes[..end], true));
        above
            .chain([(bytes, is_dir)])
            .filter_map(|(path, is_dir)| self.entry_rule(path, is_dir))
            .find(|rule| !rule.includes)
    }
}

impl TryFrom<Vec<ByteBuf>> for Filter {
    type Error = InvalidRule;
    fn try_from(rules: Vec<ByteBuf>) -> Result<Self, InvalidRule> {
        if rules.len() > RULES_MAX {
            return Err(InvalidRule::TooMany);
        }
        let rules = rules.iter().map(|rule| Rule::parse(rule));
        Self::new(rules.collect::<Result<_, _>>()?)
    }
}

impl From<Filter> for Vec<ByteBuf> {
    fn from(filter: Filter) -> Self {
        let rules = filter.rules.iter();
        rules.map(|rule| ByteBuf::from(rule.to_bytes())).collect()
    }
}

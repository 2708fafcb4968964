//! `--exclude`, `--include` and `--filter-from`: rules in the order in which they are given.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, ValueHint, value_parser};

use crate::config::Settings;
use crate::error::Error;
use crate::tree::{Escaped, Filter, Rule};

/// Longest file of rules, comments included, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

const EXCLUDE: &str = "exclude";
const INCLUDE: &str = "include";
const FILTER_FROM: &str = "filter-from";

/// The options as they were given: which, and its value.
#[derive(Debug, Clone, Default)]
pub(super) struct FilterArgs {
    given: Vec<(&'static str, OsString)>,
}

impl clap::Args for FilterArgs {
    fn augment_args(command: Command) -> Command {
        let option = |name: &'static str, value: &'static str, help: &'static str| {
            Arg::new(name)
                .long(name)
                .value_name(value)
                .help(help)
                .action(ArgAction::Append)
                .value_parser(value_parser!(OsString))
        };
        command
            .arg(option(
                EXCLUDE,
                "PATTERN",
                "Leave alone what matches, on both sides; as in rsync, the first match decides",
            ))
            .arg(option(INCLUDE, "PATTERN", "Replicate what matches"))
            .arg(
                option(
                    FILTER_FROM,
                    "FILE",
                    "Rules from a file: + PATTERN or - PATTERN, one a line",
                )
                .value_hint(ValueHint::FilePath),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FilterArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Vec::new();
        for name in [EXCLUDE, INCLUDE, FILTER_FROM] {
            let places = matches.indices_of(name).into_iter().flatten();
            let values = matches.get_many::<OsString>(name).into_iter().flatten();
            given.extend(
                places
                    .zip(values)
                    .map(|(place, value)| (place, name, value)),
            );
        }
        given.sort_by_key(|(place, ..)| *place);
        let given = given.into_iter();
        Ok(Self {
            given: given
                .map(|(_, name, value)| (name, value.clone()))
                .collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl FilterArgs {
    /// Puts the rules in the place of those of the configuration file, if there are any.
    ///
    /// # Errors
    /// [`Error::Usage`] for a pattern that is none; [`Error::Setting`] with file and line for what is wrong
    /// in a file.
    pub(super) fn put_into(&self, settings: &mut Settings) -> Result<(), Error> {
        if self.given.is_empty() {
            return Ok(());
        }
        let mut rules = Vec::new();
        for (name, value) in &self.given {
            let wrong = |why| {
                let value = Escaped(value.as_bytes());
                Error::Usage(format!("--{name} '{value}': {why}"))
            };
            match *name {
                EXCLUDE => rules.push(Rule::exclude(value.as_bytes()).map_err(wrong)?),
                INCLUDE => rules.push(Rule::include(value.as_bytes()).map_err(wrong)?),
                _ => rules.extend(read(value)?),
            }
        }
        settings.filter = Filter::new(rules).map_err(|why| Error::Usage(why.to_string()))?;
        Ok(())
    }
}

fn read(file: &OsStr) -> Result<Vec<Rule>, Error> {
    let shown = Escaped(file.as_bytes());
    let wrong = |place: String, reason: String| Error::Setting { place, reason };
    let mut text = Vec::new();
    File::open(Path::new(file))
        .and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut text))
        .map_err(|error| {
            wrong(
                shown.to_string(),
                format!("cannot read the filter rules: {error}"),
            )
        })?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(
            shown.to_string(),
            "a file of filter rules has at most 1 MiB".into(),
        ));
    }
    Rule::parse_lines(&text)
        .map_err(|(line, why)| wrong(format!("{shown}:{line}"), why.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        filters: FilterArgs,
    }

    fn rules(args: &[&str]) -> Result<Vec<String>, (u8, String)> {
        let line = Line::try_parse_from(["osync"].iter().chain(args)).unwrap();
        let mut settings = Settings::default();
        match line.filters.put_into(&mut settings) {
            Ok(()) => Ok(settings
                .filter
                .rules()
                .iter()
                .map(Rule::to_string)
                .collect()),
            Err(error) => Err((error.exit_code(), error.to_string())),
        }
    }

    #[test]
    fn options_count_in_the_order_in_which_they_are_given() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rules");
        std::fs::write(&file, "# first\n+ c\n- d\n").unwrap();
        let from = format!("--filter-from={}", file.display());
        let given = ["--include", "b", "--exclude=a", &from, "--include=e"];
        assert_eq!(rules(&given).unwrap(), ["+ b", "- a", "+ c", "- d", "+ e"]);
        assert_eq!(rules(&[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_named_with_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rules");
        std::fs::write(&file, "- a\nmerge b\n").unwrap();
        let (code, text) = rules(&["--filter-from", file.to_str().unwrap()]).unwrap_err();
        assert_eq!(code, 78);
        assert!(
            text.starts_with(&format!("{}:2: a rule is", file.display())),
            "{text}"
        );
        let (code, text) = rules(&["--filter-from", "/nowhere"]).unwrap_err();
        assert_eq!(code, 78);
        assert!(text.contains("cannot read the filter rules"), "{text}");
        let (code, text) = rules(&["--exclude", "+ a"]).unwrap_err();
        assert_eq!(code, 64);
        assert!(text.starts_with("--exclude '+ a': "), "{text}");
        std::fs::write(&file, vec![b'#'; 1024 * 1024 + 1]).unwrap();
        assert_eq!(
            rules(&["--filter-from", file.to_str().unwrap()])
                .unwrap_err()
                .0,
            78
        );
    }
}

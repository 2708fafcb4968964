//! Errors for people: what happened, to which path or peer, and what to do about it.
//!
//! One kind of error is not here: a single path that cannot be replicated is data, a
//! [`crate::report::Problem`], and ends nothing.

use std::io;
use std::path::PathBuf;

use crate::channel::ChannelError;
use crate::tree::Escaped;
use crate::wire::message::ErrorCode;

/// Exit codes of every `osync` command.
pub mod exit {
    /// Done, and both sides are equal as far as the command claims that.
    pub const DONE: u8 = 0;
    /// Something unexpected failed.
    pub const UNEXPECTED: u8 = 1;
    /// Finished, but something is left that could not be replicated: paths, or what the target cannot
    /// hold.
    pub const PROBLEMS: u8 = 2;
    /// The command line is wrong (EX_USAGE).
    pub const USAGE: u8 = 64;
    /// The endpoint that was addressed does not answer (EX_UNAVAILABLE).
    pub const UNAVAILABLE: u8 = 69;
    /// Not now: the same command may succeed later (EX_TEMPFAIL).
    pub const TEMPORARY: u8 = 75;
    /// Configuration, roots, state directory or kernel limits do not allow a start (EX_CONFIG).
    pub const CONFIGURATION: u8 = 78;
}

/// Why a command or a daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),

    /// A setting is wrong.
    #[error("{place}: {reason}")]
    Setting {
        /// File and line, or the flag.
        place: String,
        /// Which key, and what is wrong with it.
        reason: String,
    },

    /// A replicated directory cannot be used.
    #[error("cannot use '{}' as a root: {reason}", path_text(.path))]
    Root {
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    /// Two directories that must be apart contain each other.
    #[error("'{}' lies inside '{}'", path_text(.inner), path_text(.outer))]
    Nested {
        /// The directory inside.
        inner: PathBuf,
        /// The directory around it.
        outer: PathBuf,
    },

    /// The target holds entries and osync has never written to it.
    #[error("the target '{}' is not empty and was not made by osync", path_text(.path))]
    NotEmpty {
        /// The target.
        path: PathBuf,
    },

    /// The target takes different names for one.
    #[error(
        "the target '{}' takes names for one that differ in case or in their Unicode form",
        path_text(.path)
    )]
    Folding {
        /// The target.
        path: PathBuf,
    },

    /// A channel cannot be made; its message says what to do.
    #[error(transparent)]
    Channel(#[from] ChannelError),

    /// The kernel's limit of watched directories is reached.
    #[error("cannot watch '{}': all {limit} watches are in use", path_text(.path))]
    WatchLimit {
        /// The directory that could not be watched.
        path: PathBuf,
        /// The limit now.
        limit: u64,
        /// The command that raises it.
        sysctl: String,
    },

    /// The kernel's limit of event queues is reached.
    #[error("cannot make an event queue: this user has all {limit} of them in use")]
    InstanceLimit {
        /// The limit now.
        limit: u64,
    },

    /// A peer does not answer.
    #[error("{peer} does not answer: {reason}")]
    Unavailable {
        /// Its address.
        peer: String,
        /// What was waited for, or what failed.
        reason: String,
    },

    /// A peer answered with an error.
    #[error("{peer} refused: {message}")]
    Refused {
        /// Its address.
        peer: String,
        /// The kind of error.
        code: ErrorCode,
        /// The peer's words.
        message: String,
    },

    /// A peer speaks another language.
    #[error("{peer} sent something unexpected: {reason}")]
    Protocol {
        /// Its address.
        peer: String,
        /// What was wrong with it.
        reason: String,
    },

    /// The work is not done yet.
    #[error("not finished: {waiting_for}")]
    Unfinished {
        /// What is missing.
        waiting_for: String,
    },

    /// The work is done except for these paths.
    #[error("{count} paths could not be replicated")]
    Problems {
        /// How many.
        count: u64,
    },

    /// The work is done except for what the target cannot hold.
    #[error("equal except for what the target cannot hold: {losses}")]
    Limited {
        /// What, and of how many entries.
        losses: String,
    },

    /// A system call failed that nobody expected to fail.
    #[error("cannot {operation} '{}': {source}", path_text(.path))]
    Io {
        /// A verb.
        operation: &'static str,
        /// Of what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },

    /// Something failed that has no path and no peer.
    #[error("{0}")]
    Unexpected(String),
}

impl Error {
    /// A failed system call on a path.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            operation,
            path: path.into(),
            source,
        }
    }

    /// The exit code of a process that ends with this error; one of [`exit`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::Setting { .. }
            | Self::Root { .. }
            | Self::Nested { .. }
            | Self::NotEmpty { .. }
            | Self::Folding { .. }
            | Self::WatchLimit { .. }
            | Self::InstanceLimit { .. } => exit::CONFIGURATION,
            Self::Unavailable { .. } => exit::UNAVAILABLE,
            Self::Channel(error) => match error {
                ChannelError::Address { .. } => exit::USAGE,
                ChannelError::Exposed { .. }
                | ChannelError::InUse { .. }
                | ChannelError::NoFreePort { .. }
                | ChannelError::Listen { .. } => exit::CONFIGURATION,
                ChannelError::Refused { .. }
                | ChannelError::Unreachable { .. }
                | ChannelError::Timeout { .. }
                | ChannelError::Handshake { .. } => exit::UNAVAILABLE,
            },
            Self::Refused { code, .. } => match code {
                ErrorCode::Busy
                | ErrorCode::Terminating
                | ErrorCode::Timeout
                | ErrorCode::OutOfPhase => exit::TEMPORARY,
                ErrorCode::Version | ErrorCode::Duplicate => exit::CONFIGURATION,
                ErrorCode::Malformed => exit::UNEXPECTED,
                ErrorCode::Excluded => exit::USAGE,
            },
            Self::Unfinished { .. } => exit::TEMPORARY,
            Self::Problems { .. } | Self::Limited { .. } => exit::PROBLEMS,
            Self::Protocol { .. } | Self::Io { .. } | Self::Unexpected(_) => exit::UNEXPECTED,
        }
    }

    /// What to do about it, as one sentence; `None` where the message says it all.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Usage(_) => "see 'osync --help'".into(),
            Self::Nested { .. } => {
                "choose directories of which none contains another: source root, sink root, state"
                    .into()
            }
            Self::NotEmpty { .. } => {
                "--adopt takes it over: what the source does not have is then removed from it"
                    .into()
            }
            Self::Folding { .. } => {
                "--allow-folding uses it all the same: of such names one is held, the others are \
                 problems"
                    .into()
            }
            Self::WatchLimit { sysctl, .. } => format!("raise the limit: {sysctl}"),
            Self::InstanceLimit { limit } => {
                format!(
                    "raise the limit: sysctl fs.inotify.max_user_instances={}",
                    limit * 2
                )
            }
            Self::Unavailable { .. }
            | Self::Channel(
                ChannelError::Refused { .. }
                | ChannelError::Unreachable { .. }
                | ChannelError::Timeout { .. },
            ) => "is 'osync source' running there? --command ADDR or OSYNC_COMMAND names another"
                .into(),
            Self::Refused {
                code: ErrorCode::Version,
                ..
            }
            | Self::Protocol { .. } => {
                "both ends should run the same version: compare 'osync --version'".into()
            }
            Self::Refused {
                code: ErrorCode::Duplicate,
                ..
            } => "each sink needs a state directory of its own: --state-dir".into(),
            Self::Refused {
                code: ErrorCode::Busy | ErrorCode::Timeout,
                ..
            } => "try again".into(),
            Self::Unfinished { .. } => {
                "'osync status' shows what goes on; repeat it later, or with a longer --timeout"
                    .into()
            }
            Self::Problems { .. } => "'osync report problems' names them".into(),
            Self::Limited { .. } => "'osync status' says why, and what it means".into(),
            Self::Setting { .. }
            | Self::Root { .. }
            | Self::Channel(_)
            | Self::Refused { .. }
            | Self::Io { .. }
            | Self::Unexpected(_) => return None,
        })
    }
}

fn path_text(path: &std::path::Path) -> Escaped<'_> {
    Escaped::path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_where_and_what_to_do() {
        let error = Error::WatchLimit {
            path: PathBuf::from("/srv/a\nb"),
            limit: 8192,
            sysctl: "sysctl fs.inotify.max_user_watches=16384".into(),
        };
        assert_eq!(
            error.to_string(),
            "cannot watch '/srv/a\\nb': all 8192 watches are in use"
        );
        assert_eq!(
            error.hint().expect("a hint"),
            "raise the limit: sysctl fs.inotify.max_user_watches=16384"
        );
        assert_eq!(error.exit_code(), 78);
    }

    #[test]
    fn exit_codes_never_claim_success() {
        let refused = |code| Error::Refused {
            peer: "x".into(),
            code,
            message: String::new(),
        };
        for (error, code) in [
            (Error::Usage("x".into()), 64),
            (
                Error::Setting {
                    place: "f:1".into(),
                    reason: "x".into(),
                },
                78,
            ),
            (
                Error::Unavailable {
                    peer: "x".into(),
                    reason: "y".into(),
                },
                69,
            ),
            (Error::Folding { path: "/x".into() }, 78),
            (refused(ErrorCode::Busy), 75),
            (refused(ErrorCode::Malformed), 1),
            (
                Error::Unfinished {
                    waiting_for: "x".into(),
                },
                75,
            ),
            (Error::Problems { count: 1 }, 2),
            (Error::Limited { losses: "x".into() }, 2),
            (Error::io("read", "/x", io::Error::other("y")), 1),
        ] {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }
}

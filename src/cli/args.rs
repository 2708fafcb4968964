//! Options that several subcommands share.

use std::path::PathBuf;

use clap::Args;
use clap::ValueEnum;

use super::filters::FilterArgs;
use crate::config::{
    self, Address, Given, LogFormat, LogLevel, OnCritical, Owners, Settings, WatchBackend,
};
use crate::error::Error;

/// Options of commands that talk to a running source.
#[derive(Debug, Args)]
pub(super) struct OperatorArgs {
    /// Command channel of the source [default: tcp://127.0.0.1:7440]
    #[arg(
        long,
        value_name = "ADDR",
        env = "OSYNC_COMMAND",
        hide_env_values = true
    )]
    command: Option<Address>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl OperatorArgs {
    pub(super) fn settings(&self) -> Result<Settings, Error> {
        let mut given = Vec::new();
        give(&mut given, "command", self.command.as_ref());
        config::load(self.config.as_deref(), &given)
    }
}

/// Options of the endpoints.
#[derive(Debug, Args)]
pub(super) struct DaemonArgs {
    /// Command channel of the source [default: tcp://127.0.0.1:7440, push: any port]
    #[arg(
        long,
        value_name = "ADDR",
        env = "OSYNC_COMMAND",
        hide_env_values = true
    )]
    pub(super) command: Option<Address>,
    /// Data channel of the source [default: tcp://127.0.0.1:7441, push: any port]
    #[arg(long, value_name = "ADDR")]
    pub(super) data: Option<Address>,
    /// Where small durable state lies [default: STATE_DIRECTORY, /var/lib/osync, ~/.local/state/osync]
    #[arg(
        long,
        value_name = "DIR",
        env = "OSYNC_STATE_DIR",
        hide_env_values = true
    )]
    state_dir: Option<String>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any setting of the configuration file; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Let the threads that read or write give way to whatever else the host has to do
    #[arg(long)]
    nice: bool,
    /// How log lines look: text or json [default: text]
    #[arg(long, value_name = "FORMAT", value_enum, hide_possible_values = true)]
    log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", value_enum, hide_possible_values = true)]
    log_level: Option<LogLevel>,
}

impl DaemonArgs {
    /// The settings, with flags that only some endpoints have.
    pub(super) fn settings_with(&self, flags: Vec<Given>) -> Result<Settings, Error> {
        let assignments = self.set.iter().map(|text| Given::assignment(text));
        let mut given = assignments.collect::<Result<Vec<_>, _>>()?;
        give(&mut given, "command", self.command.as_ref());
        give(&mut given, "data", self.data.as_ref());
        give(&mut given, "state_dir", self.state_dir.as_ref());
        if self.nice {
            given.push(Given::flag("nice", true));
        }
        give(&mut given, "log_format", self.log_format.map(name).as_ref());
        give(&mut given, "log_level", self.log_level.map(name).as_ref());
        given.extend(flags);
        config::load(self.config.as_deref(), &given)
    }
}

/// Options of the endpoint that watches and listens.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// What reports changes: inotify or notify [default: inotify]
    #[arg(long, value_name = "BACKEND", value_enum, hide_possible_values = true)]
    watch: Option<WatchBackend>,
    /// When the kernel's event queue is nearly full: rescan (go on) or terminate [default: rescan]
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    on_critical: Option<OnCritical>,
    /// Listen where other hosts reach it, without encryption or authentication
    #[arg(long)]
    insecure_bind: bool,
    /// Compress content on its way: auto (where it makes a link faster), off, or a level of zstd from 1 to 19
    /// [default: auto]
    #[arg(long, value_name = "HOW")]
    compression: Option<String>,
    /// How often the whole tree is slowly compared, for changes that no event reports; 0s for never
    /// [default: 24h, 10m on network file systems]
    #[arg(long, value_name = "TIME")]
    audit_interval: Option<String>,
    /// Bytes a second that the backlog may send, such as 10MB/s [default: none]; see 'osync limit'
    #[arg(long, value_name = "RATE")]
    limit_bandwidth: Option<String>,
    /// Names looked at or listed and pieces of large files read a second for the backlog [default: none]
    #[arg(long, value_name = "NUMBER")]
    limit_iops: Option<String>,
    /// Enter what is mounted below the root, instead of staying on one file system; as root only
    #[arg(long)]
    cross_mounts: bool,
    #[command(flatten)]
    filters: FilterArgs,
}

impl SourceArgs {
    /// The settings of an endpoint that watches, with flags of another that it may also be.
    pub(super) fn settings(
        &self,
        daemon: &DaemonArgs,
        others: Vec<Given>,
    ) -> Result<Settings, Error> {
        let mut settings = daemon.settings_with([self.flags(), others].concat())?;
        self.filters.put_into(&mut settings)?;
        Ok(settings)
    }

    fn flags(&self) -> Vec<Given> {
        let mut given = Vec::new();
        give(&mut given, "watch", self.watch.map(name).as_ref());
        give(&mut given, "audit_interval", self.audit_interval.as_ref());
        give(&mut given, "limit_bandwidth", self.limit_bandwidth.as_ref());
        give(&mut given, "limit_iops", self.limit_iops.as_ref());
        give(&mut given, "compression", self.compression.as_ref());
        give(
            &mut given,
            "on_critical",
            self.on_critical.map(name).as_ref(),
        );
        if self.insecure_bind {
            given.push(Given::flag("insecure_bind", true));
        }
        if self.cross_mounts {
            given.push(Given::flag("cross_mounts", true));
        }
        given
    }
}

/// Options of the endpoint that writes.
#[derive(Debug, Args)]
pub(super) struct SinkArgs {
    /// Take over a target that is not empty: what the source lacks is removed
    #[arg(long)]
    pub(super) adopt: bool,
    /// How owners are matched: numeric or names [default: numeric]
    #[arg(long, value_name = "HOW", value_enum, hide_possible_values = true)]
    owners: Option<Owners>,
    /// Use a target that takes names for one that differ only in case
    #[arg(long)]
    allow_folding: bool,
}

impl SinkArgs {
    pub(super) fn flags(&self) -> Vec<Given> {
        let mut given = Vec::new();
        give(&mut given, "owners", self.owners.map(name).as_ref());
        if self.allow_folding {
            given.push(Given::flag("allow_folding", true));
        }
        given
    }
}

fn give(given: &mut Vec<Given>, key: &str, value: Option<&impl ToString>) {
    given.extend(value.map(|value| Given::flag(key, value.to_string())));
}

/// The word for a choice, which the configuration file uses too.
fn name(choice: impl ValueEnum) -> String {
    let value = choice.to_possible_value().expect("no choice is hidden");
    value.get_name().to_owned()
}

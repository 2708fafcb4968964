//! `osync limit`: how much the backlog may use in a second.

use super::args::OperatorArgs;
use super::connect::connect;
use super::console::Console;
use super::render;
use crate::config::{Settings, parse_bandwidth, parse_iops};
use crate::error::Error;
use crate::report::RateLimits;
use crate::wire::message::{Reply, Request};

const EXAMPLE: &str = "\
Example:
  osync limit 10MB/s --iops 500   # for the working day
  osync limit none                # as fast as it can
  osync limit                     # shows what is in force";

/// How much may be used, or no limit; an option of its own, as clap takes another for one left out.
#[derive(Debug, Clone, Copy)]
struct Most(Option<u64>);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// Bytes a second that the backlog may send, such as 10MB/s, or none. What is not given here is
    /// not limited any more; without any, the limits are shown
    #[arg(value_name = "RATE", value_parser = bandwidth)]
    bandwidth: Option<Most>,
    /// Names looked at or listed and pieces of large files read a second, or none
    #[arg(long, value_name = "NUMBER", value_parser = iops)]
    iops: Option<Most>,
    #[command(flatten)]
    pub(super) operator: OperatorArgs,
}

fn bandwidth(text: &str) -> Result<Most, String> {
    parse_bandwidth(text).map(Most)
}

fn iops(text: &str) -> Result<Most, String> {
    parse_iops(text).map(Most)
}

impl Args {
    /// The limits that are asked for; `None` if they are only to be shown.
    fn limits(&self) -> Option<RateLimits> {
        let is_given = self.bandwidth.is_some() || self.iops.is_some();
        is_given.then(|| RateLimits {
            bytes_per_s: self.bandwidth.and_then(|Most(rate)| rate),
            operations_per_s: self.iops.and_then(|Most(rate)| rate),
        })
    }
}

pub(super) async fn run(
    args: Args,
    settings: Settings,
    console: &mut Console,
) -> Result<(), Error> {
    let mut operator = connect(&settings.command).await?;
    if let Some(limits) = args.limits() {
        operator.order(Request::Limit(limits)).await?;
        operator.close().await;
        return match args.operator.json {
            true => console.print_json(&Reply::Done),
            false => Ok(()),
        };
    }
    let limits = match operator.ask(Request::Status).await? {
        Reply::Status(status) => status.rate_limits,
        other => return Err(operator.unexpected(&other)),
    };
    operator.close().await;
    if args.operator.json {
        console.print_json(&limits)
    } else {
        let limited = render::rate_limits(&limits);
        let limited = limited.unwrap_or_else(|| "backlog not limited".to_owned());
        console.print(&format!("{limited}\n"))
    }
}

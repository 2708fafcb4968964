//! `osync status`: one screen.

use super::args::OperatorArgs;
use super::connect::connect;
use super::console::Console;
use super::render;
use crate::config::Settings;
use crate::error::Error;
use crate::wire::message::{Reply, Request};

const EXAMPLE: &str = "\
Example:
  watch -n 2 osync status
  osync status --json | jq '.sinks[].lag_ms'";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) operator: OperatorArgs,
}

pub(super) async fn run(
    args: Args,
    settings: Settings,
    console: &mut Console,
) -> Result<(), Error> {
    let mut operator = connect(&settings.command).await?;
    let status = match operator.ask(Request::Status).await? {
        Reply::Status(status) => status,
        other => return Err(operator.unexpected(&other)),
    };
    operator.close().await;
    if args.operator.json {
        console.print_json(&status)
    } else {
        console.print(&render::status(&status))
    }
}

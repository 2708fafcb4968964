//! `osync stop`: terminate in mutual agreement.

use super::args::OperatorArgs;
use super::connect::connect;
use super::console::Console;
use crate::config::Settings;
use crate::error::Error;
use crate::wire::message::{Reply, Request};

const EXAMPLE: &str = "\
Example:
  osync flush && osync stop";

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
    operator.order(Request::Stop).await?;
    operator.close().await;
    if args.operator.json {
        console.print_json(&Reply::Done)?;
    }
    Ok(())
}

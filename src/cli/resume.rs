//! `osync resume`: go on after a pause or a halt; agree to what is held back.

use super::args::OperatorArgs;
use super::connect::connect;
use super::console::Console;
use crate::config::Settings;
use crate::error::Error;
use crate::wire::message::{Reply, Request};

const EXAMPLE: &str = "\
Example:
  osync resume            # after a pause, or once the root is mounted again
  osync report problems && osync resume --accept   # agrees to removals that are held back";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) operator: OperatorArgs,
    /// Agree to what is held back: removals beyond the brake's share, or a root that was emptied or
    /// replaced by another directory.
    #[arg(long)]
    accept: bool,
}

pub(super) async fn run(
    args: Args,
    settings: Settings,
    console: &mut Console,
) -> Result<(), Error> {
    let mut operator = connect(&settings.command).await?;
    let accept = args.accept;
    operator.order(Request::Resume { accept }).await?;
    operator.close().await;
    if args.operator.json {
        console.print_json(&Reply::Done)?;
    }
    Ok(())
}

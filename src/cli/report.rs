//! `osync report`: the queue, the transfer, the problems.

use clap::ValueEnum;

use super::args::OperatorArgs;
use super::connect::connect;
use super::console::Console;
use super::render;
use crate::config::Settings;
use crate::error::Error;
use crate::wire::message::{Reply, Request};

const EXAMPLE: &str = "\
Example:
  osync report queue
  osync report problems --json | jq -r '.problems[] | .path + \": \" + .reason'";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// What waits: lanes, ages, events, backlog, hot files
    Queue,
    /// What was sent and applied: rates, retries, marks
    Transfer,
    /// Paths that cannot be replicated now
    Problems,
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// Which report
    #[arg(value_enum)]
    report: Which,
    #[command(flatten)]
    pub(super) operator: OperatorArgs,
}

pub(super) async fn run(
    args: Args,
    settings: Settings,
    console: &mut Console,
) -> Result<(), Error> {
    let mut operator = connect(&settings.command).await?;
    let reply = operator.ask(request(args.report)).await?;
    if !show(args.report, &reply, args.operator.json, console)? {
        return Err(operator.unexpected(&reply));
    }
    operator.close().await;
    Ok(())
}

fn request(report: Which) -> Request {
    match report {
        Which::Queue => Request::ReportQueue,
        Which::Transfer => Request::ReportTransfer,
        Which::Problems => Request::ReportProblems,
    }
}

/// Prints a reply; false if it is not the report that was asked for.
fn show(report: Which, reply: &Reply, json: bool, console: &mut Console) -> Result<bool, Error> {
    match (report, reply) {
        (Which::Queue, Reply::Queue(queue)) if json => console.print_json(queue)?,
        (Which::Queue, Reply::Queue(queue)) => console.print(&render::queue(queue))?,
        (Which::Transfer, Reply::Transfer(transfer)) if json => console.print_json(transfer)?,
        (Which::Transfer, Reply::Transfer(transfer)) => {
            console.print(&render::transfer(transfer))?
        }
        (Which::Problems, Reply::Problems(problems)) if json => console.print_json(problems)?,
        (Which::Problems, Reply::Problems(problems)) => {
            console.print(&render::problems(problems))?
        }
        _ => return Ok(false),
    }
    Ok(true)
}

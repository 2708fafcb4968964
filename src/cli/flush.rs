//! `osync flush`: the barrier.

use std::time::Duration;

use super::args::OperatorArgs;
use super::connect::connect;
use super::console::Console;
use crate::config::Settings;
use crate::error::Error;
use crate::report::Limit;
use crate::wire::message::FlushResult;

const EXAMPLE: &str = "\
Example:
  osync flush --timeout 5m && echo 'every sink has it'";

/// Longest time that a flush may wait.
const TIMEOUT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// How long to wait, such as 500ms, 60s, 5m or 2h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_timeout)]
    timeout: Duration,
    #[command(flatten)]
    pub(super) operator: OperatorArgs,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let example = "a time is a number with a unit, such as 500ms, 60s, 5m or 2h";
    let time: jiff::SignedDuration = text.parse().map_err(|_| example.to_owned())?;
    let time = Duration::try_from(time).map_err(|_| example.to_owned())?;
    if time > TIMEOUT_MAX {
        return Err("at most 30 days".into());
    }
    Ok(time)
}

pub(super) async fn run(
    args: Args,
    settings: Settings,
    console: &mut Console,
) -> Result<(), Error> {
    let mut operator = connect(&settings.command).await?;
    let result = operator.flush(args.timeout).await?;
    operator.close().await;
    if args.operator.json {
        console.print_json(&result)?;
    }
    verdict(&result)
}

/// Success only if everything is durable and nothing is left out.
pub(super) fn verdict(result: &FlushResult) -> Result<(), Error> {
    if !result.complete {
        return Err(Error::Unfinished {
            waiting_for: result.waiting_for.clone(),
        });
    }
    if result.problems > 0 {
        return Err(Error::Problems {
            count: result.problems,
        });
    }
    let losses: Vec<String> = result.limits.iter().filter_map(Limit::loss).collect();
    if !losses.is_empty() {
        return Err(Error::Limited {
            losses: losses.join(", "),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::LimitKind;

    #[test]
    fn never_claims_success_with_something_left() {
        let code = |complete, problems| {
            let waiting_for = "a sink".into();
            verdict(&FlushResult {
                complete,
                problems,
                waiting_for,
                limits: Vec::new(),
            })
            .map_err(|e| e.exit_code())
        };
        assert_eq!(code(true, 0), Ok(()));
        assert_eq!(code(true, 1), Err(2));
        assert_eq!(code(false, 0), Err(75));
        assert_eq!(code(false, 1), Err(75));
    }

    #[test]
    fn names_what_the_target_cannot_hold() {
        let limited = |entries| {
            let limit = Limit {
                kind: LimitKind::Owners,
                consequence: String::new(),
                entries,
            };
            verdict(&FlushResult {
                complete: true,
                problems: 0,
                waiting_for: String::new(),
                limits: vec![limit],
            })
            .map_err(|error| (error.exit_code(), error.to_string()))
        };
        let text = "equal except for what the target cannot hold: owners of 12345 entries";
        assert_eq!(limited(Some(12_345)), Err((2, text.to_owned())));
        assert_eq!(limited(Some(0)), Ok(()));
        assert_eq!(limited(None), Ok(()));
    }

    #[test]
    fn reads_times_with_units() {
        for (text, ms) in [
            ("500ms", 500),
            ("60s", 60_000),
            ("5m", 300_000),
            ("1h 30m", 5_400_000),
        ] {
            assert_eq!(parse_timeout(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["60", "soon", "-5s", "10000h"] {
            assert!(parse_timeout(text).is_err(), "{text}");
        }
    }
}

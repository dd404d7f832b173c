//! `virga logs NAME [-f]`: FilterLogEvents, asked again and again with `-f`.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, anyhow};
use base::{Clock, SystemClock};
use serde_json::{Value, json};

use super::text;
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The function
    name: String,
    /// Keep waiting for new lines, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only lines younger than this: 30s, 10m, 2h, 1d. Without it, all that is stored; with -f, new lines only
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    since: Option<Duration>,
}

/// How often a followed log is asked for new lines.
const POLL: Duration = Duration::from_millis(300);

/// Lines may arrive a little out of order: each poll looks back this far and skips what was printed.
const OVERLAP_MS: i64 = 2_000;

/// Prints the lines.
pub(crate) async fn run(client: &Client, args: &Args, as_json: bool) -> Result<()> {
    let start = match args.since {
        Some(age) => now_ms() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX / 2),
        None if args.follow => now_ms(),
        None => 0,
    };
    let mut printer = Printer { as_json, seen: HashSet::new(), newest: start };
    loop {
        let from = if args.follow { (printer.newest - OVERLAP_MS).max(start) } else { start };
        match page_through(client, &args.name, from, &mut printer).await {
            Err(error) if args.follow && is_missing_group(&error) => {}
            Err(error) if is_missing_group(&error) => return nothing_yet(client, &args.name).await,
            other => other?,
        }
        if !args.follow {
            return Ok(());
        }
        printer.forget();
        tokio::time::sleep(POLL).await;
    }
}

/// Everything from a time on, page by page.
async fn page_through(client: &Client, name: &str, from: i64, printer: &mut Printer) -> Result<()> {
    let mut token = Value::Null;
    loop {
        let mut body = json!({ "logGroupName": format!("/aws/lambda/{name}"), "startTime": from.max(0) });
        if token.is_string() {
            body["nextToken"] = token;
        }
        let mut page = client.logs("FilterLogEvents", &body).await?;
        for event in page["events"].as_array().into_iter().flatten() {
            printer.print(event)?;
        }
        token = page["nextToken"].take();
        if !token.is_string() {
            return Ok(());
        }
    }
}

/// Prints each event once.
struct Printer {
    as_json: bool,
    seen: HashSet<(i64, String)>,
    newest: i64,
}

impl Printer {
    fn print(&mut self, event: &Value) -> Result<()> {
        let time = event["timestamp"].as_i64().unwrap_or(0);
        if !self.seen.insert((time, text(event, "eventId").to_owned())) {
            return Ok(());
        }
        self.newest = self.newest.max(time);
        if self.as_json {
            output::line(event.to_string())
        } else {
            output::line(text(event, "message").trim_end())
        }
    }

    /// Drops what no later poll can bring again.
    fn forget(&mut self) {
        let oldest = self.newest - OVERLAP_MS;
        self.seen.retain(|(time, _)| *time >= oldest);
    }
}

fn is_missing_group(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Failure>();
    matches!(refused, Some(Failure::Refused { code, .. }) if code == "ResourceNotFoundException")
}

/// No log group: is it that the function was never called, or that there is none?
async fn nothing_yet(client: &Client, name: &str) -> Result<()> {
    client.lambda(http::Method::GET, &super::function_path(name, "/configuration"), None).await?;
    eprintln!("{name} has not been called yet: try `virga invoke {name}`");
    Ok(())
}

fn now_ms() -> i64 {
    SystemClock.now().as_millis()
}

fn parse_age(text: &str) -> Result<Duration> {
    let problem = || anyhow!("{text} is not an age like 30s, 10m, 2h or 1d");
    let unit = text.chars().last().ok_or_else(problem)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(problem()),
    };
    let count: u32 = text[..text.len() - 1].parse().map_err(|_| problem())?;
    Ok(Duration::from_secs(u64::from(count) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        assert_eq!(parse_age("30s").unwrap(), Duration::from_secs(30));
        assert_eq!(parse_age("2h").unwrap(), Duration::from_secs(7_200));
        for bad in ["", "s", "10", "1w", "-1s", "1.5h", "é"] {
            assert!(parse_age(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_is_printed_once_and_then_forgotten() {
        let mut printer = Printer { as_json: false, seen: HashSet::new(), newest: 0 };
        let event = |time: i64| json!({ "eventId": time.to_string(), "timestamp": time, "message": "" });
        for time in [10, 10, 5_000] {
            printer.print(&event(time)).unwrap();
        }
        assert_eq!(printer.seen.len(), 2);
        printer.forget();
        assert_eq!(printer.seen.len(), 1);
        assert_eq!(printer.newest, 5_000);
    }
}

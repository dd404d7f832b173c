//! `virga logs NAME [-f]`: FilterLogEvents, asked again and again with `-f`, each time from where the page
//! before ended (`virgaResume`), so that no line is printed twice or missed.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
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
    /// Only lines that this pattern takes, as CloudWatch Logs has them: ERROR, '"two words"', '{ $.level = "ERROR" }'
    #[arg(long, value_name = "PATTERN")]
    filter: Option<String>,
}

/// How often a followed log is asked for new lines.
const POLL: Duration = Duration::from_millis(300);

/// Prints the lines.
pub(crate) async fn run(client: &Client, args: &Args, as_json: bool) -> Result<()> {
    let start = match args.since {
        Some(age) => now_ms() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX / 2),
        None if args.follow => now_ms(),
        None => 0,
    };
    let (group, stream) = place(client, &args.name).await?;
    let mut request = json!({ "logGroupName": group, "startTime": start.max(0) });
    if let Some(pattern) = &args.filter {
        request["filterPattern"] = pattern.as_str().into();
    }
    let mut told = false;
    loop {
        match page_through(client, &mut request, stream.as_deref(), as_json).await {
            Err(error) if is_missing_group(&error) && told => {}
            Err(error) if is_missing_group(&error) => {
                nothing_yet(client, &args.name).await?;
                told = true;
            }
            other => other?,
        }
        if !args.follow {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Everything that there is now, page by page; leaves in the request where later lines will start.
async fn page_through(
    client: &Client,
    request: &mut Value,
    stream: Option<&str>,
    as_json: bool,
) -> Result<()> {
    loop {
        let mut page = client.logs("FilterLogEvents", request).await?;
        for event in page["events"].as_array().into_iter().flatten() {
            if stream.is_none_or(|part| text(event, "logStreamName").contains(part)) {
                print(event, as_json)?;
            }
        }
        let more = page["nextToken"].is_string();
        // A server without it ends here: the rest cannot be told from what was printed already.
        let Value::String(resume) = page["virgaResume"].take() else {
            bail!("the server does not say where its log ended: is this a Virga server?");
        };
        request["nextToken"] = resume.into();
        if !more {
            return Ok(());
        }
    }
}

/// The function's log group and, where others may log there too, what its streams' names hold. A function that is gone
/// has left its log.
async fn place(client: &Client, name: &str) -> Result<(String, Option<String>)> {
    let own = format!("/aws/lambda/{name}");
    let path = super::function_path(name, "/configuration");
    match client.lambda(http::Method::GET, &path, None).await {
        Ok(configuration) => match configuration["LoggingConfig"]["LogGroup"].as_str() {
            Some(group) if group != own => Ok((group.to_owned(), Some(format!("/{name}[")))),
            _ => Ok((own, None)),
        },
        Err(error) if is_missing_group(&error) => Ok((own, None)),
        Err(error) => Err(error),
    }
}

fn print(event: &Value, as_json: bool) -> Result<()> {
    output::line(if as_json { event.to_string() } else { output::log_text(text(event, "message")) })
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

/// `30s`, `10m`, `2h`, `1d`.
pub(crate) fn parse_age(text: &str) -> Result<Duration> {
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
}

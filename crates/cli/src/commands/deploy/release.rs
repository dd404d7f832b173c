//! Publishing what was deployed, and leading an alias to it: at once, or by a canary.
//!
//! A canary gets a part of the alias's calls and is watched. It is rolled back as soon as more of its calls fail than
//! is allowed beyond what fails of the version before in the same time; if it does well, it gets all calls. Ctrl-C
//! rolls it back too. A command that is killed leaves the alias divided, which `virga alias list` shows and
//! `virga rollback` undoes.

use std::time::{Duration, Instant};

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Client;
use crate::commands::alias::{self, LIVE, parse_percent};
use crate::commands::logs::parse_age;
use crate::commands::{function_path, text};
use crate::failure::Failure;
use crate::output::Progress;

/// Flags.
#[derive(Debug, Default, clap::Args)]
#[group(id = "release")]
pub(super) struct Args {
    /// Publish a version of what was deployed
    #[arg(long)]
    publish: bool,
    /// Publish a version and have this alias lead to it; the URL is the alias's
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// Percent of the alias's calls (default: of live's) that get the new version while it is watched; all do if it does well
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    canary: Option<f64>,
    /// How long the canary is watched: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = parse_age, default_value = "5m", requires = "canary")]
    watch: Duration,
    /// Percent of the canary's calls that may fail beyond those of the version before; above that it is rolled back
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, default_value = "5", requires = "canary")]
    max_errors: f64,
}

impl Args {
    /// The alias that is led to what was deployed, if any is.
    pub(super) fn alias(&self) -> Option<&str> {
        self.alias.as_deref().or_else(|| self.canary.map(|_| LIVE))
    }
}

/// How often a canary's calls are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Calls of a canary that say something before its time is over.
const ENOUGH_CALLS: u64 = 10;

/// What was published.
pub(super) struct Released {
    pub(super) version: String,
    pub(super) alias: Option<String>,
}

/// Does what the flags say; nothing without them.
pub(super) async fn release(
    client: &Client,
    function: &str,
    args: &Args,
    progress: &Progress,
) -> Result<Option<Released>> {
    let alias = args.alias();
    if !args.publish && alias.is_none() {
        return Ok(None);
    }
    let published =
        client.lambda(Method::POST, &function_path(function, "/versions"), Some(&json!({}))).await?;
    let version = text(&published, "Version").to_owned();
    super::wait(client, &format!("{function}:{version}")).await?;
    if let Some(name) = alias {
        lead(client, (function, name), &version, args, progress).await?;
    }
    Ok(Some(Released { version, alias: alias.map(str::to_owned) }))
}

/// Has an alias lead to a version.
async fn lead(
    client: &Client,
    (function, name): (&str, &str),
    version: &str,
    args: &Args,
    progress: &Progress,
) -> Result<()> {
    let now = alias::find(client, function, name).await?;
    let before = now.as_ref().map(|now| text(now, "FunctionVersion"));
    match (args.canary, before) {
        // There is nothing yet that it could be compared with.
        (Some(part), Some(before)) if before != version => {
            let canary = Canary { client, function, alias: name, before, version, part };
            canary.watch(args.watch, args.max_errors, progress).await
        }
        _ => {
            let all = json!({ "FunctionVersion": version, "RoutingConfig": alias::routing(None) });
            alias::put(client, function, name, all).await.map(drop)
        }
    }
}

/// A version that is tried on a part of an alias's calls.
struct Canary<'a> {
    client: &'a Client,
    function: &'a str,
    alias: &'a str,
    /// What the others get.
    before: &'a str,
    version: &'a str,
    part: f64,
}

/// Why a canary is watched no longer.
enum End {
    Well,
    Failing(String),
    Interrupted,
}

impl Canary<'_> {
    async fn watch(&self, time: Duration, allowed: f64, progress: &Progress) -> Result<()> {
        let counts = (self.calls(self.before).await?, self.calls(self.version).await?);
        // Before the alias is divided: an interrupt from now on has it put together again.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let also = (self.version.to_owned(), self.part);
        let members = json!({ "RoutingConfig": alias::routing(Some(&also)) });
        let divided = alias::update(self.client, self.function, self.alias, &members).await?;
        let end = tokio::select! {
            biased;
            _ = interrupt.recv() => Ok(End::Interrupted),
            end = self.look(counts, time, allowed, progress) => end,
        };
        // Not knowing how it does is no reason to keep it.
        let end = end.unwrap_or_else(|error| End::Failing(format!("its calls cannot be counted: {error:#}")));
        self.finish(end, &divided["RevisionId"]).await
    }

    /// Looks at its calls until its time is over or it fails.
    async fn look(
        &self,
        start: (Calls, Calls),
        time: Duration,
        allowed: f64,
        progress: &Progress,
    ) -> Result<End> {
        let began = Instant::now();
        let mut tallies = (Tally::at(start.0), Tally::at(start.1));
        loop {
            let over = began.elapsed() >= time;
            tallies.0.add(self.calls(self.before).await?);
            tallies.1.add(self.calls(self.version).await?);
            let (before, new) = (tallies.0.sum, tallies.1.sum);
            if (over || new.ended >= ENOUGH_CALLS) && new.rate() > before.rate() + allowed {
                return Ok(End::Failing(format!(
                    "{} of {} calls failed, and {} of {} of version {}",
                    new.failed, new.ended, before.failed, before.ended, self.before
                )));
            }
            if over {
                return Ok(End::Well);
            }
            progress.step(format!(
                "watching {}:{}, {} s of {}: {} of {} calls failed",
                self.function,
                self.version,
                began.elapsed().as_secs(),
                time.as_secs(),
                new.failed,
                new.ended
            ));
            tokio::time::sleep(LOOK_EVERY.min(time.saturating_sub(began.elapsed()))).await;
        }
    }

    /// Gives it all calls, or none. Where somebody else has changed the alias, that stands.
    async fn finish(&self, end: End, revision: &Value) -> Result<()> {
        let mut members = json!({ "RoutingConfig": alias::routing(None), "RevisionId": revision });
        if matches!(end, End::Well) {
            members["FunctionVersion"] = json!(self.version);
        }
        alias::update(self.client, self.function, self.alias, &members).await?;
        let Self { function, alias, version, before, .. } = self;
        match end {
            End::Well => Ok(()),
            End::Failing(why) => Err(Failure::Function(format!(
                "{function}:{alias} was rolled back to version {before}: of version {version}, {why}"
            ))
            .into()),
            End::Interrupted => {
                let message = format!("interrupted: {function}:{alias} was rolled back to version {before}");
                Err(Failure::Exit { message, code: 130 }.into())
            }
        }
    }

    /// What has become of a version's calls since the server started.
    async fn calls(&self, version: &str) -> Result<Calls> {
        let path = function_path(&format!("{}:{version}", self.function), "/configuration");
        let mut headers = http::HeaderMap::new();
        headers.insert("x-virga-calls", "on".parse()?);
        let answer = self.client.send("lambda", Method::GET, &path, headers, bytes::Bytes::new()).await?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        let count = |member: &str| answer["virgaCalls"][member].as_u64();
        match (count("Ended"), count("Failed")) {
            (Some(ended), Some(failed)) => Ok(Calls { ended, failed }),
            _ => anyhow::bail!("the server does not count calls: is it a Virga server?"),
        }
    }
}

/// Calls, and how many of them failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Calls {
    ended: u64,
    failed: u64,
}

impl Calls {
    /// The part that failed.
    fn rate(self) -> f64 {
        if self.ended == 0 { 0.0 } else { self.failed as f64 / self.ended as f64 }
    }
}

/// What was added to counters since they were first looked at.
#[derive(Debug)]
struct Tally {
    last: Calls,
    sum: Calls,
}

impl Tally {
    fn at(start: Calls) -> Self {
        Self { last: start, sum: Calls::default() }
    }

    fn add(&mut self, now: Calls) {
        // A server that has started anew begins at zero.
        let from = if now.ended < self.last.ended { Calls::default() } else { self.last };
        self.sum.ended += now.ended - from.ended;
        self.sum.failed += now.failed.saturating_sub(from.failed);
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(ended: u64, failed: u64) -> Calls {
        Calls { ended, failed }
    }

    #[test]
    fn counters_may_begin_anew() {
        let mut tally = Tally::at(calls(100, 10));
        tally.add(calls(110, 12));
        assert_eq!(tally.sum, calls(10, 2));
        tally.add(calls(4, 1));
        assert_eq!(tally.sum, calls(14, 3));
        tally.add(calls(4, 1));
        assert_eq!(tally.sum, calls(14, 3));
    }

    #[test]
    fn a_rate_is_a_part_of_what_ended() {
        assert_eq!((calls(0, 0).rate(), calls(4, 1).rate()), (0.0, 0.25));
    }

    #[test]
    fn a_canary_is_lives_unless_another_alias_is_named() {
        let named = |alias: Option<&str>, canary| {
            let args = Args { alias: alias.map(str::to_owned), canary, ..Args::default() };
            args.alias().map(str::to_owned)
        };
        assert_eq!(named(None, None), None);
        assert_eq!(named(None, Some(0.1)).as_deref(), Some("live"));
        assert_eq!(named(Some("prod"), Some(0.1)).as_deref(), Some("prod"));
    }
}

//! What the command line asks for.

use std::time::Duration;

/// What was asked for.
pub struct Plan {
    /// `HOST:PORT`
    pub address: String,
    /// Whole requests, sent in turn.
    pub requests: Vec<Vec<u8>>,
    /// After this no request is sent any more.
    pub time: Duration,
    /// Each has one request under way at most.
    pub connections: usize,
    /// Between two requests that are due; `None` is a closed loop.
    pub interval: Option<Duration>,
    /// Requests in all.
    pub count: usize,
}

const USAGE: &str = "usage: load ADDRESS FOLDER SECONDS CONNECTIONS [--rate=N] [--count=N]";

impl Plan {
    /// Reads the arguments, and the requests from their folder in the order of the files' names.
    pub fn read(arguments: &[String]) -> Result<Self, String> {
        let [address, folder, seconds, connections, options @ ..] = arguments else {
            return Err(USAGE.to_owned());
        };
        let mut plan = Self {
            address: address.clone(),
            requests: requests(folder).map_err(|error| format!("{folder}: {error}"))?,
            time: Duration::from_secs_f64(number(seconds)?),
            connections: number(connections)? as usize,
            interval: None,
            count: usize::MAX,
        };
        for option in options {
            match option.split_once('=') {
                Some(("--rate", rate)) => plan.interval = Some(Duration::from_secs_f64(1.0 / number(rate)?)),
                Some(("--count", count)) => plan.count = number(count)? as usize,
                _ => return Err(USAGE.to_owned()),
            }
        }
        if plan.requests.is_empty() {
            return Err(format!("{folder} holds no request"));
        }
        Ok(plan)
    }
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn requests(folder: &str) -> std::io::Result<Vec<Vec<u8>>> {
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let mut paths = entries?;
    paths.sort();
    paths.into_iter().map(std::fs::read).collect()
}

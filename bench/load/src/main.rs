//! Sends prepared HTTP/1.1 requests in turn, again and again, and measures each answer.
//!
//! `load ADDRESS FOLDER SECONDS CONNECTIONS [--rate=N] [--count=N]`: each file in FOLDER holds a request's bytes.
//! Without a rate the loop is closed: a connection sends its next request when it has its answer. With one (requests a
//! second) the loop is open: requests are due on a fixed schedule, and a latency counts from when its request was
//! due, so that a stall of the server is seen by everyone who would have come meanwhile. A refusal (429, 503) is
//! counted apart, with its own latencies.
//!
//! One thread that never sleeps: it is meant to have a core of its own, and a sleeping generator would add
//! its own waking to every latency. Prints one line of JSON; times are in microseconds.

mod answer;
mod plan;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use answer::{Answer, Verdict};
use plan::Plan;

/// How long answers may take after the last request was sent.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was seen; latencies in nanoseconds.
#[derive(Default)]
struct Seen {
    latencies: Vec<u64>,
    refusals: Vec<u64>,
    failed: u64,
    /// Good answers before the time was over: what comes later was not got done in that time.
    in_time: u64,
}

/// One connection with at most one request under way.
struct Connection {
    stream: TcpStream,
    /// When the request under way was due.
    due: Option<Instant>,
    answer: Answer,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = Plan::read(&arguments).unwrap_or_else(|problem| {
        eprintln!("load: {problem}");
        std::process::exit(2);
    });
    match run(&plan) {
        Ok((seen, took)) => report(seen, took),
        Err(error) => {
            eprintln!("load: {error}");
            std::process::exit(1);
        }
    }
}

fn connect(address: &str) -> std::io::Result<Connection> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(Connection { stream, due: None, answer: Answer::default() })
}

/// Runs the plan; the time is what it took, which is shorter than planned where the count ended it.
fn run(plan: &Plan) -> std::io::Result<(Seen, Duration)> {
    let mut connections = Vec::new();
    for _ in 0..plan.connections {
        connections.push(connect(&plan.address)?);
    }
    let (mut seen, mut sent, begun) = (Seen::default(), 0, Instant::now());
    let mut next_due = begun;
    loop {
        let now = Instant::now();
        let late = now - begun >= plan.time;
        let over = late || sent >= plan.count;
        for connection in &mut connections {
            if connection.due.is_some() {
                receive(connection, plan, &mut seen, late)?;
            }
            if connection.due.is_none() && !over && sent < plan.count {
                let due = match plan.interval {
                    None => Instant::now(),
                    Some(interval) if next_due <= now => {
                        let due = next_due;
                        next_due += interval;
                        due
                    }
                    Some(_) => continue,
                };
                send(connection, plan, &plan.requests[sent % plan.requests.len()])?;
                sent += 1;
                connection.due = Some(due);
            }
        }
        let idle = connections.iter().all(|connection| connection.due.is_none());
        if over && idle {
            return Ok((seen, if sent >= plan.count { begun.elapsed() } else { plan.time }));
        }
        if over && begun.elapsed() >= plan.time + PATIENCE {
            seen.failed += connections.iter().filter(|connection| connection.due.is_some()).count() as u64;
            return Ok((seen, plan.time));
        }
    }
}

fn send(connection: &mut Connection, plan: &Plan, request: &[u8]) -> std::io::Result<()> {
    let mut rest = request;
    while !rest.is_empty() {
        match connection.stream.write(rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The server may end an idle connection at any time; the request then goes out on a new one.
            Err(_) => {
                *connection = connect(&plan.address)?;
                rest = request;
            }
        }
    }
    Ok(())
}

fn receive(connection: &mut Connection, plan: &Plan, seen: &mut Seen, late: bool) -> std::io::Result<()> {
    let mut buffer = [0; 16384];
    let count = match connection.stream.read(&mut buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
        Err(_) | Ok(0) => {
            seen.failed += 1;
            *connection = connect(&plan.address)?;
            return Ok(());
        }
        Ok(count) => count,
    };
    let Some(verdict) = connection.answer.take(&buffer[..count]) else { return Ok(()) };
    if let Some(due) = connection.due.take() {
        let latency = due.elapsed().as_nanos() as u64;
        match verdict {
            Verdict::Good => {
                seen.latencies.push(latency);
                seen.in_time += u64::from(!late);
            }
            Verdict::Refused => seen.refusals.push(latency),
            Verdict::Bad => seen.failed += 1,
        }
    }
    connection.answer = Answer::default();
    Ok(())
}

/// The latency that this share is below, in microseconds; the list is sorted.
fn at(latencies: &[u64], share: f64) -> String {
    let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
    latencies.get(index).map_or_else(|| "null".to_owned(), |nanos| format!("{:.1}", *nanos as f64 / 1000.0))
}

fn report(mut seen: Seen, took: Duration) {
    seen.latencies.sort_unstable();
    seen.refusals.sort_unstable();
    let count = seen.latencies.len();
    println!(
        "{{\"count\": {count}, \"failed\": {}, \"refused\": {}, \"rate\": {:.1}, \"p50\": {}, \"p90\": {}, \"p99\": {}, \
         \"max\": {}, \"refused_p99\": {}, \"seconds\": {:.3}}}",
        seen.failed,
        seen.refusals.len(),
        seen.in_time as f64 / took.as_secs_f64(),
        at(&seen.latencies, 0.5),
        at(&seen.latencies, 0.9),
        at(&seen.latencies, 0.99),
        at(&seen.latencies, 1.0),
        at(&seen.refusals, 0.99),
        took.as_secs_f64(),
    );
}

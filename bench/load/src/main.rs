//! Sends one prepared HTTP/1.1 request again and again and measures each answer.
//!
//! `load ADDRESS FILE SECONDS CONNECTIONS [RATE]`: FILE holds the request's bytes. Without RATE the loop is
//! closed: a connection sends its next request when it has its answer. With RATE (requests a second) the
//! loop is open: requests are due on a fixed schedule, and a latency counts from when its request was due,
//! so that a stall of the server is seen by everyone who would have come meanwhile.
//!
//! One thread that never sleeps: it is meant to have a core of its own, and a sleeping generator would add
//! its own waking to every latency. Prints one line of JSON; times are in microseconds.

mod answer;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use answer::Answer;

/// What was asked for.
struct Plan {
    address: String,
    request: Vec<u8>,
    time: Duration,
    connections: usize,
    /// Between two requests that are due; `None` is a closed loop.
    interval: Option<Duration>,
}

/// What was seen.
#[derive(Default)]
struct Seen {
    latencies: Vec<u64>,
    failed: u64,
}

/// One connection with at most one request under way.
struct Connection {
    stream: TcpStream,
    /// When the request under way was due.
    due: Option<Instant>,
    answer: Answer,
}

fn main() {
    let plan = plan().unwrap_or_else(|problem| {
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

fn plan() -> Result<Plan, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, file, seconds, connections, rate @ ..] = arguments.as_slice() else {
        return Err("usage: load ADDRESS FILE SECONDS CONNECTIONS [RATE]".to_owned());
    };
    let number = |text: &String| text.parse::<f64>().map_err(|_| format!("{text} is no number"));
    let interval = match rate.first() {
        Some(rate) => Some(Duration::from_secs_f64(1.0 / number(rate)?)),
        None => None,
    };
    Ok(Plan {
        address: address.clone(),
        request: std::fs::read(file).map_err(|error| format!("{file}: {error}"))?,
        time: Duration::from_secs_f64(number(seconds)?),
        connections: number(connections)? as usize,
        interval,
    })
}

fn connect(address: &str) -> std::io::Result<Connection> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(Connection { stream, due: None, answer: Answer::default() })
}

fn run(plan: &Plan) -> std::io::Result<(Seen, Duration)> {
    let mut connections = Vec::new();
    for _ in 0..plan.connections {
        connections.push(connect(&plan.address)?);
    }
    let (mut seen, begun) = (Seen::default(), Instant::now());
    let mut next_due = begun;
    loop {
        let now = Instant::now();
        let over = now - begun >= plan.time;
        for connection in &mut connections {
            if connection.due.is_some() {
                receive(connection, plan, &mut seen)?;
            }
            if connection.due.is_none() && !over {
                let due = match plan.interval {
                    None => Instant::now(),
                    Some(interval) if next_due <= now => {
                        let due = next_due;
                        next_due += interval;
                        due
                    }
                    Some(_) => continue,
                };
                send(connection, plan)?;
                connection.due = Some(due);
            }
        }
        let idle = connections.iter().all(|connection| connection.due.is_none());
        if over && (idle || now - begun >= plan.time + Duration::from_secs(5)) {
            return Ok((seen, plan.time));
        }
    }
}

fn send(connection: &mut Connection, plan: &Plan) -> std::io::Result<()> {
    let mut rest = plan.request.as_slice();
    while !rest.is_empty() {
        match connection.stream.write(rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The server may end an idle connection at any time; the request then goes out on a new one.
            Err(_) => {
                *connection = connect(&plan.address)?;
                rest = plan.request.as_slice();
            }
        }
    }
    Ok(())
}

fn receive(connection: &mut Connection, plan: &Plan, seen: &mut Seen) -> std::io::Result<()> {
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
    let Some(good) = connection.answer.take(&buffer[..count]) else { return Ok(()) };
    if let Some(due) = connection.due.take() {
        if good {
            seen.latencies.push(due.elapsed().as_nanos() as u64);
        } else {
            seen.failed += 1;
        }
    }
    connection.answer = Answer::default();
    Ok(())
}

fn report(mut seen: Seen, took: Duration) {
    seen.latencies.sort_unstable();
    let count = seen.latencies.len();
    let at = |share: f64| {
        let index = ((count as f64 * share) as usize).min(count.saturating_sub(1));
        seen.latencies.get(index).map_or(f64::NAN, |nanos| *nanos as f64 / 1000.0)
    };
    if count == 0 {
        println!("{{\"count\": 0, \"failed\": {}}}", seen.failed);
        return;
    }
    println!(
        "{{\"count\": {count}, \"failed\": {}, \"rate\": {:.1}, \"p50\": {:.1}, \"p90\": {:.1}, \"p99\": {:.1}, \"max\": {:.1}}}",
        seen.failed,
        count as f64 / took.as_secs_f64(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
    );
}

//! A custom runtime in Rust: asks the Lambda Runtime API for events and answers each one. Of the standard library alone,
//! so that `build.sh` needs no crates; the crate `lambda_runtime` does the same with less writing.
//! https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::TcpStream;

/// One request of the Runtime API: the answer's headers and body.
fn request(
    connection: &mut BufReader<TcpStream>,
    line: &str,
    body: &str,
) -> Result<(Vec<(String, String)>, String)> {
    let message = format!("{line} HTTP/1.1\r\nHost: runtime\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    connection.get_mut().write_all(message.as_bytes())?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        connection.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
            // The first line; the last one is empty.
            None if line.starts_with("HTTP/") => {}
            None => break,
        }
    }
    let length = header(&headers, "content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok((headers, String::from_utf8_lossy(&body).into_owned()))
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
}

fn main() -> Result<()> {
    let address = std::env::var("AWS_LAMBDA_RUNTIME_API").expect("this runs as a function");
    let mut connection = BufReader::new(TcpStream::connect(address)?);
    loop {
        let (headers, event) = request(&mut connection, "GET /2018-06-01/runtime/invocation/next", "")?;
        let id = header(&headers, "lambda-runtime-aws-request-id");
        println!("event of {} bytes", event.len());
        let answer = format!(r#"{{"message": "Hello from Rust!", "event": {event}, "request": "{id}"}}"#);
        request(&mut connection, &format!("POST /2018-06-01/runtime/invocation/{id}/response"), &answer)?;
    }
}

//! A server of the HTTP interface that answers as a test tells it to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Method and target, such as `GET /api/v1/...`.
    pub(super) line: String,
    /// The `Authorization` header.
    pub(super) authorization: Option<String>,
    pub(super) body: Value,
}

/// Answers until the test ends.
pub(super) struct Server {
    pub(super) url: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` gets every request's line and gives status and body.
    pub(super) fn start(mut answer: impl FnMut(&str) -> (u16, Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(request) = read(&stream) {
                    let (status, body) = answer(&request.line);
                    log.lock().expect("not poisoned").push(request);
                    write(stream, status, &body);
                }
            }
        });
        Self { url, seen }
    }

    /// Every request so far.
    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("not poisoned").clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        line: line.trim().trim_end_matches(" HTTP/1.1").to_owned(),
        authorization,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}

fn write(mut stream: TcpStream, status: u16, body: &Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).expect("the client reads");
}

//! Receivers of alerts: a webhook that remembers what came, and a mail server that keeps its mail.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    /// Lines of the head, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Received {
    /// A header's value, in lower case but for the signature's own case: see [`Self::exact`].
    pub(crate) fn exact(&self, name: &str) -> String {
        let line = self.head.lines().find(|line| {
            line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name))
        });
        line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value).trim().to_owned()
    }
}

/// An HTTP receiver on loopback.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    status: Arc<AtomicU16>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let status = Arc::new(AtomicU16::new(204));
        let (seen, answer) = (Arc::clone(&received), Arc::clone(&status));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || take(stream, &seen, &answer));
            }
        });
        Self { address, received, status }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().clone()
    }

    /// What it answers from now on.
    pub(crate) fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

fn take(stream: TcpStream, seen: &Mutex<Vec<Received>>, status: &AtomicU16) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut request = Received { at: Instant::now(), head, body: String::new() };
    let length = request.exact("content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).ok()?;
    seen.lock().push(request);
    let status = status.load(Ordering::SeqCst);
    let answer =
        format!("HTTP/1.1 {status} Status\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    reader.get_mut().write_all(answer.as_bytes()).ok()
}

/// A mail that came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mail {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// Head and body as they came.
    pub(crate) text: String,
}

/// A mail server on loopback that takes everything, in clear.
pub(crate) struct MailServer {
    pub(crate) address: SocketAddr,
    mails: Arc<Mutex<Vec<Mail>>>,
}

impl MailServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mails: Arc<Mutex<Vec<Mail>>> = Arc::default();
        let kept = Arc::clone(&mails);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || converse(stream, &kept));
            }
        });
        Self { address, mails }
    }

    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.mails.lock().clone()
    }
}

fn converse(stream: TcpStream, kept: &Mutex<Vec<Mail>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut mail = Mail::default();
    reader.get_mut().write_all(b"220 sink\r\n").ok()?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let word = line.trim_end().to_ascii_uppercase();
        let inner = || line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        let answer = if word.starts_with("MAIL FROM") {
            mail.from = inner()?.0.to_owned();
            "250 ok\r\n"
        } else if word.starts_with("RCPT TO") {
            mail.to.push(inner()?.0.to_owned());
            "250 ok\r\n"
        } else if word == "DATA" {
            reader.get_mut().write_all(b"354 go on\r\n").ok()?;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                if line.trim_end() == "." {
                    break;
                }
                mail.text.push_str(&line);
            }
            kept.lock().push(std::mem::take(&mut mail));
            "250 kept\r\n"
        } else if word == "QUIT" {
            reader.get_mut().write_all(b"221 bye\r\n").ok()?;
            return Some(());
        } else {
            "250 sink\r\n"
        };
        reader.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

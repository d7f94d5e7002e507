//! A tiny HTTP peer that answers as it is told, right or wrong.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

type Script = dyn Fn(&str) -> Vec<u8> + Send + Sync;

/// A listener on loopback; each connection gets one answer and is closed.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// Answers each whole request with what `script` makes of it.
    pub(super) fn start(script: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(script), false)
    }

    /// Sends `first` and then a byte now and then, for ever.
    pub(super) fn trickling(first: Vec<u8>) -> Self {
        Self::listen(Arc::new(move |_: &str| first.clone()), true)
    }

    fn listen(script: Arc<Script>, trickles: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &*script, &seen, trickles));
            }
        });
        Self { address, requests }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

fn serve(mut stream: TcpStream, script: &Script, seen: &Mutex<Vec<String>>, trickles: bool) {
    let Some(request) = read_request(&mut stream) else { return };
    seen.lock().push(request.clone());
    let reply = script(&request);
    let mut sound = stream.write_all(&reply).is_ok();
    while trickles && sound {
        #[expect(clippy::disallowed_methods, reason = "a slow peer on its own thread")]
        std::thread::sleep(Duration::from_millis(50));
        sound = reply.is_empty() || stream.write_all(b"x").is_ok();
    }
}

/// Reads head and body; what comes first may be no HTTP at all.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if bytes.first() == Some(&0x16) {
            return Some(text);
        }
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.trim().parse().unwrap());
            if body.len() >= length {
                return Some(text);
            }
        }
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
}

/// A whole answer.
pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

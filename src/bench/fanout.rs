//! One event to many live sessions: what an idle session weighs, and how long until the last of
//! them has the event.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::load::{self, float};
use super::server::Server;
use super::{Plan, Report};
use crate::app;

/// Events that are sent.
const EVENTS: usize = 20;
/// Sessions opened at the same time.
const OPENING: usize = 64;
/// The longest that an event is waited for.
const ARRIVE_MAX: Duration = Duration::from_secs(30);
/// How long the sessions are left alone before they are weighed.
const SETTLE: Duration = Duration::from_secs(3);
/// What each event's message holds and no other message does.
const MARK: &[u8] = b"schedule_updated";

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    // A socket is an open file here as it is in the server.
    app::allow_open_files();
    for sessions in &plan.clients {
        fan_out(plan, report, *sessions).await?;
    }
    Ok(())
}

async fn fan_out(plan: &Plan, report: &mut Report, sessions: usize) -> Result<(), String> {
    let server = Server::start(plan, &format!("fan-out-{sessions}")).await?;
    let mut client = server.connect().await?;
    let schedule = format!(
        r#"{{"name":"bench-fan-out-{sessions}","taskType":"function","taskConfig":{{"name":"noop"}},
        "scheduleType":"interval","scheduleConfig":{{"intervalMs":86400000}}}}"#
    );
    let id = client.create("/api/scheduler/schedules", &schedule).await?;
    let before = load::resident_mib(&server.process());
    let arrived = Arc::new(AtomicUsize::new(0));
    let key = server.key()?;
    let readers: Vec<_> = stream::iter(0..sessions)
        .map(|number| open(server.address(), &key, number))
        .buffer_unordered(OPENING)
        .map_ok(|socket| actix_rt::spawn(count_marks(socket, arrived.clone())))
        .try_collect()
        .await?;
    tokio::time::sleep(SETTLE).await;
    let weight = (load::resident_mib(&server.process()) - before) * 1_024.0 / float(sessions);
    report.add("fan-out", format!("{sessions} sessions: memory of one"), weight, "KiB");
    let mut waits = Vec::with_capacity(EVENTS);
    let path = format!("/api/scheduler/schedules/{id}");
    for number in 0..EVENTS {
        arrived.store(0, Ordering::SeqCst);
        let sent = Instant::now();
        let change = format!(r#"{{"description":"{number}"}}"#);
        let (status, body) = client.call("PUT", &path, &change).await?;
        if status != 200 {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
        }
        while arrived.load(Ordering::SeqCst) < sessions {
            if sent.elapsed() > ARRIVE_MAX {
                return Err(format!("{} of {sessions} got it", arrived.load(Ordering::SeqCst)));
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        waits.push(sent.elapsed().as_secs_f64() * 1_000.0);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let name = format!("{sessions} sessions: request to the last session");
    report.add_times("fan-out", &name, &mut waits, &[0.5, 1.0]);
    readers.into_iter().for_each(|reader| reader.abort());
    server.stop().await
}

/// A live session that asked for everything. Clients come from many loopback addresses, as one has
/// not ports enough.
async fn open(address: &str, key: &str, number: usize) -> Result<TcpStream, String> {
    let text = |error: std::io::Error| error.to_string();
    let socket = TcpSocket::new_v4().map_err(text)?;
    let host = u8::try_from(number / 10_000 + 1).unwrap_or(1);
    socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).map_err(text)?;
    let to = address.parse().map_err(|_| format!("{address} is no address"))?;
    let mut stream = socket.connect(to).await.map_err(text)?;
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(text)?;
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.map_err(text)? == 0 {
            return Err("the server hung up".to_owned());
        }
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(String::from_utf8_lossy(&head).into_owned());
    }
    // A masked text frame; the mask of zeros leaves the text as it is.
    let message = br#"{"type":"subscribe","subscriptions":{}}"#;
    let length = u8::try_from(message.len()).unwrap_or(0);
    let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(message);
    stream.write_all(&frame).await.map_err(text)?;
    Ok(stream)
}

async fn count_marks(mut stream: TcpStream, arrived: Arc<AtomicUsize>) {
    let mut buffer = Vec::with_capacity(1_024);
    loop {
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Some(at) = buffer.windows(MARK.len()).position(|bytes| bytes == MARK) {
            arrived.fetch_add(1, Ordering::SeqCst);
            buffer.drain(..at + MARK.len());
        } else if buffer.len() > MARK.len() {
            buffer.drain(..buffer.len() - MARK.len());
        }
    }
}

//! Clients that never read cost the server a bounded share of memory and nobody any time (G9).

use std::time::Duration;

use carillon::domain::key::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Live, settings};

const CLIENTS: usize = 200;
const EVENTS: i64 = 50_000;
const GROWTH_MAX: usize = 64 * 1024 * 1024;
/// The kernel's page on the machines this runs on.
const PAGE: usize = 4_096;

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * PAGE
}

/// Connects, asks for everything, and reads no more than the handshake.
async fn stalled_client(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = "GET /ws/admin HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
    let resume = br#"{"type":"resume","after":0}"#;
    let length = 0x80 | u8::try_from(resume.len()).unwrap();
    let mut frame = vec![0x81, length, 0, 0, 0, 0];
    frame.extend(resume);
    stream.write_all(&frame).await.unwrap();
    stream
}

#[actix_rt::test]
async fn clients_that_never_read_cost_bounded_memory_and_delay_nobody() {
    let (live, _hub) = Live::start(settings(), EVENTS, 10_000).await;
    let before = resident();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(stalled_client(live.port()).await);
    }
    let mut healthy = live.connect(Role::Admin).await;
    let mut worst = Duration::ZERO;
    for place in 1..=300 {
        let sent_at = tokio::time::Instant::now();
        live.log.append(1);
        let heard = healthy.next().await;
        assert_eq!(heard["seq"], EVENTS + place);
        worst = worst.max(sent_at.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{CLIENTS} stalled clients cost {} KiB", grown / 1024);
    assert!(worst < Duration::from_secs(20), "an event took {worst:?}");
    live.until("they are known to lag", || live.state.stats().dropped > 0).await;
}

//! Clients that never read cost the server a bounded share of memory and nobody any time (G9).

use std::time::Duration;

use carillon::domain::key::Role;
use carillon::runtime::sessions::LiveSettings;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

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
    stall(TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await
}

async fn stall(mut stream: TcpStream) -> TcpStream {
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

#[actix_rt::test]
async fn the_kernel_drops_a_client_that_takes_nothing() {
    // A window so wide that only the connection itself can be full, and no other reason to close.
    let settings = LiveSettings {
        window_messages: u64::MAX,
        window_bytes: u64::MAX,
        idle: Duration::from_secs(600),
        ping: Duration::from_secs(600),
        patience: Duration::from_secs(600),
        ..settings()
    };
    let limit = Some(Duration::from_millis(500));
    let (live, _hub) = Live::stalling(settings, 0, 1_000, limit).await;
    let mut healthy = live.connect(Role::Admin).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let address = format!("127.0.0.1:{}", live.port()).parse().unwrap();
    let _stalled = stall(socket.connect(address).await.unwrap()).await;
    live.until("both are there", || live.state.stats().connections == 2).await;
    for place in 1..=200 {
        let text = json!({ "text": "x".repeat(65_536) }).to_string();
        live.log.append_with(|event| event.payload = text);
        assert_eq!(healthy.next().await["seq"], place);
    }
    live.until("it is gone", || live.state.stats().connections == 1).await;
}

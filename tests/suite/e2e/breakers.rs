//! A target breaks and heals: its breaker opens, work is held without using attempts, a probe finds
//! that it works again, and everything succeeds.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::on_both_stores;
use super::server::{Backend, Server};

on_both_stores! {
    a_broken_target_is_held_until_a_probe_finds_it_healed,
}

/// An HTTP server that answers 500 until it works, and counts.
struct Target {
    address: SocketAddr,
    works: Arc<AtomicBool>,
    hits: Arc<AtomicUsize>,
}

impl Target {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (works, hits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_well, counter) = (Arc::clone(&works), Arc::clone(&hits));
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::SeqCst);
                answer(socket, is_well.load(Ordering::SeqCst));
            }
        });
        Self { address, works, hits }
    }
}

/// Reads the request's head and answers it; a client that goes away is not our affair.
fn answer(mut socket: TcpStream, is_well: bool) {
    let mut head = Vec::new();
    let mut byte = [0];
    let _set = socket.set_read_timeout(Some(Duration::from_secs(5)));
    while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|read| read > 0) {
        head.push(byte[0]);
    }
    let status = if is_well { "200 OK" } else { "500 Internal Server Error" };
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    let _sent = socket.write_all(text.as_bytes());
}

fn history(server: &Server, key: &str) -> Vec<String> {
    let found = server.get(&format!("/api/v2/breakers/{key}"));
    let changes = found["history"].as_array().unwrap();
    changes.iter().map(|change| change["cause"].as_str().unwrap().to_owned()).collect()
}

fn total(server: &Server, status: &str) -> i64 {
    server.get(&format!("/api/execution/executions?status={status}"))["total"].as_i64().unwrap()
}

fn a_broken_target_is_held_until_a_probe_finds_it_healed(backend: Backend) {
    const RUNS: i64 = 20;
    const SLOTS: usize = 2;
    let mut server = Server::new(backend).with("CARILLON_EXECUTOR__SLOTS", "2").started();
    let target = Target::start();
    let key = format!("http:{}", target.address);
    for _ in 0..RUNS {
        let body = json!({
            "taskType": "http_request",
            "taskConfig": {"method": "GET", "url": format!("http://{}/work", target.address)},
            "retryPolicy": {"maxAttempts": 2, "baseMs": 30_000, "jitter": 0},
            "breaker": {"openMs": 700},
        });
        server.post("/api/execution/executions", &body);
    }
    server.until("three probes that failed", |server| {
        let (status, _) = server.call("GET", &format!("/api/v2/breakers/{key}"), &Value::Null);
        status == 200
            && history(server, &key).iter().filter(|cause| *cause == "probe_failed").count() >= 3
    });
    let causes = history(&server, &key);
    let probes = causes.iter().filter(|cause| *cause == "probe_due").count();
    let hits = target.hits.load(Ordering::SeqCst);
    // What ran when it opened ends too; a probe may have begun since the history was read.
    assert!(hits <= 5 + SLOTS - 1 + probes + 1, "{hits} hits, {probes} probes");
    assert!(total(&server, "pending") >= RUNS - 5 - 4 - 3, "the others are held");
    assert_eq!(server.get("/api/dlq/stats")["pending"], 0, "no attempt was burnt");
    assert_eq!(server.get("/api/circuitbreaker/status")["breakers"][0]["key"], key.as_str());
    target.works.store(true, Ordering::SeqCst);
    server.until("the breaker closed", |server| {
        history(server, &key).first().map(String::as_str) == Some("probe_succeeded")
    });
    // Retries wait for their own instants: they are asked for now.
    for error in server.get("/api/errors/errors?recoveryStatus=retry_scheduled&limit=100")["items"]
        .as_array()
        .unwrap()
    {
        server.call("POST", &format!("/api/errors/errors/{}/retry", error["id"]), &Value::Null);
    }
    server.until("every chain succeeded", |server| total(server, "completed") == RUNS);
    assert_eq!(server.get("/api/dlq/stats")["pending"], 0);
    assert_eq!(server.get("/api/circuitbreaker/status")["open"], 0);
    let unresolved = "/api/errors/errors?recoveryStatus=unresolved,escalated,retry_scheduled";
    assert_eq!(server.get(unresolved)["total"], 0);
}

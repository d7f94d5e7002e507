//! HTTP tasks against a server that misbehaves.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use carillon::tasks::Outcome;
use carillon::tasks::egress::EgressMode;
use carillon::tasks::function::FunctionRegistry;
use serde_json::{Value, json};

use super::peer::{Peer, answer};
use super::support::{Bench, kind};

fn get(url: &str) -> Value {
    json!({"method": "GET", "url": url})
}

fn message(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { error, .. } => &error.message,
        _ => "",
    }
}

#[actix_rt::test]
async fn an_answer_is_status_headers_and_data() {
    let peer = Peer::start(|_| answer(200, &[("content-type", "application/json")], "{\"a\":1}"));
    let bench = Bench::new();
    let config = json!({
        "method": "POST", "url": peer.url("/x?y=1"), "headers": {"X-Mine": "1"}, "body": {"b": 2},
    });
    let running = bench.start("http_request", config);
    let id = running.execution_id;
    let outcome = running.outcome().await;
    let result = outcome.result().unwrap();
    assert_eq!((&result["status"], &result["data"]), (&json!(200), &json!({"a": 1})));
    assert_eq!(result["headers"]["content-type"], "application/json");
    let request = peer.requests().remove(0).to_lowercase();
    assert!(request.starts_with("post /x?y=1 http/1.1\r\n"), "{request}");
    for line in [
        format!("x-carillon-execution-id: {id}"),
        format!("host: 127.0.0.1:{}", peer.address.port()),
        "x-carillon-attempt: 2".to_owned(),
        "x-carillon-schedule-id: 7".to_owned(),
        "x-mine: 1".to_owned(),
        "content-type: application/json".to_owned(),
        "traceparent: 00-0af7".to_owned(),
        "idempotency-key: ".to_owned(),
    ] {
        assert!(request.contains(&line), "{line} in {request}");
    }
    assert!(request.ends_with("\r\n\r\n{\"b\":2}"), "{request}");
}

#[actix_rt::test]
async fn a_status_of_failure_keeps_the_body_and_the_wait() {
    let peer = Peer::start(|_| answer(503, &[("retry-after", "7")], "busy"));
    let outcome = Bench::new().run("http_request", get(&peer.url("/"))).await;
    assert_eq!(kind(&outcome), "http_5xx");
    assert_eq!(outcome.result().unwrap()["data"], "busy");
    assert_eq!(outcome.extra().retry_after, Some(Duration::from_secs(7)));
    let gone = Peer::start(|_| answer(404, &[], ""));
    assert_eq!(kind(&Bench::new().run("http_request", get(&gone.url("/"))).await), "http_4xx");
}

#[actix_rt::test]
async fn the_deadline_holds_wherever_the_peer_hangs() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
    for (place, first) in [
        ("before the head", ""),
        ("in the head", "HTTP/1.1 200 OK\r\nx-a: "),
        ("in the body", head),
    ] {
        let first = first.to_owned();
        let peer = Peer::trickling(first.into_bytes());
        let mut config = get(&peer.url("/"));
        config["timeoutMs"] = json!(400);
        let start = Instant::now();
        let outcome = Bench::new().run("http_request", config).await;
        let took = start.elapsed();
        assert_eq!(kind(&outcome), "timeout", "{place}");
        let expected = Duration::from_millis(400)..Duration::from_millis(1400);
        assert!(expected.contains(&took), "{place}: {took:?}");
    }
}

#[actix_rt::test]
async fn a_cancel_ends_a_request_at_once() {
    let peer = Peer::trickling(Vec::new());
    let bench = Bench::new();
    let running = bench.start("http_request", get(&peer.url("/")));
    super::support::until("the request is there", || !peer.requests().is_empty()).await;
    running.control.cancel();
    assert_eq!(kind(&running.outcome().await), "cancelled");
}

#[actix_rt::test]
async fn a_body_over_the_limit_is_cut_visibly() {
    let peer = Peer::start(|_| answer(200, &[], &"x".repeat(3 * 1024 * 1024)));
    let outcome = Bench::new().run("http_request", get(&peer.url("/"))).await;
    let result = outcome.result().unwrap();
    assert_eq!((kind(&outcome), &result["truncated"]), ("completed", &json!(true)));
    let data = result["data"].as_str().unwrap();
    assert!(data.len() < 1024 * 1024 + 100);
    assert!(data.ends_with("was not kept]"));
}

#[actix_rt::test]
async fn broken_answers_and_closed_ports_are_connection_failures() {
    let bench = Bench::new();
    for junk in
        ["\u{16}\u{3}\u{1} junk\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"]
    {
        let peer = Peer::start(move |_| junk.as_bytes().to_vec());
        let outcome = bench.run("http_request", get(&peer.url("/"))).await;
        assert_eq!(kind(&outcome), "connection", "{junk}: {outcome:?}");
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = bench.run("http_request", get(&format!("http://{closed}/"))).await;
    assert_eq!(kind(&outcome), "connection");
    let outcome = bench.run("http_request", get("http://no-such-host.invalid/")).await;
    assert_eq!(kind(&outcome), "connection");
    let peer = Peer::start(|_| b"not tls".to_vec());
    let url = peer.url("/").replace("http:", "https:");
    assert_eq!(kind(&bench.run("http_request", get(&url)).await), "connection");
}

#[actix_rt::test]
async fn redirects_are_followed_within_reason() {
    let peer = Peer::start(|request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        match path {
            "/loop" => answer(302, &[("location", "/loop")], ""),
            "/three" => answer(307, &[("location", "/two")], ""),
            "/two" => answer(303, &[("location", "one")], ""),
            "/bad" => answer(302, &[("location", "file:///etc/passwd")], ""),
            "/none" => answer(302, &[], ""),
            _ => answer(200, &[], request),
        }
    });
    let bench = Bench::new();
    for path in ["/loop", "/bad", "/none"] {
        let outcome = bench.run("http_request", get(&peer.url(path))).await;
        assert_eq!(kind(&outcome), "http_redirect", "{path}: {outcome:?}");
    }
    let config = json!({"method": "POST", "url": peer.url("/three"), "body": "b"});
    let outcome = bench.run("http_request", config).await;
    let echo = outcome.result().unwrap()["data"].as_str().unwrap().to_owned();
    assert!(echo.starts_with("GET /one "), "{echo}");
    let seen = peer.requests();
    assert!(seen.iter().any(|request| request.starts_with("POST /two ") && request.ends_with("b")));
}

#[actix_rt::test]
async fn credentials_do_not_follow_a_redirect_to_another_origin() {
    let target = Peer::start(|request| answer(200, &[], request));
    let location = target.url("/");
    let peer = Peer::start(move |_| answer(302, &[("location", &location)], ""));
    let mut config = get(&peer.url("/"));
    config["headers"] = json!({"Authorization": "Bearer s3cret", "Cookie": "s3cret", "X-Ok": "1"});
    let outcome = Bench::new().run("http_request", config).await;
    let echo = outcome.result().unwrap()["data"].as_str().unwrap();
    assert!(!echo.contains("s3cret") && echo.contains("x-ok: 1"), "{echo}");
    assert!(peer.requests()[0].contains("s3cret"));
}

#[actix_rt::test]
async fn metadata_is_not_reached_directly_nor_by_a_redirect() {
    let peer = Peer::start(|_| answer(302, &[("location", "http://169.254.169.254/latest/")], ""));
    let bench = Bench::new();
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://metadata.google.internal./",
        "http://0.0.0.0:1/",
        &peer.url("/"),
    ] {
        let outcome = bench.run("http_request", get(url)).await;
        assert_eq!(kind(&outcome), "refused_by_policy", "{url}: {outcome:?}");
        assert_eq!(outcome.result(), None);
    }
}

#[actix_rt::test]
async fn our_own_listener_shows_nothing_but_its_pulse() {
    let peer = Peer::start(|_| answer(200, &[], "ok"));
    let bench = Bench::new();
    bench
        .environment
        .set_own_listeners(vec![SocketAddr::from(([0, 0, 0, 0], peer.address.port()))]);
    let port = peer.address.port();
    for host in ["127.0.0.1", "localhost", "127.0.0.2", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{port}/api/keys");
        let outcome = bench.run("http_request", get(&url)).await;
        assert_eq!(kind(&outcome), "refused_by_policy", "{url}: {}", message(&outcome));
    }
    assert_eq!(kind(&bench.run("http_request", get(&peer.url("/livez"))).await), "completed");
    let post = json!({"method": "POST", "url": peer.url("/livez")});
    assert_eq!(kind(&bench.run("http_request", post).await), "refused_by_policy");
}

#[actix_rt::test]
async fn strict_mode_reaches_only_what_is_allowed_by_name() {
    let peer = Peer::start(|_| answer(200, &[], "ok"));
    let strict = |allow: &[&str]| {
        let allow = allow.iter().map(|rule| rule.parse().unwrap()).collect();
        Bench::with(
            |settings| {
                settings.egress.mode = EgressMode::Strict;
                settings.egress.allow = allow;
            },
            FunctionRegistry::with_builtin(),
        )
    };
    let closed = strict(&[]);
    assert_eq!(kind(&closed.run("http_request", get(&peer.url("/"))).await), "refused_by_policy");
    let notice = json!({"name": "notify:send", "payload": {"message": "m", "url": peer.url("/")}});
    assert_eq!(kind(&closed.run("function", notice.clone()).await), "refused_by_policy");
    let open = strict(&["127.0.0.0/8"]);
    assert_eq!(kind(&open.run("http_request", get(&peer.url("/"))).await), "completed");
    let outcome = open.run("function", notice).await;
    assert_eq!(outcome.result(), Some(&json!({"logged": true, "status": 200})));
}

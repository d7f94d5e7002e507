//! Conventions: ids, headers, bodies, pages, versions, start and stop.

use carillon::domain::key::Role;
use carillon::runtime::handles::Phase;
use serde_json::{Value, json};

use super::server::{TestServer, read};

#[actix_rt::test]
async fn every_answer_carries_its_ids_and_the_security_headers() {
    let server = TestServer::start().await;
    for path in ["/livez", "/api/health", "/nothing"] {
        let reply = server.get(path).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(reply.header(name), value, "{path}");
        }
        assert!(reply.header("content-security-policy").starts_with("default-src 'none'"));
        assert!(!reply.header("x-request-id").is_empty(), "{path}");
        assert_eq!(reply.header("traceparent").len(), 55, "{path}");
    }
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = server.request("GET", "/livez");
    let request = request.insert_header(("X-Request-Id", "abc-1"));
    let reply = server.send(request.insert_header(("traceparent", trace)), &Value::Null).await;
    assert_eq!(reply.header("x-request-id"), "abc-1");
    assert!(reply.header("traceparent").contains("4bf92f3577b34da6a3ce929d0e0e4736"));
    let request = server.request("GET", "/livez").insert_header(("X-Request-Id", "<script>"));
    let reply = server.send(request, &Value::Null).await;
    assert_ne!(reply.header("x-request-id"), "<script>");
    server.stop().await;
}

#[actix_rt::test]
async fn a_body_must_be_json_of_a_bearable_size() {
    let server = TestServer::with(|settings| settings.server.body_bytes_max = 1_024).await;
    let path = "/api/execution/executions";
    let send = async |kind: &str, body: String| {
        let request = server.request("POST", path).bearer_auth(server.key(Role::Operator));
        read(request.insert_header(("Content-Type", kind)).send_body(body).await.unwrap()).await
    };
    send("application/json", "{".to_owned()).await.refuses(400, "malformed_json");
    send("application/json", String::new()).await.refuses(400, "malformed_json");
    send("application/json", "[]".to_owned()).await.refuses(422, "validation_failed");
    send("text/plain", "{}".to_owned()).await.refuses(415, "unsupported_media_type");
    let large = json!({ "taskType": "x".repeat(2_000) }).to_string();
    send("application/json", large).await.refuses(413, "payload_too_large");
    let nul = send("application/json", json!({ "dedupKey": "a\0" }).to_string()).await;
    assert_eq!(nul.refuses(422, "validation_failed").body["errors"][0]["field"], "dedupKey");
    server.stop().await;
}

#[actix_rt::test]
async fn before_the_first_pass_only_life_is_told() {
    let server = TestServer::start().await;
    *server.system.phase.lock() = Phase::Starting;
    server.send(server.request("GET", "/livez"), &Value::Null).await.is(200);
    for path in ["/readyz", "/api/health", "/metrics", "/nothing"] {
        let reply = server.get(path).await;
        assert_eq!(reply.refuses(503, "starting").header("retry-after"), "1", "{path}");
    }
    server.stop().await;
}

#[actix_rt::test]
async fn a_draining_server_reads_and_takes_no_work() {
    let server = TestServer::start().await;
    *server.system.phase.lock() = Phase::Draining;
    server.get("/api/scheduler/status").await.is(200);
    let reply = server.post("/api/execution/executions", json!({})).await;
    assert_eq!(reply.refuses(503, "draining").header("retry-after"), "1");
    server.post("/api/scheduler/schedules/1/pause", Value::Null).await.refuses(404, "not_found");
    server.send(server.request("GET", "/readyz"), &Value::Null).await.refuses(503, "not_ready");
    server.stop().await;
}

#[actix_rt::test]
async fn lists_name_what_is_wrong_with_their_query() {
    let server = TestServer::start().await;
    for (path, field) in [
        ("/api/scheduler/schedules?limit=0", "limit"),
        ("/api/scheduler/schedules?limit=501", "limit"),
        ("/api/execution/executions?offset=-1", "offset"),
        ("/api/execution/executions?status=failed,broken", "status"),
        ("/api/execution/executions?scheduleId=x", "scheduleId"),
        ("/api/errors/errors?severity=bad", "severity"),
        ("/api/scheduler/schedules?enabld=true", "enabld"),
        ("/api/dlq?status=x", "status"),
    ] {
        let reply = server.get(path).await;
        let found = &reply.refuses(422, "validation_failed").body["errors"][0]["field"];
        assert_eq!(found, field, "{path}");
    }
    let reply = server.get("/api/execution/executions?status=failed,timeout").await;
    let expected = json!({ "items": [], "total": 0, "limit": 50, "offset": 0 });
    assert_eq!(reply.is(200).body, expected);
    server.stop().await;
}

#[actix_rt::test]
async fn without_a_version_in_the_path_a_header_may_ask_for_one() {
    let server = TestServer::start().await;
    let send = async |path: &str, version: &str| {
        let request = server.request("GET", path).bearer_auth(server.key(Role::Viewer));
        server.send(request.insert_header(("X-Api-Version", version)), &Value::Null).await
    };
    send("/api/health", "1").await.is(200);
    send("/api/health", "2").await.refuses(404, "unknown_version_route");
    send("/api/v1/health", "2").await.is(200);
    server.stop().await;
}

#[actix_rt::test]
async fn health_names_each_part() {
    let server = TestServer::start().await;
    let reply = server.get("/api/health").await;
    assert_eq!(reply.is(200).body["status"], "ok");
    assert_eq!(reply.body["checks"]["database"]["status"], "ok");
    assert_eq!(reply.body["checks"]["scheduler"]["status"], "ok");
    server.call(Role::Viewer, "HEAD", "/api/health", Value::Null).await.is(200);
    server.stop().await;
}

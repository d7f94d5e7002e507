//! Who may come in: every route, every role, names, origins, sessions, limits.

use carillon::api::routes::{Access, ROUTES, Route};
use carillon::domain::key::Role;
use serde_json::{Value, json};

use super::server::{TestServer, read};

fn paths(route: &Route) -> Vec<String> {
    let fill = |path: String| path.replace("{id}", "999").replace("{path}", "no.such");
    route.full_paths().into_iter().map(fill).collect()
}

fn body_for(route: &Route) -> Value {
    if route.method == "GET" { Value::Null } else { json!({}) }
}

#[actix_rt::test]
async fn every_route_but_the_public_ones_needs_a_key() {
    let server = TestServer::start().await;
    let mut public = Vec::new();
    for route in ROUTES {
        if route.access == Access::Public {
            public.push(format!("{} {}", route.method, route.path));
            continue;
        }
        for path in paths(route) {
            let reply = server.send(server.request(route.method, &path), &body_for(route)).await;
            reply.refuses(401, "unauthorized");
            assert_eq!(reply.header("www-authenticate"), "Bearer realm=\"carillon\"");
        }
    }
    assert_eq!(public, ["GET /livez", "GET /readyz", "POST /session", "POST /hooks/{id}"]);
    for path in ["/api", "/api/nothing", "/api/v2/schedules", "/api/circuitbreaker"] {
        server.send(server.request("GET", path), &Value::Null).await.refuses(401, "unauthorized");
        server.get(path).await.refuses(404, "not_found");
    }
    server.stop().await;
}

#[actix_rt::test]
async fn each_route_asks_for_its_role_and_no_more() {
    let server = TestServer::start().await;
    for route in ROUTES {
        let Access::Key(needed) = route.access else { continue };
        for role in Role::ALL.iter().copied() {
            if route.path == "/drain" && role == Role::Admin {
                continue;
            }
            for path in paths(route) {
                let reply = server.call(role, route.method, &path, body_for(route)).await;
                let name = format!("{} {path} as {role}", route.method);
                if role.allows(needed) {
                    assert!(![401, 403, 405].contains(&reply.status), "{name}: {reply:?}");
                    assert!(reply.status < 500, "{name}: {reply:?}");
                } else {
                    assert_eq!(reply.status, 403, "{name}");
                    reply.refuses(403, "forbidden");
                }
            }
        }
    }
    server.stop().await;
}

#[actix_rt::test]
async fn reading_methods_never_change_anything() {
    for route in ROUTES.iter().filter(|route| route.method == "GET") {
        assert_eq!(route.effect, carillon::api::routes::Effect::Read, "{}", route.path);
    }
}

#[actix_rt::test]
async fn a_wrong_method_is_told_which_are_right() {
    let server = TestServer::start().await;
    for (method, path, allow) in [
        ("PATCH", "/api/scheduler/schedules/1", "DELETE, GET, HEAD, PUT"),
        ("GET", "/api/v1/scheduler/schedules/1/trigger", "POST"),
        ("DELETE", "/api/health", "GET, HEAD"),
        ("OPTIONS", "/api/admin/keys", "GET, HEAD, POST"),
    ] {
        let reply = server.call(Role::Admin, method, path, Value::Null).await;
        reply.refuses(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), allow);
    }
    server.stop().await;
}

#[actix_rt::test]
async fn foreign_names_and_pages_are_refused() {
    let server = TestServer::with(|settings| {
        settings.server.hosts = vec!["tasks.example.org".to_owned()];
    })
    .await;
    let send = async |name: &'static str, value: String| {
        let request = server.request("GET", "/api/health").bearer_auth(server.key(Role::Viewer));
        server.send(request.insert_header((name, value)), &Value::Null).await
    };
    send("Host", "evil.example".to_owned()).await.refuses(421, "misdirected_request");
    send("Host", "tasks.example.org".to_owned()).await.is(200);
    send("Origin", "http://evil.example".to_owned()).await.refuses(403, "foreign_origin");
    send("Origin", "null".to_owned()).await.refuses(403, "foreign_origin");
    let reply = send("Origin", format!("http://{}", server.address)).await;
    assert_eq!(reply.is(200).header("access-control-allow-origin"), "");
    server.stop().await;
}

#[actix_rt::test]
async fn a_session_reads_with_its_cookie_and_changes_things_only_from_our_pages() {
    let server = TestServer::start().await;
    let token = json!({ "token": server.key(Role::Operator) });
    let opened = server.send(server.request("POST", "/api/session"), &token).await;
    assert_eq!(opened.is(200).body["role"], "operator");
    let cookie = opened.header("set-cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{part} is not in {cookie}");
    }
    assert!(!cookie.contains("car_"));
    let pair = cookie.split(';').next().unwrap().to_owned();
    let own = format!("http://{}", server.address);
    let send = async |method: &str, path: &str, origin: Option<&str>| {
        let mut request = server.request(method, path).insert_header(("Cookie", pair.as_str()));
        if let Some(origin) = origin {
            request = request.insert_header(("Origin", origin));
        }
        server.send(request, &Value::Null).await
    };
    send("GET", "/api/scheduler/status", None).await.is(200);
    send("POST", "/api/scheduler/stop", None).await.refuses(403, "origin_required");
    let foreign = send("POST", "/api/scheduler/stop", Some("http://127.0.0.1:1")).await;
    foreign.refuses(403, "foreign_origin");
    send("POST", "/api/scheduler/stop", Some(&own)).await.is(200);
    send("DELETE", "/api/session", Some(&own)).await.is(204);
    send("GET", "/api/scheduler/status", None).await.refuses(401, "session_expired");
    server.stop().await;
}

#[actix_rt::test]
async fn only_failing_attempts_are_limited() {
    let server = TestServer::with(|settings| settings.auth.failures_max = 3).await;
    let attempt = async |token: &str| {
        let request = server.request("GET", "/api/health").bearer_auth(token);
        server.send(request, &Value::Null).await
    };
    let wrong = server.key(Role::Viewer).replacen("car_b", "car_z", 1);
    for token in ["nonsense", wrong.as_str(), "car_"] {
        attempt(token).await.refuses(401, "invalid_key");
    }
    let refused = attempt(&wrong).await;
    refused.refuses(429, "too_many_attempts");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 60);
    attempt(server.key(Role::Viewer)).await.is(200);
    server.send(server.request("GET", "/livez"), &Value::Null).await.is(200);
    server.stop().await;
}

#[actix_rt::test]
async fn metrics_have_a_switch_of_their_own() {
    let closed = TestServer::start().await;
    let reply = closed.send(closed.request("GET", "/metrics"), &Value::Null).await;
    reply.refuses(401, "unauthorized");
    assert_eq!(closed.get("/metrics").await.is(200).text, "carillon_up 1\n");
    closed.stop().await;
    let open = TestServer::with(|settings| settings.server.metrics_public = true).await;
    let answer = open.request("GET", "/metrics").send().await.unwrap();
    read(answer).await.is(200);
    open.stop().await;
}

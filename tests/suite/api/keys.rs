//! Keys: made, shown once, revoked; the first one; the admin plane.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use carillon::api::auth::ensure_admin_key;
use carillon::clock::Clock;
use carillon::domain::key::{ApiKey, Role};
use carillon::runtime::handles::{ActorCommand, CrashMode};
use carillon::store::{Store, StoreLocation, StoreOptions};
use serde_json::{Value, json};

use super::server::TestServer;

#[actix_rt::test]
async fn a_key_is_shown_once_and_stops_working_when_revoked() {
    let server = TestServer::start().await;
    let body = json!({ "name": "robot", "role": "viewer" });
    let made = server.call(Role::Admin, "POST", "/api/admin/keys", body).await;
    let token = made.is(201).body["token"].as_str().unwrap().to_owned();
    let key = ApiKey::parse(&token).unwrap();
    let listed = server.call(Role::Admin, "GET", "/api/admin/keys", Value::Null).await;
    assert_eq!(listed.is(200).body["total"], 4);
    // It may hold the mark that goes before it.
    let secret = token.strip_prefix(key.prefix()).unwrap().strip_prefix('_').unwrap();
    assert!(!listed.text.contains(secret) && !listed.text.contains("Hash"));
    let request = || server.request("GET", "/api/health").bearer_auth(&token);
    server.send(request(), &Value::Null).await.is(200);
    let path = format!("/api/admin/keys/{}", made.id());
    server.call(Role::Admin, "DELETE", &path, Value::Null).await.is(204);
    server.send(request(), &Value::Null).await.refuses(401, "invalid_key");
    server.stop().await;
}

#[actix_rt::test]
async fn the_last_admin_key_stays() {
    let server = TestServer::start().await;
    let listed = server.call(Role::Admin, "GET", "/api/admin/keys", Value::Null).await;
    let items = listed.body["items"].as_array().unwrap();
    let admin = items.iter().find(|key| key["role"] == "admin").unwrap();
    let path = format!("/api/admin/keys/{}", admin["id"]);
    let reply = server.call(Role::Admin, "DELETE", &path, Value::Null).await;
    reply.refuses(409, "last_admin_key");
    server.call(Role::Admin, "DELETE", "/api/admin/keys/999", Value::Null).await.is(404);
    server.stop().await;
}

#[actix_rt::test]
async fn the_first_start_writes_an_admin_key_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let location = StoreLocation::Sqlite(folder.path().join("carillon.db"));
    let options = StoreOptions { location, pool_max: 2, acquire: Duration::from_millis(500) };
    let store = Store::open(options, Clock::system()).await.unwrap();
    let path = ensure_admin_key(&store, folder.path()).await.unwrap().unwrap();
    let key = ApiKey::parse(std::fs::read_to_string(&path).unwrap().trim()).unwrap();
    let row = store.key_find(key.prefix().to_owned()).await.unwrap().unwrap();
    assert!(key.matches(&row.secret_hash));
    assert_eq!(row.role, "admin");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(ensure_admin_key(&store, folder.path()).await.unwrap().is_none());
    store.close().await;
}

#[actix_rt::test]
async fn crashes_exist_only_where_they_are_switched_on() {
    let path = "/api/admin/actors/time.scheduler/crash";
    let mode = json!({ "mode": "panic" });
    let server = TestServer::start().await;
    server.call(Role::Admin, "POST", path, mode.clone()).await.refuses(404, "not_found");
    server.stop().await;
    let server = TestServer::with(|settings| settings.admin.fault_injection = true).await;
    server.call(Role::Admin, "POST", path, mode).await.is(202);
    let expected = ("time.scheduler".to_owned(), ActorCommand::Crash(CrashMode::Panic));
    assert_eq!(*server.system.commands.lock(), [expected]);
    let bad = server.call(Role::Admin, "POST", path, json!({ "mode": "melt" })).await;
    bad.refuses(422, "validation_failed");
    server.stop().await;
}

#[actix_rt::test]
async fn the_admin_plane_looks_and_acts() {
    let server = TestServer::start().await;
    let call = async |method: &str, path: &str, body: Value| {
        server.call(Role::Admin, method, &format!("/api/admin{path}"), body).await
    };
    assert_eq!(call("GET", "/actors", Value::Null).await.is(200).body["path"], "root");
    call("GET", "/actors/no.such", Value::Null).await.refuses(404, "not_found");
    call("POST", "/actors/time.scheduler/restart", Value::Null).await.is(202);
    call("PUT", "/log-level", json!({ "level": "debug" })).await.is(200);
    assert_eq!(call("GET", "/log-level", Value::Null).await.body["level"], "debug");
    call("PUT", "/log-level", json!({ "level": "loud" })).await.refuses(422, "validation_failed");
    let system = call("GET", "/system", Value::Null).await;
    assert_eq!(system.is(200).body["nodeId"], "test");
    assert_eq!(system.body["phase"], "running");
    assert_eq!(call("POST", "/drain", Value::Null).await.is(202).body["phase"], "draining");
    server.stop().await;
}

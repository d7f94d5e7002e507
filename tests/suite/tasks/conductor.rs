//! Conductor tasks against a conductor that is not one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use carillon::tasks::conductor::{ConductorCommand, ConductorProcess, ConductorSettings};
use carillon::tasks::function::FunctionRegistry;
use carillon::tasks::{Outcome, TaskSettings};
use serde_json::json;

use super::peer::{Peer, answer};
use super::support::{Bench, Heard, kind, living, marker, until};

fn bench(peer: &Peer) -> Bench {
    let conductor = ConductorSettings {
        url: peer.url("/base/api").parse().unwrap(),
        token: Some("t0ken".to_owned()),
        request_timeout: Duration::from_secs(5),
    };
    let change = |settings: &mut TaskSettings| settings.conductor = Some(conductor);
    Bench::with(change, FunctionRegistry::with_builtin())
}

#[actix_rt::test]
async fn a_thread_that_answers_at_once_completes() {
    let peer = Peer::start(|_| answer(200, &[], r#"{"status": "done", "result": {"x": 1}}"#));
    let bench = bench(&peer);
    let config = json!({"message": "hello", "threadId": "t-1", "timeoutMs": 9000});
    let outcome = bench.run("conductor_task", config).await;
    let expected = json!({"threadId": "t-1", "status": "done", "result": {"x": 1}});
    assert_eq!((kind(&outcome), outcome.result()), ("completed", Some(&expected)));
    assert_eq!(outcome.extra().conductor_thread_id.as_deref(), Some("t-1"));
    assert_eq!(outcome.extra().conductor_status.as_deref(), Some("done"));
    let request = peer.requests().remove(0);
    assert!(request.starts_with("POST /base/api/threads/t-1/messages "), "{request}");
    assert!(request.contains("authorization: Bearer t0ken"), "{request}");
    assert!(request.ends_with(r#"{"message":"hello","timeout":9000}"#), "{request}");
    bench.environment.conductor().unwrap().health().await.unwrap();
}

#[actix_rt::test]
async fn a_thread_at_work_is_asked_for_until_it_is_done() {
    let asked = AtomicU32::new(0);
    let peer = Peer::start(move |request| {
        let done = request.starts_with("GET ") && asked.fetch_add(1, Ordering::Relaxed) == 1;
        let status = if done { "completed" } else { "running" };
        answer(200, &[], &json!({"status": status, "result": "r"}).to_string())
    });
    let outcome = bench(&peer).run("conductor_task", json!({"message": "m"})).await;
    assert_eq!(kind(&outcome), "completed");
    assert_eq!(outcome.result().unwrap()["result"], "r");
    assert_eq!(peer.requests().len(), 3);
}

#[actix_rt::test]
async fn whatever_goes_wrong_with_the_conductor_is_its_error() {
    let table: [(u16, &str); 5] = [
        (200, r#"{"status": "failed"}"#),
        (200, r#"{"status": "completed", "error": {"message": "no tokens"}}"#),
        (500, r#"{"error": "broken"}"#),
        (404, ""),
        (200, "<html>"),
    ];
    for (status, body) in table {
        let peer = Peer::start(move |_| answer(status, &[], body));
        let outcome = bench(&peer).run("conductor_task", json!({"message": "m"})).await;
        let Outcome::Failed { error, extra, .. } = &outcome else { panic!("{outcome:?}") };
        assert_eq!((error.kind.as_str(), error.transient), ("conductor", true), "{status} {body}");
        assert!(extra.conductor_thread_id.is_some());
    }
    let outcome = Bench::new().run("conductor_task", json!({"message": "m"})).await;
    let Outcome::Failed { error, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((error.kind.as_str(), error.transient), ("conductor", false));
}

#[actix_rt::test]
async fn a_thread_whose_task_is_cut_off_is_cancelled() {
    for how in ["timeout", "cancelled"] {
        let peer = Peer::start(|_| answer(200, &[], r#"{"status": "running"}"#));
        let bench = bench(&peer);
        let timeout = if how == "timeout" { 300 } else { 30_000 };
        let config = json!({"message": "m", "threadId": "t", "timeoutMs": timeout});
        let running = bench.start("conductor_task", config);
        if how == "cancelled" {
            until("the message is there", || !peer.requests().is_empty()).await;
            running.control.cancel();
        }
        let outcome = running.outcome().await;
        assert_eq!(kind(&outcome), how);
        assert_eq!(outcome.extra().conductor_status.as_deref(), Some("cancelled"));
        let last = peer.requests().pop().unwrap();
        assert!(last.starts_with("POST /base/api/threads/t/cancel "), "{last}");
    }
}

fn command(text: &str) -> ConductorCommand {
    let args = vec!["-c".to_owned(), text.to_owned()];
    ConductorCommand { program: "sh".to_owned(), args, cwd: None, env: Vec::new() }
}

#[actix_rt::test]
async fn a_conductor_process_is_heard_and_its_exit_is_told() {
    let bench = Bench::new();
    let heard = Arc::new(Heard::default());
    let process =
        ConductorProcess::start(&bench.environment, command("echo up; exit 3"), heard.clone())
            .await
            .unwrap();
    let exit = process.wait().await;
    assert_eq!((exit.exit_code, exit.fault), (Some(3), None));
    assert!(heard.has_line("up"));
}

#[actix_rt::test]
async fn a_conductor_process_ends_with_its_tree_when_stopped_or_dropped() {
    let bench = Bench::new();
    let sleep = marker();
    let text = format!("setsid sleep {sleep} & sleep {sleep}");
    for stop in [true, false] {
        let heard = Arc::new(Heard::default());
        let process = ConductorProcess::start(&bench.environment, command(&text), heard).await;
        let process = process.unwrap();
        until("the conductor is up", || living(&format!("sleep\0{sleep}")).len() == 2).await;
        if stop {
            let control = process.control();
            control.cancel();
            process.wait().await;
            assert_eq!(living(&sleep), Vec::<i32>::new());
        } else {
            drop(process);
            until("the tree is gone", || living(&sleep).is_empty()).await;
        }
    }
}

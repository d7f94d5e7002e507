//! Functions: the registry, the threads, and how handlers fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use carillon::domain::task::TaskError;
use carillon::tasks::Outcome;
use carillon::tasks::function::{
    FunctionContext, FunctionRegistry, FunctionServices, FunctionSpec, failed, refused,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::support::{Bench, kind, until};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Echo {
    text: String,
}

/// What has become of a handler that sleeps, and whether one that blocks may go on.
#[derive(Default)]
struct Sleeper {
    released: AtomicBool,
    begun: AtomicBool,
    dropped: AtomicBool,
}

struct Asleep(Arc<Sleeper>);

impl Drop for Asleep {
    fn drop(&mut self) {
        self.0.dropped.store(true, Ordering::Relaxed);
    }
}

fn bench(sleeper: &Arc<Sleeper>) -> Bench {
    let mut registry = FunctionRegistry::with_builtin();
    registry.register(
        FunctionSpec::new("test:echo", "Echoes."),
        async |payload: Echo, context: FunctionContext| {
            context.log("echoing");
            Ok(payload.text)
        },
    );
    let gate = Arc::clone(sleeper);
    registry.register(FunctionSpec::new("test:block", "Blocks."), move |_: Value, _| {
        let gate = Arc::clone(&gate);
        async move {
            while !gate.released.load(Ordering::Relaxed) {
                #[expect(clippy::disallowed_methods, reason = "the point of the test")]
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        }
    });
    let shared = Arc::clone(sleeper);
    registry.register(FunctionSpec::new("test:wait", "Waits."), move |_: Value, _| {
        let asleep = Asleep(Arc::clone(&shared));
        async move {
            asleep.0.begun.store(true, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Ok(())
        }
    });
    registry.register(
        FunctionSpec::new("test:fail", "Fails as told."),
        async |how: Value, _| -> Result<(), TaskError> {
            match how.as_str() {
                Some("panic") => panic!("told to"),
                Some("refuse") => Err(refused("never")),
                _ => Err(failed("not now")),
            }
        },
    );
    Bench::with(|_| {}, registry)
}

#[actix_rt::test]
async fn a_function_gets_its_payload_typed_and_may_log() {
    let bench = bench(&Arc::default());
    let config = json!({"name": "test:echo", "payload": {"text": "hi"}});
    let running = bench.start("function", config);
    let heard = running.heard.clone();
    assert_eq!(running.outcome().await.result(), Some(&json!("hi")));
    assert!(heard.has_line("echoing"));
    let typo = json!({"name": "test:echo", "payload": {"txet": "hi"}});
    assert_eq!(kind(&bench.run("function", typo).await), "invalid_config");
    let unknown = json!({"name": "test:nothing"});
    assert_eq!(kind(&bench.run("function", unknown).await), "unknown_function");
}

#[actix_rt::test]
async fn a_handler_chooses_whether_to_be_tried_again_and_its_panic_is_its_own() {
    let bench = bench(&Arc::default());
    for (how, expected, transient) in [
        ("fail", "function_failed", true),
        ("refuse", "function_failed", false),
        ("panic", "panic", true),
    ] {
        let config = json!({"name": "test:fail", "payload": how});
        let Outcome::Failed { error, .. } = bench.run("function", config).await else {
            panic!("{how} did not fail");
        };
        assert_eq!((error.kind.as_str(), error.transient), (expected, transient));
        if how == "panic" {
            assert_eq!(error.message, "told to");
        }
    }
}

#[actix_rt::test]
async fn a_handler_that_blocks_freezes_nothing_and_is_not_waited_for() {
    let sleeper: Arc<Sleeper> = Arc::default();
    let bench = bench(&sleeper);
    let blocked = bench.start("function", json!({"name": "test:block", "timeoutMs": 500}));
    let config = json!({"name": "test:echo", "payload": {"text": "alive"}});
    assert_eq!(kind(&bench.run("function", config).await), "completed");
    // Its thread is still in the handler when its end is told.
    assert_eq!(kind(&blocked.outcome().await), "timeout");
    sleeper.released.store(true, Ordering::Relaxed);
}

#[actix_rt::test]
async fn a_cancelled_handler_is_dropped_at_its_next_await() {
    let sleeper: Arc<Sleeper> = Arc::default();
    let bench = bench(&sleeper);
    let running = bench.start("function", json!({"name": "test:wait"}));
    until("the handler has begun", || sleeper.begun.load(Ordering::Relaxed)).await;
    running.control.cancel();
    assert_eq!(kind(&running.outcome().await), "cancelled");
    until("the handler is dropped", || sleeper.dropped.load(Ordering::Relaxed)).await;
}

#[actix_rt::test]
async fn a_thousand_noops_complete() {
    let bench = Bench::new();
    for _ in 0..1000 {
        assert_eq!(kind(&bench.run("function", json!({"name": "noop"})).await), "completed");
    }
}

struct Services;

#[async_trait]
impl FunctionServices for Services {
    async fn health_check(&self) -> Result<Value, TaskError> {
        Ok(json!({"status": "ok"}))
    }

    async fn collect_metrics(&self) -> Result<Value, TaskError> {
        Ok(json!({"runs": 1}))
    }

    async fn delete_old_executions(
        &self,
        older_than_days: u32,
        status: Option<String>,
    ) -> Result<u64, TaskError> {
        assert_eq!(status.as_deref(), Some("completed"));
        Ok(u64::from(older_than_days))
    }
}

#[actix_rt::test]
async fn the_built_in_functions_ask_the_runtime_once_it_is_there() {
    let bench = Bench::new();
    let health = json!({"name": "health:check"});
    let early = bench.run("function", health.clone()).await;
    assert!(matches!(&early, Outcome::Failed { error, .. } if error.transient), "{early:?}");
    bench.environment.install_services(Arc::new(Services));
    assert_eq!(bench.run("function", health).await.result(), Some(&json!({"status": "ok"})));
    let metrics = bench.run("function", json!({"name": "metrics:collect"})).await;
    assert_eq!(metrics.result(), Some(&json!({"runs": 1})));
    let payload = json!({"olderThanDays": 30, "status": "completed"});
    let config = json!({"name": "cleanup:old_executions", "payload": payload});
    assert_eq!(bench.run("function", config).await.result(), Some(&json!({"deleted": 30})));
    for payload in [json!({}), json!({"olderThanDays": 0}), json!({"olderThanDays": 1, "x": 1})] {
        let config = json!({"name": "cleanup:old_executions", "payload": payload});
        assert_eq!(kind(&bench.run("function", config).await), "invalid_config");
    }
    let names: Vec<_> =
        bench.environment.functions().list().into_iter().map(|info| info.name).collect();
    let expected =
        ["cleanup:old_executions", "health:check", "metrics:collect", "noop", "notify:send"];
    assert_eq!(names, expected);
}

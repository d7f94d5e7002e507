//! The README's commands, run as they stand there.

use std::process::Command;

use super::server::{Backend, Server};

/// The shell blocks of the README.
fn blocks() -> Vec<String> {
    let readme = include_str!("../../../README.md");
    let mut blocks = Vec::new();
    let mut rest = readme;
    while let Some((_, after)) = rest.split_once("```sh\n") {
        let (block, after) = after.split_once("```").unwrap();
        blocks.push(block.to_owned());
        rest = after;
    }
    blocks
}

#[test]
fn the_first_schedules_of_the_readme_run() {
    let mut server = Server::new(Backend::Sqlite).started();
    let folder = server.path("reader");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("..", folder.join("data")).unwrap();
    let commands: Vec<String> = blocks()
        .into_iter()
        .filter(|block| block.starts_with("curl") || block.contains("schedule add"))
        .collect();
    assert_eq!(commands.len(), 2, "a curl and a carillon schedule add");
    for command in commands {
        let here = command
            .replace("http://127.0.0.1:7411", &server.url())
            .replace("./target/release/carillon", env!("CARGO_BIN_EXE_carillon"));
        let output = Command::new("sh")
            .args(["-ec", &here])
            .env("CARILLON_URL", server.url())
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{here}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    for name in ["hello", "hello-again"] {
        server.until(&format!("{name} ran"), |server| {
            let runs = server.get("/api/execution/executions?status=completed&limit=500");
            runs["items"].as_array().unwrap().iter().any(|run| run["scheduleName"] == name)
        });
    }
}

//! Every step of the schema goes down and up again, on both back ends.

use std::fs;
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use crate::support::postgres::database;

/// The folders of a back end's steps, first to last.
fn steps(back_end: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(back_end);
    let mut steps: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    steps.sort();
    assert!(!steps.is_empty());
    steps
}

/// All up; each down and up again; all down; all up. `shape` says what is there, in words.
fn go_down_and_up(back_end: &str, mut run: impl FnMut(&str), mut shape: impl FnMut() -> String) {
    let steps = steps(back_end);
    let text = |step: &Path, way: &str| fs::read_to_string(step.join(way)).unwrap();
    let mut shapes = vec![shape()];
    for step in &steps {
        run(&text(step, "up.sql"));
        shapes.push(shape());
    }
    for (place, step) in steps.iter().enumerate().rev() {
        run(&text(step, "down.sql"));
        assert_eq!(shape(), shapes[place], "{} leaves something", step.display());
        run(&text(step, "up.sql"));
        assert_eq!(shape(), shapes[place + 1], "{} does not come back", step.display());
        run(&text(step, "down.sql"));
    }
    assert_eq!(shape(), shapes[0], "nothing is left");
    for step in &steps {
        run(&text(step, "up.sql"));
    }
    assert_eq!(shape(), shapes[steps.len()]);
}

#[derive(QueryableByName)]
struct Shape {
    #[diesel(sql_type = diesel::sql_types::Text)]
    text: String,
}

#[test]
fn the_steps_of_sqlite_go_down_and_up_again() {
    let connection = SqliteConnection::establish(":memory:").unwrap();
    let connection = std::cell::RefCell::new(connection);
    let run = |sql: &str| connection.borrow_mut().batch_execute(sql).unwrap();
    let shape = || {
        let rows: Vec<Shape> = diesel::sql_query(
            "SELECT type || ' ' || name || ' ' || coalesce(sql, '') AS text FROM sqlite_master \
             WHERE name NOT LIKE 'sqlite_%' ORDER BY text",
        )
        .load(&mut *connection.borrow_mut())
        .unwrap();
        // A table that was made anew is written another way and is the same.
        let plain = |text: String| text.replace(['"', ' ', '\n'], "");
        rows.into_iter().map(|row| plain(row.text)).collect::<Vec<_>>().join("\n")
    };
    go_down_and_up("sqlite", run, shape);
}

#[test]
fn the_steps_of_postgresql_go_down_and_up_again() {
    let database = database();
    let shape = || {
        database.query(
            "SELECT * FROM (SELECT format('%s.%s %s %s %s', table_name, column_name, data_type, \
             is_nullable, column_default) FROM information_schema.columns WHERE table_schema = \
             'public' UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' UNION \
             ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) \
             FROM pg_constraint WHERE connamespace = 'public'::regnamespace UNION ALL SELECT \
             'type ' || typname FROM pg_type WHERE typnamespace = 'public'::regnamespace UNION ALL \
             SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = \
             'public'::regnamespace) AS things(text) ORDER BY text",
        )
    };
    go_down_and_up("postgres", |sql| drop(database.query(sql)), shape);
}

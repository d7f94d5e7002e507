//! How answers are shown: tables for people, JSON for programs.
//!
//! What came from a server is shown with its control characters escaped: a schedule's name must
//! not be able to drive the terminal of whoever lists it.

use std::io::{self, Write};

use serde_json::Value;

use crate::telemetry::log::escape_line;

/// What a client command has to show, and the exit status it ends with.
#[derive(Debug)]
pub(super) struct Answer {
    /// The server's answer.
    json: Value,
    /// The same for people.
    text: String,
    /// Exit status.
    pub(super) status: u8,
}

impl Answer {
    pub(super) fn new(json: Value, text: impl Into<String>) -> Self {
        Self { json, text: text.into(), status: 0 }
    }

    pub(super) fn with_status(self, status: u8) -> Self {
        Self { status, ..self }
    }

    /// The form that was asked for.
    pub(super) fn render(&self, json: bool) -> String {
        if json { format!("{:#}", self.json) } else { self.text.clone() }
    }
}

/// Prints a line on standard output; a reader that went away is no failure.
pub(super) fn say(text: &str) {
    if !text.is_empty() {
        drop(writeln!(io::stdout().lock(), "{text}"));
    }
}

/// Prints a line on standard error.
pub(super) fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "carillon: {text}"));
}

/// A field of an answer as a short text; `-` when there is none. The path is dotted.
pub(super) fn cell(value: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(value, |value, name| value.get(name));
    match found {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => escape_line(text),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(other) => escape_line(&other.to_string()),
    }
}

/// A table of the items of a list answer; `columns` are heading and dotted path.
pub(super) fn table(answer: &Value, columns: &[(&str, &str)], none: &str) -> String {
    let items = items(answer);
    let row = |item: &Value| columns.iter().map(|(_, path)| cell(item, path)).collect();
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let mut text = grid(&headings, &rows);
    if rows.is_empty() {
        none.clone_into(&mut text);
    }
    let total = answer.get("total").and_then(Value::as_u64).unwrap_or(0);
    if total > rows.len() as u64 {
        text.push_str(&format!("\n{} of {total}; more with --limit and --offset", rows.len()));
    }
    text
}

/// The items of a list answer, paged or plain.
pub(super) fn items(answer: &Value) -> &[Value] {
    let list = answer.get("items").unwrap_or(answer);
    list.as_array().map_or(&[], Vec::as_slice)
}

/// One field a line, in order.
pub(super) fn card(value: &Value, fields: &[(&str, &str)]) -> String {
    let width = fields.iter().map(|(heading, _)| heading.len()).max().unwrap_or(0);
    let shown = fields.iter().map(|(heading, path)| (heading, cell(value, path)));
    let lines: Vec<String> = shown
        .filter(|(_, text)| text != "-")
        .map(|(heading, text)| format!("{heading:width$}  {text}"))
        .collect();
    lines.join("\n")
}

/// Columns as wide as their widest cell, two spaces between.
pub(super) fn grid(headings: &[&str], rows: &[Vec<String>]) -> String {
    let count = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = headings.iter().map(|heading| count(heading)).collect();
    for row in rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(count(text));
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(text, width)| format!("{text:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(headings.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

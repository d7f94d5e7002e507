//! What other schedulers know, carried over: a crontab, systemd timers.
//!
//! A reader turns a file into bodies of `POST /api/scheduler/schedules`, each as close to what the
//! other scheduler did as ours can be: cron neither retried nor caught up nor cared for overlap, so
//! neither do they. What differs is a note, what cannot be carried over is a refusal with its
//! place and reason; nothing is left out in silence.
//!
//! Not here: whether the server takes a body (it says so itself), and reading files.

mod crontab;
mod span;
mod systemd;
mod unit;

use std::collections::HashSet;

use serde_json::{Map, Value, json};

pub use self::crontab::read_crontab;
pub use self::systemd::{TimerFiles, read_timer};
use crate::domain::task::TIMEOUT_LIMIT_MS;

/// How long a name made from a command gets, in characters.
const NAME_LENGTH: usize = 60;

/// What to read as, beside the file.
#[derive(Clone, Debug)]
pub struct CarryContext {
    /// The zone of expressions that name none: the machine's, as cron and systemd take it.
    pub zone: String,
    /// True for a crontab whose lines name a user, as `/etc/crontab`.
    pub has_users: bool,
    /// What the names of schedules begin with.
    pub prefix: String,
}

/// One schedule that can be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    /// Where it comes from: `line 7`, or a file's name.
    pub place: String,
    /// The body of the request that makes it.
    pub body: Value,
    /// What will differ from before.
    pub notes: Vec<String>,
}

/// Something that was not carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it stands.
    pub place: String,
    /// What stands there.
    pub text: String,
    /// Why, and what to do instead.
    pub reason: String,
}

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The schedules.
    pub carried: Vec<Carried>,
    /// The rest.
    pub left_out: Vec<LeftOut>,
}

impl Report {
    fn leave_out(&mut self, place: &str, text: &str, reason: impl Into<String>) {
        let (place, text) = (place.to_owned(), text.to_owned());
        self.left_out.push(LeftOut { place, text, reason: reason.into() });
    }

    /// Adds the schedules of another file; names that meet get a number.
    pub fn append(&mut self, other: Self) {
        self.carried.extend(other.carried);
        self.left_out.extend(other.left_out);
        self.number_names();
    }

    /// Gives names that meet a number each.
    fn number_names(&mut self) {
        let mut taken: HashSet<String> = HashSet::new();
        for one in &mut self.carried {
            let Some(name) = one.body.get("name").and_then(Value::as_str) else { continue };
            let mut free = name.to_owned();
            for number in 2.. {
                if !taken.contains(&free) {
                    break;
                }
                free = format!("{name}-{number}");
            }
            taken.insert(free.clone());
            set(&mut one.body, "name", json!(free));
        }
    }
}

/// Sets a field of a body.
pub fn set(body: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = body {
        fields.insert(name.to_owned(), value);
    }
}

/// What a scheduler that neither retries nor catches up nor cares for overlap does, in our words.
fn plain_policies(body: &mut Map<String, Value>) {
    body.insert("overlapPolicy".to_owned(), json!("allow"));
    body.insert("misfirePolicy".to_owned(), json!("skip"));
    body.insert("retryPolicy".to_owned(), json!({ "maxAttempts": 1 }));
    body.insert("timeoutMs".to_owned(), json!(TIMEOUT_LIMIT_MS));
}

/// A name from a command: the program and the words after it up to what only a shell reads, as one
/// word.
fn name_of(prefix: &str, command: &str) -> String {
    let mut name = prefix.to_owned();
    let plain =
        command.split(['>', '<', '|', '&', ';', '$', '`']).find(|part| !part.trim().is_empty());
    for word in plain.unwrap_or_default().split_whitespace() {
        let word = word.rsplit('/').next().unwrap_or(word);
        let word: String =
            word.chars().map(|one| if one.is_ascii_alphanumeric() { one } else { '-' }).collect();
        let word = word.trim_matches('-').to_ascii_lowercase();
        if word.is_empty() || name.len() + word.len() + 1 > NAME_LENGTH {
            continue;
        }
        if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        name.push_str(&word);
    }
    if name.is_empty() { "task".to_owned() } else { name }
}

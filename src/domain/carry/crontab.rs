//! A crontab, as Debian's and Vixie's cron read it.
//!
//! | there | here |
//! | --- | --- |
//! | five fields or `@daily` | the same expression, in `CRON_TZ` or the machine's zone |
//! | `SHELL` | `/bin/sh`, else that shell with `-c` |
//! | other variables | declared variables of the tasks below them |
//! | `%` in a command | what follows is its input; `\%` is a percent sign |
//! | the user of a system crontab | `runAs` |
//! | a comment right above a line | the description |
//! | `MAILTO` | a note: output is in the log of the execution |
//! | `@reboot` | left out: nothing here fires at the start of a machine |

use serde_json::{Map, Value, json};

use super::{Carried, CarryContext, Report, name_of, plain_policies};
use crate::domain::Timestamp;
use crate::domain::cadence::{Cadence, ParseContext};

const SHELL: &str = "/bin/sh";
const INPUT_END: &str = "CARILLON_INPUT";

/// Reads a crontab.
#[must_use]
pub fn read_crontab(text: &str, context: &CarryContext) -> Report {
    let mut reader = Reader { context, around: Around::default(), report: Report::default() };
    for (number, line) in text.lines().enumerate() {
        reader.line(&format!("line {}", number + 1), line.trim());
    }
    reader.report.number_names();
    reader.report
}

/// What the lines above say about those below.
#[derive(Default)]
struct Around {
    variables: Map<String, Value>,
    shell: Option<String>,
    zone: Option<String>,
    home: Option<String>,
    has_mail: bool,
    comment: Vec<String>,
}

struct Reader<'a> {
    context: &'a CarryContext,
    around: Around,
    report: Report,
}

/// A line taken apart.
struct Entry<'a> {
    expression: String,
    user: Option<&'a str>,
    command: &'a str,
}

impl Reader<'_> {
    fn line(&mut self, place: &str, line: &str) {
        if line.is_empty() {
            self.around.comment.clear();
        } else if let Some(comment) = line.strip_prefix('#') {
            self.around.comment.push(comment.trim_start_matches('#').trim().to_owned());
        } else if let Some((name, value)) = variable(line) {
            self.variable(name, value);
            self.around.comment.clear();
        } else {
            match self.entry(line) {
                Ok(entry) => {
                    let carried = self.carry(place, &entry);
                    self.report.carried.push(carried);
                }
                Err(reason) => self.report.leave_out(place, line, reason),
            }
            self.around.comment.clear();
        }
    }

    fn variable(&mut self, name: &str, value: &str) {
        let given = Some(value.to_owned()).filter(|value| !value.is_empty());
        match name {
            "SHELL" => self.around.shell = given.filter(|shell| shell != SHELL),
            "CRON_TZ" => self.around.zone = given,
            "MAILTO" | "MAILFROM" => self.around.has_mail = given.is_some(),
            "HOME" => self.around.home = given,
            _ => {
                self.around.variables.insert(name.to_owned(), json!(value));
            }
        }
    }

    /// Takes a line apart and vets its expression.
    fn entry<'a>(&self, line: &'a str) -> Result<Entry<'a>, String> {
        let fields = if line.starts_with('@') { 1 } else { 5 };
        let (expression, mut rest) = take_words(line, fields)
            .ok_or("it is neither `NAME=value` nor five fields and a command")?;
        if expression == "@reboot" {
            return Err("nothing here fires at the start of a machine; let the service manager \
                        start it, or trigger a schedule from there"
                .to_owned());
        }
        let mut user = None;
        if self.context.has_users {
            let (name, command) = take_words(rest, 1).ok_or("it has a user but no command")?;
            user = rest.get(..name.len());
            rest = command;
        }
        if rest.is_empty() {
            return Err("it has no command".to_owned());
        }
        let zone = self.zone();
        let parsing = ParseContext { created_at: Timestamp::UNIX_EPOCH, default_zone: zone };
        Cadence::parse("cron", &json!({ "cron": expression }), &parsing).map_err(|faults| {
            let messages: Vec<_> = faults.into_iter().map(|fault| fault.message).collect();
            messages.join("; ")
        })?;
        Ok(Entry { expression, user, command: rest })
    }

    fn zone(&self) -> String {
        self.around.zone.clone().unwrap_or_else(|| self.context.zone.clone())
    }

    fn carry(&self, place: &str, entry: &Entry<'_>) -> Carried {
        let around = &self.around;
        let mut notes = Vec::new();
        let (command, has_input) = command_of(entry.command);
        if has_input {
            notes
                .push("what follows % in the command is given to it as a here-document".to_owned());
        }
        if around.has_mail {
            notes.push(
                "MAILTO: output is not mailed; it is in the execution's log, and alert rules tell \
                 of failures"
                    .to_owned(),
            );
        }
        let mut config = Map::new();
        match &around.shell {
            None => {
                config.insert("command".to_owned(), json!(command));
            }
            Some(shell) => {
                config.insert("command".to_owned(), json!(shell));
                config.insert("args".to_owned(), json!(["-c", command]));
            }
        }
        if let Some(home) = &around.home {
            config.insert("cwd".to_owned(), json!(home));
        } else {
            notes.push("cron ran it in the user's home, here it runs in /; set `cwd`".to_owned());
        }
        if !around.variables.is_empty() {
            config.insert("env".to_owned(), Value::Object(around.variables.clone()));
        }
        let name = name_of(&self.context.prefix, entry.command.split('%').next().unwrap_or(""));
        let mut body = Map::new();
        body.insert("name".to_owned(), json!(name));
        if !around.comment.is_empty() {
            body.insert("description".to_owned(), json!(around.comment.join("\n")));
        }
        body.insert("taskType".to_owned(), json!("shell_command"));
        body.insert("taskConfig".to_owned(), Value::Object(config));
        body.insert("scheduleType".to_owned(), json!("cron"));
        let plan = json!({ "cron": entry.expression, "timezone": self.zone() });
        body.insert("scheduleConfig".to_owned(), plan);
        if let Some(user) = entry.user {
            body.insert("runAs".to_owned(), json!(user));
        }
        body.insert("tags".to_owned(), json!(["crontab"]));
        plain_policies(&mut body);
        Carried { place: place.to_owned(), body: Value::Object(body), notes }
    }
}

/// `NAME=value`, quotes taken off; a line with a command is none.
fn variable(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim().trim_matches(['"', '\'']);
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit());
    let value = value.trim();
    let inner = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)));
    is_name.then_some((name, inner.unwrap_or(value)))
}

/// The first `count` words joined by blanks, and what follows them.
fn take_words(line: &str, count: usize) -> Option<(String, &str)> {
    let mut rest = line;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        if word.is_empty() {
            return None;
        }
        words.push(word);
        rest = tail.trim_start();
    }
    Some((words.join(" "), rest))
}

/// The command as a shell takes it, and whether it has an input.
fn command_of(text: &str) -> (String, bool) {
    let mut parts = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let part = match (letter, letters.peek()) {
            ('\\', Some('%')) => {
                letters.next();
                '%'
            }
            ('%', _) => {
                parts.push(String::new());
                continue;
            }
            _ => letter,
        };
        if let Some(last) = parts.last_mut() {
            last.push(part);
        }
    }
    let mut parts = parts.into_iter();
    let command = parts.next().unwrap_or_default();
    let lines: Vec<String> = parts.collect();
    if lines.is_empty() {
        return (command, false);
    }
    let input = lines.join("\n");
    (format!("( {} ) <<'{INPUT_END}'\n{input}\n{INPUT_END}", command.trim_end()), true)
}

#[cfg(test)]
#[path = "crontab_tests.rs"]
mod tests;

//! A timer of systemd and the service it starts.
//!
//! | there | here |
//! | --- | --- |
//! | `OnCalendar` | a cron expression of six fields, a schedule for each |
//! | `OnUnitActiveSec` | an interval: on a grid, where systemd counts from the last start |
//! | `Persistent=true` | misfire `coalesce` within 31 days, else `skip` |
//! | `RandomizedDelaySec` | `jitterMs` |
//! | `ExecStart` | the command with its arguments; several become one shell line |
//! | `User`, `WorkingDirectory` | `runAs`, `cwd` |
//! | `Environment`, `TimeoutStartSec` | `env`, `timeoutMs` |
//!
//! systemd starts no unit that still runs, so overlap is `skip`.

use serde_json::{Map, Value, json};

use super::span::{parse_calendar, parse_span};
use super::unit::{Unit, words};
use super::{Carried, CarryContext, Report, plain_policies};

const WINDOW_MS: u64 = 31 * 86_400_000;

const TIMER_KEYS: &[&str] = &[
    "OnCalendar",
    "OnUnitActiveSec",
    "OnBootSec",
    "OnStartupSec",
    "OnActiveSec",
    "OnUnitInactiveSec",
    "Persistent",
    "RandomizedDelaySec",
    "AccuracySec",
    "Unit",
];
const SERVICE_KEYS: &[&str] = &[
    "Type",
    "ExecStart",
    "User",
    "WorkingDirectory",
    "Environment",
    "TimeoutStartSec",
    "StandardOutput",
    "StandardError",
];

/// A timer with its service.
#[derive(Clone, Copy, Debug)]
pub struct TimerFiles<'a> {
    /// The timer's name without its suffix.
    pub name: &'a str,
    /// The text of the `.timer` file.
    pub timer: &'a str,
    /// The text of the `.service` file it starts.
    pub service: &'a str,
}

/// Reads a timer.
#[must_use]
pub fn read_timer(files: TimerFiles<'_>, context: &CarryContext) -> Report {
    let mut report = Report::default();
    let place = format!("{}.timer", files.name);
    let (timer, service) = (Unit::read(files.timer), Unit::read(files.service));
    let mut notes = Vec::new();
    let mut body = match task(&service, &mut notes) {
        Ok(body) => body,
        Err(reason) => {
            report.leave_out(&format!("{}.service", files.name), "ExecStart", reason);
            return report;
        }
    };
    let text = timer.last("Unit", "Description").or(service.last("Unit", "Description"));
    if let Some(text) = text {
        body.insert("description".to_owned(), json!(text));
    }
    body.insert("name".to_owned(), json!(format!("{}{}", context.prefix, files.name)));
    policies(&timer, &mut body);
    for (section, unit, known) in
        [("Timer", &timer, TIMER_KEYS), ("Service", &service, SERVICE_KEYS)]
    {
        let others = unit.others(section, known);
        if !others.is_empty() {
            notes.push(format!("not carried over from [{section}]: {}", others.join(", ")));
        }
    }
    let mut plans = Vec::new();
    for text in timer.all("Timer", "OnCalendar") {
        match parse_calendar(text) {
            Ok((cron, zone)) => {
                let zone = zone.unwrap_or_else(|| context.zone.clone());
                plans.push(("cron", json!({ "cron": cron, "timezone": zone })));
            }
            Err(reason) => report.leave_out(&place, &format!("OnCalendar={text}"), reason),
        }
    }
    for text in timer.all("Timer", "OnUnitActiveSec") {
        match parse_span(text) {
            Some(span) => {
                notes.push(
                    "OnUnitActiveSec: here it runs on a fixed grid, not counted from the last start"
                        .to_owned(),
                );
                plans.push(("interval", json!({ "intervalMs": span })));
            }
            None => {
                let text = format!("OnUnitActiveSec={text}");
                report.leave_out(&place, &text, "it is no span of fixed length");
            }
        }
    }
    for key in ["OnBootSec", "OnStartupSec", "OnActiveSec", "OnUnitInactiveSec"] {
        for text in timer.all("Timer", key) {
            let reason = "nothing here counts from the start of a machine or the end of a run";
            report.leave_out(&place, &format!("{key}={text}"), reason);
        }
    }
    for (kind, config) in plans {
        let mut body = body.clone();
        body.insert("scheduleType".to_owned(), json!(kind));
        body.insert("scheduleConfig".to_owned(), config);
        let body = Value::Object(body);
        report.carried.push(Carried { place: place.clone(), body, notes: notes.clone() });
    }
    report.number_names();
    report
}

fn policies(timer: &Unit, body: &mut Map<String, Value>) {
    let own_timeout = body.remove("timeoutMs");
    plain_policies(body);
    if let Some(timeout) = own_timeout {
        body.insert("timeoutMs".to_owned(), timeout);
    }
    body.insert("overlapPolicy".to_owned(), json!("skip"));
    body.insert("tags".to_owned(), json!(["systemd"]));
    if timer.is_set("Timer", "Persistent") {
        body.insert("misfirePolicy".to_owned(), json!("coalesce"));
        body.insert("catchupWindowMs".to_owned(), json!(WINDOW_MS));
    }
    let jitter = timer.last("Timer", "RandomizedDelaySec").and_then(parse_span);
    if let Some(jitter) = jitter.filter(|jitter| *jitter > 0) {
        body.insert("jitterMs".to_owned(), json!(jitter.min(3_600_000)));
    }
}

/// The task of a service.
fn task(service: &Unit, notes: &mut Vec<String>) -> Result<Map<String, Value>, String> {
    let mut commands = Vec::new();
    for line in service.all("Service", "ExecStart") {
        commands.push(command(line, notes)?);
    }
    let mut config = Map::new();
    match commands.as_slice() {
        [] => return Err("the service has no ExecStart".to_owned()),
        [only] => {
            let mut words = only.iter();
            config.insert("command".to_owned(), json!(words.next()));
            config.insert("args".to_owned(), json!(words.collect::<Vec<_>>()));
        }
        several => {
            let lines: Vec<String> = several
                .iter()
                .map(|words| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
                .collect();
            config.insert("command".to_owned(), json!(lines.join(" && ")));
        }
    }
    let mut variables = Map::new();
    for line in service.all("Service", "Environment") {
        for pair in words(line).ok_or("a quote in Environment is not closed")? {
            if let Some((name, value)) = pair.split_once('=') {
                variables.insert(name.to_owned(), json!(value));
            }
        }
    }
    if !variables.is_empty() {
        config.insert("env".to_owned(), Value::Object(variables));
    }
    if let Some(directory) = service.last("Service", "WorkingDirectory") {
        config.insert("cwd".to_owned(), json!(directory.trim_start_matches('-')));
    }
    let mut body = Map::new();
    body.insert("taskType".to_owned(), json!("shell_command"));
    body.insert("taskConfig".to_owned(), Value::Object(config));
    if let Some(user) = service.last("Service", "User") {
        body.insert("runAs".to_owned(), json!(user));
    }
    let timeout = service.last("Service", "TimeoutStartSec").and_then(parse_span);
    if let Some(timeout) = timeout.filter(|timeout| *timeout > 0) {
        body.insert("timeoutMs".to_owned(), json!(timeout));
    }
    Ok(body)
}

/// The words of an `ExecStart`.
fn command(line: &str, notes: &mut Vec<String>) -> Result<Vec<String>, String> {
    let plain = line.trim_start_matches(['-', '@', '+', '!', ':', '|']);
    let marks = line.get(..line.len() - plain.len()).unwrap_or("");
    if marks.contains('@') {
        return Err("`@` in ExecStart gives the program another name; name it as it is".to_owned());
    }
    if marks.contains('-') {
        notes.push("`-` in ExecStart: here a failing command fails the execution".to_owned());
    }
    let words = words(plain).filter(|words| !words.is_empty());
    let words = words.ok_or("ExecStart is empty or a quote in it is not closed")?;
    let has_specifier = |word: &String| word.replace("%%", "").contains('%') || word.contains("${");
    if let Some(word) = words.iter().find(|word| has_specifier(word)) {
        return Err(format!("`{word}` is filled in by systemd; write what it stands for"));
    }
    Ok(words.into_iter().map(|word| word.replace("%%", "%")).collect())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> CarryContext {
        CarryContext { zone: "UTC".to_owned(), has_users: false, prefix: "sd-".to_owned() }
    }

    const SERVICE: &str = "[Unit]\nDescription=Backs up\n[Service]\nType=oneshot\nUser=backup\n\
        Environment=\"TARGET=/srv/my backups\" LEVEL=3\nExecStart=/opt/backup --to '/srv/my backups'\n\
        Nice=10\nTimeoutStartSec=2h\n";

    #[test]
    fn a_timer_and_its_service_become_a_schedule() {
        let timer =
            "[Timer]\nOnCalendar=Mon..Fri 02:30\nPersistent=true\nRandomizedDelaySec=5min\n";
        let files = TimerFiles { name: "backup", timer, service: SERVICE };
        let report = read_timer(files, &context());
        assert_eq!(report.left_out, []);
        let [one] = report.carried.as_slice() else { panic!("{report:?}") };
        let expected = json!({
            "name": "sd-backup", "description": "Backs up", "taskType": "shell_command",
            "taskConfig": {
                "command": "/opt/backup", "args": ["--to", "/srv/my backups"],
                "env": {"TARGET": "/srv/my backups", "LEVEL": "3"},
            },
            "runAs": "backup", "scheduleType": "cron",
            "scheduleConfig": {"cron": "0 30 2 * * MON-FRI", "timezone": "UTC"},
            "overlapPolicy": "skip", "misfirePolicy": "coalesce", "catchupWindowMs": WINDOW_MS,
            "retryPolicy": {"maxAttempts": 1}, "timeoutMs": 7_200_000, "tags": ["systemd"],
            "jitterMs": 300_000,
        });
        assert_eq!(one.body, expected);
        assert_eq!(one.notes, ["not carried over from [Service]: Nice"]);
    }

    #[test]
    fn each_calendar_is_a_schedule_and_the_rest_is_told() {
        let timer = "[Timer]\nOnCalendar=daily\nOnCalendar=*:0/10\nOnCalendar=Mon *-*-13\n\
                     OnBootSec=5min\nOnUnitActiveSec=90s\n";
        let files =
            TimerFiles { name: "sweep", timer, service: "[Service]\nExecStart=-/bin/true\n" };
        let report = read_timer(files, &context());
        let plans: Vec<_> =
            report.carried.iter().map(|one| one.body["scheduleConfig"].clone()).collect();
        assert_eq!(plans[1]["cron"], "0 0-59/10 * * * *");
        assert_eq!(plans[2], json!({"intervalMs": 90_000}));
        assert_eq!(report.carried[2].body["name"], "sd-sweep-3");
        let left: Vec<_> = report.left_out.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(left, ["OnCalendar=Mon *-*-13", "OnBootSec=5min"]);
    }

    #[test]
    fn several_commands_become_one_line_and_what_systemd_fills_in_is_refused() {
        let service = "[Service]\nExecStart=/bin/a 'x y'\nExecStart=/bin/b\n";
        let files = TimerFiles { name: "two", timer: "[Timer]\nOnCalendar=daily\n", service };
        let report = read_timer(files, &context());
        assert_eq!(report.carried[0].body["taskConfig"]["command"], "/bin/a 'x y' && /bin/b");
        for line in ["/bin/a %n", "/bin/a ${HOME}", "@/bin/a b", "\"open", ""] {
            let service = format!("[Service]\nExecStart={line}\n");
            let files = TimerFiles { name: "x", timer: "[Timer]\n", service: &service };
            assert_eq!(read_timer(files, &context()).left_out.len(), 1, "{line}");
        }
    }
}

//! What is told of alerts: one document, and how it reads in a chat and in a mail.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::plan::MessageKind;
use super::{Alert, AlertState, Sample};
use crate::domain::Timestamp;
use crate::domain::event::instant_text;
use crate::domain::execution::Severity;

/// Alerts of a message from which on only one sample of each is told.
const BRIEF_FROM: usize = 10;
/// Alerts that a chat message spells out; of the others it gives the number.
const CHAT_ALERTS_MAX: usize = 20;
/// Bytes of a chat message at most.
const CHAT_BYTES_MAX: usize = 2_900;

/// Seconds before the second attempt, and the most between two.
const RETRY_FIRST_SECONDS: i64 = 5;
const RETRY_MOST_SECONDS: i64 = 60 * 60;
/// Hours after which a message is given up.
const RETRY_HOURS: i64 = 24;

/// A message, as a webhook gets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Why it is sent.
    #[serde(rename = "type")]
    pub kind: MessageKind,
    /// When it was made.
    pub timestamp: String,
    /// What it tells.
    pub data: NoticeData,
}

/// What a message tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoticeData {
    /// The rule's name; none when a person tries a channel.
    pub rule: Option<String>,
    /// The alerts.
    pub alerts: Vec<NoticeAlert>,
}

/// An alert as it is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NoticeAlert {
    /// Its id.
    pub id: i64,
    /// Where it stands.
    pub state: AlertState,
    /// The worst that was seen.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// Its group.
    pub group: String,
    /// Sightings.
    pub count: i64,
    /// The first.
    pub first_at: String,
    /// The last.
    pub last_at: String,
    /// When it was over.
    pub cleared_at: Option<String>,
    /// Its schedule.
    pub schedule_id: Option<i64>,
    /// That schedule's name.
    pub schedule_name: Option<String>,
    /// The newest sightings.
    pub samples: Vec<Sample>,
}

impl Notice {
    /// What is told of these alerts of a rule.
    #[must_use]
    pub fn of(kind: MessageKind, rule: &str, alerts: &[&Alert], now: Timestamp) -> Self {
        let samples = if alerts.len() < BRIEF_FROM { usize::MAX } else { 1 };
        let told = alerts.iter().map(|alert| NoticeAlert {
            id: alert.id,
            state: alert.state,
            severity: alert.severity,
            title: alert.title.clone(),
            group: alert.group_key.clone(),
            count: alert.count,
            first_at: instant_text(alert.first_at),
            last_at: instant_text(alert.last_at),
            cleared_at: alert.cleared_at.map(instant_text),
            schedule_id: alert.schedule_id,
            schedule_name: alert.schedule_name.clone(),
            samples: alert.samples.iter().rev().take(samples).cloned().collect(),
        });
        Self {
            kind,
            timestamp: instant_text(now),
            data: NoticeData { rule: Some(rule.to_owned()), alerts: told.collect() },
        }
    }

    /// What is sent when a person tries a channel.
    #[must_use]
    pub fn test(now: Timestamp) -> Self {
        let data = NoticeData { rule: None, alerts: Vec::new() };
        Self { kind: MessageKind::Test, timestamp: instant_text(now), data }
    }

    /// One line for a person.
    #[must_use]
    pub fn headline(&self) -> String {
        let rule = self.data.rule.as_deref().unwrap_or_default();
        match (self.kind, self.data.alerts.as_slice()) {
            (MessageKind::Test, _) => "Carillon: this channel works".to_owned(),
            (kind, [only]) => {
                let again = if kind == MessageKind::Repeated { "still " } else { "" };
                format!("[{again}{}] {}", only.severity, only.title)
            }
            (_, several) => {
                let worst = several.iter().map(|alert| alert.severity).max();
                let worst = worst.unwrap_or(Severity::Medium);
                format!("[{worst}] {} alerts of {rule} from quiet hours", several.len())
            }
        }
    }

    /// The message in words, without marks.
    #[must_use]
    pub fn plain(&self) -> String {
        let mut text = self.headline();
        for alert in &self.data.alerts {
            text.push_str(&format!(
                "\n\n{} ({}, {} seen, last {})",
                alert.title,
                if alert.cleared_at.is_some() { "over by now" } else { alert.state.as_str() },
                alert.count,
                alert.last_at
            ));
            for sample in &alert.samples {
                text.push_str(&format!("\n- {} {}: {}", sample.at, sample.kind, sample.message));
            }
        }
        if let Some(rule) = &self.data.rule {
            text.push_str(&format!("\n\nRule: {rule}"));
        }
        text.push('\n');
        text
    }

    /// The body for an incoming webhook of Slack.
    #[must_use]
    pub fn slack(&self) -> Value {
        let mut text = format!("*{}*", escaped(&self.headline()));
        for alert in self.data.alerts.iter().take(CHAT_ALERTS_MAX) {
            let last = alert.samples.first();
            let over = if alert.cleared_at.is_some() { ", over by now" } else { "" };
            let line = format!(
                "\n• {} ({}, {} seen{over}){}",
                escaped(&alert.title),
                alert.severity,
                alert.count,
                last.map(|one| format!(" last: {} at {}", one.kind, one.at)).unwrap_or_default()
            );
            if text.len() + line.len() > CHAT_BYTES_MAX {
                break;
            }
            text.push_str(&line);
        }
        let told = text.matches("\n• ").count();
        if told < self.data.alerts.len() {
            text.push_str(&format!("\n… and {} more", self.data.alerts.len() - told));
        }
        json!({
            "text": escaped(&self.headline()),
            "blocks": [{ "type": "section", "text": { "type": "mrkdwn", "text": text } }],
        })
    }
}

/// When to try again after the attempt with this number failed; `None` gives up, a day after the
/// message was made. Doubling from five seconds up to an hour.
#[must_use]
pub fn next_attempt(created_at: Timestamp, attempt: i32, now: Timestamp) -> Option<Timestamp> {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(0).min(16);
    let wait = (RETRY_FIRST_SECONDS << doublings).min(RETRY_MOST_SECONDS);
    let next = now + TimeDelta::seconds(wait);
    (next - created_at <= TimeDelta::hours(RETRY_HOURS)).then_some(next)
}

/// Without what Slack takes for marks of its own (a mention, a link).
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(count: i64) -> Notice {
        let alert = |id| NoticeAlert {
            id,
            state: AlertState::Firing,
            severity: Severity::High,
            title: format!("nightly {id}: <!channel> exit code 1"),
            group: "schedule:4".to_owned(),
            count: 3,
            first_at: "2026-11-21T02:00:00.000Z".to_owned(),
            last_at: "2026-11-21T02:00:00.000Z".to_owned(),
            cleared_at: None,
            schedule_id: Some(4),
            schedule_name: Some("nightly".to_owned()),
            samples: Vec::new(),
        };
        Notice {
            kind: if count > 1 { MessageKind::Digest } else { MessageKind::Raised },
            timestamp: "2026-11-21T02:00:05.000Z".to_owned(),
            data: NoticeData {
                rule: Some("night".into()),
                alerts: (1..=count).map(alert).collect(),
            },
        }
    }

    #[test]
    fn nothing_in_a_message_is_taken_for_a_mention() {
        let body = notice(1).slack();
        assert_eq!(body["text"], "[high] nightly 1: &lt;!channel&gt; exit code 1");
        assert!(!body.to_string().contains("<!channel>"));
    }

    #[test]
    fn attempts_go_on_for_a_day_ever_less_often() {
        let made = Timestamp::UNIX_EPOCH;
        let (mut now, mut attempts, mut waits) = (made, 1, Vec::new());
        while let Some(next) = next_attempt(made, attempts, now) {
            waits.push((next - now).num_seconds());
            (now, attempts) = (next, attempts + 1);
        }
        assert_eq!(waits[..4], [5, 10, 20, 40]);
        assert!(waits.is_sorted() && waits.last() == Some(&3_600));
        assert!(now - made > TimeDelta::hours(22) && now - made <= TimeDelta::hours(24));
    }

    #[test]
    fn a_long_digest_gives_the_number_of_what_it_leaves_out() {
        let body = notice(200).slack();
        let text = body["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(text.len() < 3_000, "{}", text.len());
        assert!(text.ends_with(" more"), "{text}");
        assert_eq!(body["text"], "[high] 200 alerts of night from quiet hours");
    }
}

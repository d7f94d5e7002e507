//! What every store operation is made of, whatever the back end.

use crate::store::{StoreError, Topic};

/// Why an operation's work ended early: by a rule of the contract, or by the database.
#[derive(Debug)]
pub(crate) enum OpError {
    /// A rule: given to the caller as it is.
    Rule(StoreError),
    /// The database: each back end maps it at its one site.
    Database(diesel::result::Error),
}

/// What an operation's work gives.
pub(crate) type OpResult<T> = Result<T, OpError>;

impl From<StoreError> for OpError {
    fn from(error: StoreError) -> Self {
        Self::Rule(error)
    }
}

impl From<diesel::result::Error> for OpError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error)
    }
}

/// `NotFound` in one word.
pub(crate) fn not_found(what: &'static str, id: impl ToString) -> OpError {
    OpError::Rule(StoreError::NotFound { what, id: id.to_string() })
}

/// `WrongState` in one word.
pub(crate) fn wrong_state(code: &'static str, detail: impl Into<String>) -> OpError {
    OpError::Rule(StoreError::WrongState { code, detail: detail.into() })
}

/// A stored value that no code of ours wrote.
pub(crate) fn corrupt(what: &str, value: &str) -> OpError {
    OpError::Rule(StoreError::Internal(format!("`{value}` is not a known {what}")))
}

/// A set of topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicSet(u8);

impl TopicSet {
    /// Every topic with its letter, as it travels in a notification.
    pub(crate) const LETTERS: [(Topic, char); 8] = [
        (Topic::Schedules, 'S'),
        (Topic::Pending, 'P'),
        (Topic::Cancels, 'C'),
        (Topic::Retries, 'R'),
        (Topic::Events, 'E'),
        (Topic::State, 'Y'),
        (Topic::Gated, 'G'),
        (Topic::Inbox, 'I'),
    ];

    /// All of them.
    pub(crate) const ALL: Self = Self(0b1111_1111);

    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) const fn insert(&mut self, topic: Topic) {
        self.0 |= 1 << topic as u8;
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn contains(self, topic: Topic) -> bool {
        self.0 & (1 << topic as u8) != 0
    }

    pub(crate) fn letters(self) -> String {
        Self::LETTERS
            .iter()
            .filter(|(topic, _)| self.contains(*topic))
            .map(|(_, letter)| *letter)
            .collect()
    }

    pub(crate) fn of_letters(text: &str) -> Self {
        let mut set = Self::default();
        for (topic, letter) in Self::LETTERS {
            if text.contains(letter) {
                set.insert(topic);
            }
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_survives_the_journey_as_a_letter() {
        assert_eq!(TopicSet::of_letters(&TopicSet::ALL.letters()), TopicSet::ALL);
        for (topic, letter) in TopicSet::LETTERS {
            let set = TopicSet::of_letters(&letter.to_string());
            assert!(set.contains(topic));
            assert_eq!(set.bits().count_ones(), 1);
        }
    }
}

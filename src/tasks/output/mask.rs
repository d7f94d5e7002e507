//! Masks secrets in a stream, before anything is cut, split, kept or shown.
//!
//! What counts as a secret: the values of declared variables whose name contains one of
//! [`SECRET_NAMES`], the password in a URL that any declared variable holds, and what the server
//! itself was configured with. Of a value of several lines each longer line counts too. Values of
//! fewer than [`SECRET_BYTES_MIN`] bytes are not masked: they are everywhere.
//!
//! The end of a read that may be the beginning of a secret is held back until it is known, so a
//! secret that straddles two reads is masked like any other. Not masked: a secret that the task
//! changed (encoded, reversed, spelled out).

use std::borrow::Cow;
use std::sync::Arc;

/// Parts of the names (whatever the case) of variables whose values are secrets.
pub(super) const SECRET_NAMES: [&str; 7] =
    ["TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "CREDENTIAL", "KEY"];
/// Shorter values are not masked.
pub(super) const SECRET_BYTES_MIN: usize = 4;
/// Shorter lines of a value of several lines are not masked by themselves.
const LINE_BYTES_MIN: usize = 8;
/// What stands for a secret.
const MASK: &[u8] = b"***";
/// Values that say nothing.
const WORDS: [&str; 4] = ["true", "false", "null", "none"];

/// The secrets of one task.
pub(in crate::tasks) struct Secrets {
    /// Longest first.
    needles: Vec<Vec<u8>>,
    /// Whether a secret begins with this byte.
    begins: [bool; 256],
}

impl Secrets {
    /// Those of a task with these variables, and of the server.
    pub(in crate::tasks) fn of(variables: &[(String, String)], own: &[String]) -> Self {
        let mut needles: Vec<Vec<u8>> = Vec::new();
        let mut add = |value: &str, least: usize| {
            if value.len() >= least && !WORDS.contains(&value) {
                needles.push(value.as_bytes().to_vec());
            }
        };
        let named =
            variables.iter().filter(|(name, _)| is_secret_name(name)).map(|(_, value)| value);
        for value in named.chain(own) {
            add(value.trim_end_matches('\n'), SECRET_BYTES_MIN);
            if value.contains('\n') {
                value.lines().for_each(|line| add(line.trim(), LINE_BYTES_MIN));
            }
        }
        for password in variables.iter().filter_map(|(_, value)| password_of(value)) {
            add(password, SECRET_BYTES_MIN);
        }
        needles.sort_unstable_by(|left, right| {
            right.len().cmp(&left.len()).then_with(|| left.cmp(right))
        });
        needles.dedup();
        let mut begins = [false; 256];
        for first in needles.iter().filter_map(|needle| needle.first()) {
            if let Some(begins) = begins.get_mut(usize::from(*first)) {
                *begins = true;
            }
        }
        Self { needles, begins }
    }

    fn may_begin(&self, byte: u8) -> bool {
        self.begins.get(usize::from(byte)).copied().unwrap_or(false)
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// The password in `scheme://user:password@host`.
fn password_of(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

/// Masks one stream.
pub(in crate::tasks) struct Masker {
    secrets: Arc<Secrets>,
    /// The end of what was read, which may be the beginning of a secret.
    held: Vec<u8>,
}

impl Masker {
    pub(in crate::tasks) const fn new(secrets: Arc<Secrets>) -> Self {
        Self { secrets, held: Vec::new() }
    }

    /// Takes bytes and gives what may be shown.
    pub(in crate::tasks) fn push<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if self.secrets.needles.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut data = std::mem::take(&mut self.held);
        data.extend_from_slice(bytes);
        let (shown, from) = self.scan(&data, false);
        self.held = data.get(from..).unwrap_or_default().to_vec();
        Cow::Owned(shown)
    }

    /// What is left at the end of the stream. The beginning of a secret is masked too: a task that
    /// was stopped may have been about to write the rest.
    pub(in crate::tasks) fn finish(&mut self) -> Vec<u8> {
        let data = std::mem::take(&mut self.held);
        self.scan(&data, true).0
    }

    /// The masked text, and from where on bytes must be held back.
    fn scan(&self, data: &[u8], is_last: bool) -> (Vec<u8>, usize) {
        let mut shown = Vec::with_capacity(data.len());
        let (mut place, mut copied) = (0, 0);
        while let Some(byte) = data.get(place) {
            let rest = data.get(place..).unwrap_or_default();
            if !self.secrets.may_begin(*byte) {
                place += 1;
                continue;
            }
            let found = self.secrets.needles.iter().find_map(|needle| {
                if rest.starts_with(needle) {
                    return Some(Found::Whole(needle.len()));
                }
                needle.starts_with(rest).then_some(Found::Beginning)
            });
            let length = match found {
                None => {
                    place += 1;
                    continue;
                }
                Some(Found::Beginning) if !is_last => {
                    shown.extend_from_slice(data.get(copied..place).unwrap_or_default());
                    return (shown, place);
                }
                Some(Found::Beginning) => match self.whole_at(rest) {
                    Some(length) => length,
                    None if rest.len() >= SECRET_BYTES_MIN => rest.len(),
                    None => {
                        place += 1;
                        continue;
                    }
                },
                Some(Found::Whole(length)) => length,
            };
            shown.extend_from_slice(data.get(copied..place).unwrap_or_default());
            shown.extend_from_slice(MASK);
            place += length;
            copied = place;
        }
        shown.extend_from_slice(data.get(copied..).unwrap_or_default());
        (shown, data.len())
    }

    /// The longest secret that `rest` begins with.
    fn whole_at(&self, rest: &[u8]) -> Option<usize> {
        self.secrets.needles.iter().find(|needle| rest.starts_with(needle)).map(Vec::len)
    }
}

enum Found {
    /// A secret of that length.
    Whole(usize),
    /// All that is left may be the beginning of one.
    Beginning,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secrets(pairs: &[(&str, &str)]) -> Arc<Secrets> {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Arc::new(Secrets::of(&pairs, &["own-password".to_owned()]))
    }

    fn masked(secrets: &Arc<Secrets>, chunks: &[&[u8]]) -> String {
        let mut masker = Masker::new(Arc::clone(secrets));
        let mut shown = Vec::new();
        for chunk in chunks {
            shown.extend_from_slice(&masker.push(chunk));
        }
        shown.extend(masker.finish());
        String::from_utf8_lossy(&shown).into_owned()
    }

    #[test]
    fn secrets_are_known_by_the_names_of_their_variables() {
        let known = secrets(&[
            ("github_token", "ghp_123456"),
            ("PLAIN", "visible"),
            ("DATABASE", "postgres://joe:hunter2@db/shop"),
            ("USE_KEY", "true"),
            ("PIN_KEY", "123"),
            ("PEM_KEY", "-----BEGIN\nMIIEvQIBADANBg\n-----END\n"),
        ]);
        let text = b"ghp_123456 visible hunter2 true 123 own-password MIIEvQIBADANBg";
        assert_eq!(masked(&known, &[text]), "*** visible *** true 123 *** ***");
    }

    #[test]
    fn of_two_secrets_the_longer_is_masked_whole() {
        let known = secrets(&[("A_KEY", "abcd"), ("B_KEY", "abcdef")]);
        assert_eq!(masked(&known, &[b"abc", b"d", b"ef abcdx"]), "*** ***x");
        assert_eq!(masked(&known, &[b"abcd"]), "***");
    }

    #[test]
    fn the_beginning_of_a_secret_at_the_end_is_masked() {
        let known = secrets(&[("A_KEY", "0123456789")]);
        assert_eq!(masked(&known, &[b"x 01234"]), "x ***");
        assert_eq!(masked(&known, &[b"x 01"]), "x 01", "too little to tell anything");
    }

    proptest! {
        #[test]
        fn no_way_of_reading_lets_a_secret_through(
            text in "(ab|abc1|abc12|[abc12\n]){0,40}",
            cuts in prop::collection::vec(0_usize..120, 0..12),
        ) {
            let known = secrets(&[("A_TOKEN", "abc12"), ("B_TOKEN", "2abca")]);
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let shown = masked(&known, &chunks);
            prop_assert!(!shown.contains("abc12") && !shown.contains("2abca"), "{}", shown);
            prop_assert_eq!(shown, masked(&known, &[bytes]));
        }
    }
}

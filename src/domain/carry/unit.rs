//! A unit file of systemd, taken apart: sections, keys, the words of a command line.

/// What a unit file says, in order; a key may come more than once.
#[derive(Debug, Default)]
pub(super) struct Unit {
    entries: Vec<(String, String, String)>,
}

impl Unit {
    /// Reads a unit file: comments, continued lines, and an empty value that forgets the earlier
    /// ones of its key.
    pub(super) fn read(text: &str) -> Self {
        let mut unit = Self::default();
        let mut section = String::new();
        let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
        for line in joined.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = line.split_once('=') {
                let (key, value) = (key.trim(), value.trim());
                if value.is_empty() {
                    unit.entries.retain(|(of, name, _)| *of != section || name != key);
                } else {
                    unit.entries.push((section.clone(), key.to_owned(), value.to_owned()));
                }
            }
        }
        unit
    }

    /// Every value of a key.
    pub(super) fn all(&self, section: &str, key: &str) -> Vec<&str> {
        let of = self.entries.iter().filter(|(of, name, _)| of == section && name == key);
        of.map(|(_, _, value)| value.as_str()).collect()
    }

    /// The last value of a key, which counts.
    pub(super) fn last(&self, section: &str, key: &str) -> Option<&str> {
        self.all(section, key).last().copied()
    }

    /// Whether a key says yes.
    pub(super) fn is_set(&self, section: &str, key: &str) -> bool {
        let value = self.last(section, key).unwrap_or("");
        ["yes", "true", "on", "1"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
    }

    /// Keys of a section that are not among `known`, each once.
    pub(super) fn others(&self, section: &str, known: &[&str]) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for (of, name, _) in &self.entries {
            if of == section && !known.contains(&name.as_str()) && !found.contains(&name.as_str()) {
                found.push(name);
            }
        }
        found
    }
}

/// The words of a line, quotes taken off; `None` when a quote is not closed.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', held) if held != Some('\'') => {
                let next = letters.next()?;
                let plain = match next {
                    'n' => '\n',
                    't' => '\t',
                    's' => ' ',
                    other => other,
                };
                word.get_or_insert_default().push(plain);
            }
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, Some(open)) if letter == open => quote = None,
            (letter, None) if letter.is_whitespace() => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_value_forgets_the_earlier_ones() {
        let unit = Unit::read("[Timer]\nOnCalendar=daily\nOnCalendar=\nOnCalendar=weekly\n# no\n");
        assert_eq!(unit.all("Timer", "OnCalendar"), ["weekly"]);
        assert_eq!(unit.others("Timer", &[]), ["OnCalendar"]);
    }

    #[test]
    fn words_keep_what_is_quoted() {
        let found = words(r#"/bin/say "two words" 'a \ b' c\sd """#).unwrap();
        assert_eq!(found, ["/bin/say", "two words", r"a \ b", "c d", ""]);
        assert_eq!(words("\"open"), None);
    }
}

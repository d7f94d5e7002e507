//! UTF-8, checked as it arrives: a text message is refused at its first wrong byte, not when its
//! last frame has come.

/// How far the bytes of one message have been checked.
#[derive(Debug, Default)]
pub(super) struct Utf8Progress {
    checked: usize,
}

/// Bytes that no continuation can make UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotUtf8;

impl Utf8Progress {
    /// Checks what was added to `message` since the last call.
    pub(super) fn advance(&mut self, message: &[u8]) -> Result<(), NotUtf8> {
        let fresh = message.get(self.checked..).unwrap_or_default();
        match std::str::from_utf8(fresh) {
            Ok(_) => self.checked = message.len(),
            Err(error) if error.error_len().is_some() => return Err(NotUtf8),
            // A character that is cut here may be completed by what comes next.
            Err(error) => self.checked += error.valid_up_to(),
        }
        Ok(())
    }

    /// Whether the message may end here.
    pub(super) fn is_complete(&self, message: &[u8]) -> bool {
        self.checked == message.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(bytes: &[u8], cut: usize) -> bool {
        let mut progress = Utf8Progress::default();
        for end in (0..bytes.len()).step_by(cut).chain([bytes.len()]) {
            if progress.advance(&bytes[..end]).is_err() {
                return false;
            }
        }
        progress.is_complete(bytes)
    }

    #[test]
    fn a_surrogate_is_refused_before_its_last_byte() {
        let mut progress = Utf8Progress::default();
        assert_eq!(progress.advance(&[0xED]), Ok(()));
        assert_eq!(progress.advance(&[0xED, 0xA0]), Err(NotUtf8));
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..12), cut in 1_usize..5) {
            prop_assert_eq!(accepts(&bytes, cut), std::str::from_utf8(&bytes).is_ok());
        }

        #[test]
        fn text_is_accepted_however_it_is_cut(text in "\\PC{0,20}", cut in 1_usize..5) {
            prop_assert!(accepts(text.as_bytes(), cut));
        }
    }
}

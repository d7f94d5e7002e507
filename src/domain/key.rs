//! API keys and roles.
//!
//! A key is `car_<id>_<secret>`: eight letters or digits that name it, and 32 random bytes in
//! base64url. The store keeps the first part (`car_<id>`, the prefix, by which it is looked up)
//! and the SHA-256 of the secret part; 256 random bits need no slow hash. The whole key exists
//! only where it is made and where it is presented. Random bytes are passed in.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::text_enum;

/// What every key starts with, so that scanners for leaked secrets find it.
const MARK: &str = "car_";
const ID_LENGTH: usize = 8;
const ID_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const SECRET_LENGTH: usize = 43;
const SECRET_BYTES: usize = 32;

/// Random bytes that one key is made of.
pub const RANDOM_BYTES: usize = ID_LENGTH + SECRET_BYTES;

text_enum! {
    /// What a key may do; each role may do all that the ones before it may.
    pub enum Role {
        /// Reads.
        Viewer = "viewer",
        /// Also writes schedules, triggers, cancels, retries, resolves, pauses.
        Operator = "operator",
        /// Also what a shell will run, keys, and the admin plane.
        Admin = "admin",
    }
}

impl Role {
    /// Whether this role may do what asks for `needed`.
    #[must_use]
    pub fn allows(self, needed: Self) -> bool {
        self >= needed
    }
}

/// A text that is not an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an API key; one looks like car_ab12cd34_ and 43 more characters")]
pub struct MalformedKey;

/// A whole API key, secret part included. `Debug` shows the prefix alone.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    text: String,
}

impl ApiKey {
    /// Makes a key of [`RANDOM_BYTES`] bytes from a cryptographic source.
    #[must_use]
    pub fn from_random(bytes: &[u8; RANDOM_BYTES]) -> Self {
        let (id, secret) = bytes.split_at(ID_LENGTH);
        let mut text = String::with_capacity(MARK.len() + ID_LENGTH + 1 + SECRET_LENGTH);
        text.push_str(MARK);
        let letters = id.iter().filter_map(|byte| ID_ALPHABET.get(usize::from(byte % 32)));
        text.extend(letters.map(|letter| char::from(*letter)));
        text.push('_');
        URL_SAFE_NO_PAD.encode_string(secret, &mut text);
        Self { text }
    }

    /// Reads a key as a client presents it.
    ///
    /// # Errors
    /// [`MalformedKey`]; whether a well-formed key exists is the store's to say.
    pub fn parse(text: &str) -> Result<Self, MalformedKey> {
        let rest = text.strip_prefix(MARK).ok_or(MalformedKey)?;
        let (id, secret) = rest.split_at_checked(ID_LENGTH).ok_or(MalformedKey)?;
        let secret = secret.strip_prefix('_').ok_or(MalformedKey)?;
        let is_id = id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let bytes = URL_SAFE_NO_PAD.decode(secret).ok().ok_or(MalformedKey)?;
        if is_id && bytes.len() == SECRET_BYTES {
            Ok(Self { text: text.to_owned() })
        } else {
            Err(MalformedKey)
        }
    }

    /// The public first part, `car_<id>`, by which the store finds the key.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.text.split_at_checked(MARK.len() + ID_LENGTH).map_or("", |(prefix, _)| prefix)
    }

    /// The SHA-256 of the secret part in lower-case hex, as the store keeps it.
    #[must_use]
    pub fn secret_hash(&self) -> String {
        let secret = self.text.get(MARK.len() + ID_LENGTH + 1..).unwrap_or_default();
        Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a stored hash is this key's, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, stored_hash: &str) -> bool {
        self.secret_hash().as_bytes().ct_eq(stored_hash.as_bytes()).into()
    }

    /// The whole key, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_***", self.prefix())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> ApiKey {
        ApiKey::from_random(&[7; RANDOM_BYTES])
    }

    #[test]
    fn a_key_has_the_documented_form() {
        let key = key();
        assert_eq!(key.reveal().len(), 56);
        assert!(key.reveal().starts_with("car_hhhhhhhh_"));
        assert_eq!(key.prefix(), "car_hhhhhhhh");
        assert_eq!(key.secret_hash().len(), 64);
    }

    #[test]
    fn the_hash_is_of_the_secret_part_alone() {
        let text = "car_ab12cd34_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let hash = "0f007385b6f9d4b7eeb2748605afe1a984a0a3bfa3f014d09e2a784ce9e5cd1a";
        let other = text.replace("ab12cd34", "zz99zz99");
        let key = ApiKey::parse(text).unwrap();
        assert_eq!(key.secret_hash(), ApiKey::parse(&other).unwrap().secret_hash());
        assert!(key.matches(hash));
        assert!(!key.matches(&hash.to_uppercase()) && !key.matches(""));
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let key = key();
        let good = key.reveal();
        for text in ["", "car_", "bearer", &good[1..], &good[..55], &format!("{good}A")] {
            assert_eq!(ApiKey::parse(text), Err(MalformedKey), "{text}");
        }
        assert!(ApiKey::parse(&good.replace("hhhhhhhh", "HHHHHHHH")).is_err());
        assert!(ApiKey::parse(&good.replace("hhhhhhhh", "hhh\u{e9}hhh")).is_err());
    }

    #[test]
    fn a_key_does_not_show_itself_in_logs() {
        assert_eq!(format!("{:?}", key()), "car_hhhhhhhh_***");
    }

    #[test]
    fn each_role_may_do_what_the_ones_before_it_may() {
        for (rank, role) in Role::ALL.iter().enumerate() {
            for (needed_rank, needed) in Role::ALL.iter().enumerate() {
                assert_eq!(role.allows(*needed), rank >= needed_rank);
            }
        }
    }

    proptest! {
        #[test]
        fn a_made_key_is_read_back(id in any::<[u8; 8]>(), secret in any::<[u8; 32]>()) {
            let mut bytes = [0; RANDOM_BYTES];
            bytes[..8].copy_from_slice(&id);
            bytes[8..].copy_from_slice(&secret);
            let key = ApiKey::from_random(&bytes);
            prop_assert_eq!(ApiKey::parse(key.reveal()), Ok(key));
        }

        #[test]
        fn no_text_breaks_the_parser(text in "(car_)?.{0,60}") {
            let _ = ApiKey::parse(&text);
        }
    }
}

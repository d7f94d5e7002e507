//! Known vectors of the schemes, and what is refused.

use super::*;

/// The vector of the Standard Webhooks libraries.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const STAMP: i64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn secret(text: &str) -> WebhookSecret {
    let created_at = DateTime::from_timestamp(STAMP - 1_000, 0).unwrap();
    WebhookSecret { text: text.to_owned(), created_at, expires_at: None }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn check(
    scheme: Scheme,
    secrets: &[WebhookSecret],
    headers: &[(&str, &str)],
    body: &[u8],
    now: i64,
) -> Result<Option<String>, Refusal> {
    let header = |name: &str| {
        headers.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    verify(scheme, secrets, SignedRequest { header: &header, body }, at(now))
}

fn standard(signature: &str, body: &[u8], now: i64) -> Result<Option<String>, Refusal> {
    let stamp = STAMP.to_string();
    let headers =
        [("webhook-id", ID), ("webhook-timestamp", &stamp), ("webhook-signature", signature)];
    check(Scheme::Standard, &[secret(SECRET)], &headers, body, now)
}

#[test]
fn the_known_vector_of_standard_webhooks_is_accepted() {
    assert_eq!(standard(SIGNATURE, BODY, STAMP), Ok(Some(ID.to_owned())));
    let several = format!("v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,x {SIGNATURE}");
    assert_eq!(standard(&several, BODY, STAMP), Ok(Some(ID.to_owned())));
}

#[test]
fn a_changed_body_or_an_old_time_is_refused() {
    assert_eq!(standard(SIGNATURE, b"{}", STAMP), Err(Refusal::BadSignature));
    assert_eq!(standard("v1,AAAA", BODY, STAMP), Err(Refusal::BadSignature));
    assert_eq!(standard("", BODY, STAMP), Err(Refusal::BadSignature));
    for (offset, expected) in [(300, true), (-300, true), (301, false), (-301, false)] {
        assert_eq!(standard(SIGNATURE, BODY, STAMP + offset).is_ok(), expected, "{offset}");
    }
    let no_time = [("webhook-id", ID), ("webhook-signature", SIGNATURE)];
    let found = check(Scheme::Standard, &[secret(SECRET)], &no_time, BODY, STAMP);
    assert_eq!(found, Err(Refusal::Malformed));
}

/// The example of GitHub's documentation.
#[test]
fn the_known_vector_of_github_is_accepted() {
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let headers = [("x-hub-signature-256", signature), ("x-github-delivery", "72d3162e")];
    let secrets = [secret("It's a Secret to Everybody")];
    let found = check(Scheme::Github, &secrets, &headers, b"Hello, World!", STAMP);
    assert_eq!(found, Ok(Some("72d3162e".to_owned())));
    let changed = check(Scheme::Github, &secrets, &headers, b"Hello, World?", STAMP);
    assert_eq!(changed, Err(Refusal::BadSignature));
    let no_id = check(Scheme::Github, &secrets, &headers[..1], b"Hello, World!", STAMP);
    assert_eq!(no_id, Err(Refusal::Malformed));
    let other = [("x-hub-signature-256", "sha1=00"), ("x-github-delivery", "72d3162e")];
    let found = check(Scheme::Github, &secrets, &other, b"Hello, World!", STAMP);
    assert_eq!(found, Err(Refusal::Malformed));
}

#[test]
fn a_token_is_known_by_its_hash() {
    let stored = stored_form(Scheme::Token, "a-long-enough-token");
    assert!(!stored.contains("token"));
    let secrets = [secret(&stored)];
    let good = [("x-carillon-token", "a-long-enough-token"), ("webhook-id", "7")];
    assert_eq!(check(Scheme::Token, &secrets, &good, b"", 0), Ok(Some("7".to_owned())));
    assert_eq!(check(Scheme::Token, &secrets, &good[..1], b"", 0), Ok(None));
    let bad = [("x-carillon-token", "another")];
    assert_eq!(check(Scheme::Token, &secrets, &bad, b"", 0), Err(Refusal::BadSignature));
    assert_eq!(check(Scheme::Token, &[], &good, b"", 0), Err(Refusal::BadSignature));
}

#[test]
fn an_old_secret_works_until_its_end() {
    let old = WebhookSecret { expires_at: Some(at(STAMP + 10)), ..secret(SECRET) };
    let fresh = make_secret(Scheme::Standard, &[7; SECRET_BYTES]);
    let stamp = STAMP.to_string();
    let headers =
        [("webhook-id", ID), ("webhook-timestamp", &stamp), ("webhook-signature", SIGNATURE)];
    let secrets = [secret(&fresh), old];
    assert!(check(Scheme::Standard, &secrets, &headers, BODY, STAMP + 9).is_ok());
    assert!(check(Scheme::Standard, &secrets, &headers, BODY, STAMP + 10).is_err());
}

#[test]
fn what_is_made_can_be_given_and_what_is_weak_cannot() {
    for scheme in Scheme::ALL {
        let made = make_secret(*scheme, &[9; SECRET_BYTES]);
        assert_eq!(check_secret(*scheme, &made), Ok(()), "{scheme}");
        assert!(check_secret(*scheme, "short").is_err(), "{scheme}");
        assert!(check_secret(*scheme, "a secret with spaces in it").is_err(), "{scheme}");
    }
    assert!(!format!("{:?}", secret(SECRET)).contains("MfKQ"));
}

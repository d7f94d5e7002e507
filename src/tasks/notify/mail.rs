//! Mail: one message over SMTP to an address that the egress policy judged.

use std::net::SocketAddr;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::{ATTEMPT_LIMIT, NotifyError};
use crate::domain::alert::channel::{ChannelSpec, SmtpTls};
use crate::domain::alert::message::Notice;
use crate::tasks::http::Outbound;

/// Characters of a subject at most.
const SUBJECT_MAX: usize = 200;

/// Sends the mail of a message; its `Message-ID` is made of `webhook_id`, so that a receiver can
/// tell a message that came twice.
pub(super) async fn send(
    outbound: &Outbound,
    spec: &ChannelSpec,
    webhook_id: &str,
    notice: &Notice,
) -> Result<Option<i32>, NotifyError> {
    let ChannelSpec::Smtp { host, port, tls, user, password, from, to } = spec else {
        return Err(NotifyError::new(None, "this is no mail channel"));
    };
    let mail = write(from, to, webhook_id, notice)?;
    let addresses = outbound
        .judged(host, *port)
        .await
        .map_err(|error| NotifyError::new(None, error.message))?;
    let credentials = user.as_ref().map(|user| {
        let password = password.as_ref().map_or("", |password| password.reveal());
        Credentials::new(user.clone(), password.to_owned())
    });
    let mut failure = NotifyError::new(None, format!("`{host}` has no address"));
    for address in addresses {
        let transport = transport(address, host, *tls, credentials.clone())?;
        match transport.send(mail.clone()).await {
            Ok(answer) => return Ok(Some(i32::from(u16::from(answer.code())))),
            Err(error) => {
                let code = error.status().map(|code| i32::from(u16::from(code)));
                failure = NotifyError::new(code, format!("`{host}`: {}", told(&error)));
                // It was answered: another address is the same server.
                if code.is_some() {
                    break;
                }
            }
        }
    }
    Err(failure)
}

/// An error with what caused it.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

fn write(
    from: &str,
    to: &[String],
    webhook_id: &str,
    notice: &Notice,
) -> Result<Message, NotifyError> {
    let unsound = |what: &str| NotifyError::new(None, format!("`{what}` is not an address"));
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|_| unsound(text));
    let sender = mailbox(from)?;
    let subject: String = notice
        .headline()
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one })
        .take(SUBJECT_MAX)
        .collect();
    let message_id = format!("<{webhook_id}@{}>", domain_of(&sender.email));
    let mut mail = Message::builder()
        .from(sender)
        .message_id(Some(message_id))
        .subject(subject)
        .header(ContentType::TEXT_PLAIN);
    for one in to {
        mail = mail.to(mailbox(one)?);
    }
    mail.body(notice.plain()).map_err(|error| NotifyError::new(None, error.to_string()))
}

fn domain_of(address: &Address) -> &str {
    address.domain()
}

fn transport(
    address: SocketAddr,
    host: &str,
    tls: SmtpTls,
    credentials: Option<Credentials>,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, NotifyError> {
    let parameters = || {
        TlsParameters::builder(host.to_owned())
            .build_rustls()
            .map_err(|error| NotifyError::new(None, format!("no TLS: {error}")))
    };
    let tls = match tls {
        SmtpTls::Starttls => Tls::Required(parameters()?),
        SmtpTls::Tls => Tls::Wrapper(parameters()?),
        SmtpTls::None => Tls::None,
    };
    // The address that was judged, and no other: the name is for TLS alone.
    let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
        .port(address.port())
        .tls(tls)
        .timeout(Some(ATTEMPT_LIMIT));
    Ok(match credentials {
        Some(credentials) => builder.credentials(credentials).build(),
        None => builder.build(),
    })
}

/// Whether a text is the address of a mailbox, with or without a name.
#[must_use]
pub fn is_address(text: &str) -> bool {
    text.parse::<Mailbox>().is_ok()
}

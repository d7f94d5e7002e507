//! Connections: where to, how protected, with which limits.
//!
//! A path as host (`postgres://user@/db?host=/run/postgresql`) is a Unix socket, which needs no TLS.
//! Over TCP `sslmode` is `disable`, `prefer` (the default), `require` (encrypted, whoever answers)
//! or `verify-full` (the certificate must be good and name the host).

use std::str::FromStr;
use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Socket};

use super::STATEMENT_MAX;
use super::tls::{self, Verification};
use crate::store::{StoreError, StoreOptions, StoreResult};

/// How long the network may take to make a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long sent bytes may go unacknowledged.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long a connection may be idle before the system asks whether the other side is there.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Notifications that may wait for the listener.
const NOTIFICATIONS_MAX: usize = 256;

/// Asks for messages as they stand in the server's source, because some states are told apart by
/// them (see `errors`). Only a superuser, or a role that was given the right, may ask.
const PLAIN_MESSAGES: &str = "DO $$ BEGIN PERFORM set_config('lc_messages', 'C', false); \
    EXCEPTION WHEN insufficient_privilege THEN NULL; END $$";

/// A connection keeps the plans of its statements. One made while a table was small would read all
/// of it, and still does when it has grown, until statistics are next taken: a minute on a new
/// database, for ever where nobody takes any. So to read a whole table is the last resort. And no
/// statement here runs long enough to be worth compiling, though the price that the planner puts on
/// a last resort looks as if it were.
const PLANNING: &str = "SET enable_seqscan = off; SET jit = off";

/// Where to connect to, read from the URL once.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
    /// `None`: the connection is not encrypted.
    verification: Option<Verification>,
}

impl Target {
    /// Reads a URL; the message of the error does not repeat it, as it may hold a password.
    pub(super) fn parse(url: &str) -> StoreResult<Self> {
        let refused = |reason: &dyn std::fmt::Display| {
            StoreError::Internal(format!("the database URL cannot be used: {reason}"))
        };
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut mode = "prefer";
        let mut kept = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("sslmode", value)) => mode = value,
                _ => kept.push(part),
            }
        }
        let text =
            if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        let mut config = Config::from_str(&text).map_err(|error| refused(&error))?;
        let is_local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        let (ssl_mode, verification) = match mode {
            "disable" => (SslMode::Disable, None),
            "prefer" | "allow" => (SslMode::Prefer, Some(Verification::None)),
            "require" => (SslMode::Require, Some(Verification::None)),
            "verify-full" => (SslMode::Require, Some(Verification::Full)),
            other => return Err(refused(&format!("sslmode `{other}` is not known"))),
        };
        config.ssl_mode(if is_local { SslMode::Disable } else { ssl_mode });
        config.connect_timeout(CONNECT_MAX).tcp_user_timeout(SILENCE_MAX);
        config.keepalives_idle(IDLE_MAX).keepalives_interval(SILENCE_MAX).keepalives_retries(3);
        if config.get_application_name().is_none() {
            config.application_name("carillon");
        }
        Ok(Self { config, verification: verification.filter(|_| !is_local) })
    }

    /// A connection for diesel.
    pub(super) async fn connect(&self) -> ConnectionResult<AsyncPgConnection> {
        let mut connection = match &self.verification {
            None => self.connect_through(NoTls).await?,
            Some(verification) => self.connect_through(tls::connector(verification)?).await?,
        };
        connection
            .batch_execute(&format!(
                "SET statement_timeout = {}; SET idle_in_transaction_session_timeout = 2000; \
                 {PLANNING}; {PLAIN_MESSAGES}",
                STATEMENT_MAX.as_millis()
            ))
            .await
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(connection)
    }

    async fn connect_through<T>(&self, tls: T) -> ConnectionResult<AsyncPgConnection>
    where
        T: MakeTlsConnect<Socket> + Send,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let (client, connection) = self.config.connect(tls).await.map_err(|error| bad(&error))?;
        AsyncPgConnection::try_from_client_and_connection(client, connection).await
    }

    /// A connection for listening: its client, and what it hears. The receiver ends with the
    /// connection.
    pub(super) async fn listen(&self) -> ConnectionResult<(Client, mpsc::Receiver<String>)> {
        match &self.verification {
            None => self.listen_through(NoTls).await,
            Some(verification) => self.listen_through(tls::connector(verification)?).await,
        }
    }

    async fn listen_through<T>(&self, tls: T) -> ConnectionResult<(Client, mpsc::Receiver<String>)>
    where
        T: MakeTlsConnect<Socket> + Send,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let (client, mut connection) =
            self.config.connect(tls).await.map_err(|error| bad(&error))?;
        let (sender, heard) = mpsc::channel(NOTIFICATIONS_MAX);
        tokio::spawn(async move {
            loop {
                match std::future::poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(notification))) => {
                        if sender.send(notification.payload().to_owned()).await.is_err() {
                            return;
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                }
            }
        });
        Ok((client, heard))
    }
}

/// The error with its causes: the first one alone says little.
fn bad(error: &dyn std::error::Error) -> ConnectionError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        text = format!("{text}: {one}");
        cause = one.source();
    }
    ConnectionError::BadConnection(text)
}

/// The pool; connections are made when they are needed.
pub(super) fn pool(target: Target, options: &StoreOptions) -> StoreResult<Pool<AsyncPgConnection>> {
    let mut config = ManagerConfig::default();
    // No round trip for each hand-out: closed connections are known, and an operation that meets a
    // dead one is `Unavailable`.
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(move |_url| {
        let target = target.clone();
        let connecting: BoxFuture<'_, _> = async move { target.connect().await }.boxed();
        connecting
    });
    let manager =
        AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config(String::new(), config);
    Pool::builder(manager)
        .max_size(options.pool_max.max(1))
        .build()
        .map_err(|error| StoreError::Internal(format!("cannot make the pool: {error}")))
}

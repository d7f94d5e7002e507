//! A network between a server and its database that fails on command.
//!
//! It listens on a loopback port, forwards to a Unix socket, and can hold everything back without a
//! word, delay it, refuse newcomers, end connections or reset them. It runs on a thread of its own,
//! so that tests that block may use it too, and ends with its value.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// What the network does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Forwards it.
    Open,
    /// Holds it back and says nothing; newcomers get a connection that leads nowhere.
    Silent,
    /// Forwards it so much later.
    Slow(Duration),
    /// Forwards it, and ends every new connection at once.
    Refusing,
}

/// How connections end on command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Reset,
}

/// A network to one Unix socket.
pub(crate) struct Proxy {
    port: u16,
    mood: watch::Sender<Mood>,
    ends: watch::Sender<(u64, End)>,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// A network that forwards to the socket at `path`.
    pub(crate) fn to(path: &Path) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mood, moods) = watch::channel(Mood::Open);
        let (ends, endings) = watch::channel((0, End::Close));
        let path = path.to_owned();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, path.clone(), moods.clone(), endings.clone()));
            }
        });
        Self { port, mood, ends, runtime: Some(runtime) }
    }

    /// Where it listens, on 127.0.0.1.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Changes what it does, for connections that exist too.
    pub(crate) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Ends every connection in good order.
    pub(crate) fn cut(&self) {
        self.ends.send_modify(|(count, end)| (*count, *end) = (*count + 1, End::Close));
    }

    /// Ends every connection with a reset.
    pub(crate) fn reset(&self) {
        self.ends.send_modify(|(count, end)| (*count, *end) = (*count + 1, End::Reset));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One connection, to its end.
async fn carry(
    stream: TcpStream,
    path: PathBuf,
    mut moods: watch::Receiver<Mood>,
    mut ends: watch::Receiver<(u64, End)>,
) {
    ends.mark_unchanged();
    if *moods.borrow_and_update() == Mood::Refusing {
        return;
    }
    let forward = async {
        // Whoever comes in silence is let through when it ends.
        moods.wait_for(|mood| *mood != Mood::Silent).await.ok()?;
        UnixStream::connect(path).await.ok()
    };
    let other = tokio::select! {
        other = forward => other,
        _ = ends.changed() => None,
    };
    let Some(other) = other else { return };
    let (mut from_client, mut to_client) = tokio::io::split(stream);
    let (from_server, to_server) = other.into_split();
    let there = pump(&mut from_client, to_server, moods.clone());
    let back = pump(from_server, &mut to_client, moods);
    tokio::select! {
        _ = async { tokio::join!(there, back) } => return,
        _ = ends.changed() => {}
    }
    let stream = from_client.unsplit(to_client);
    if ends.borrow().1 == End::Reset {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }
}

/// One direction, to its end.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut moods: watch::Receiver<Mood>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let mood = *moods.borrow();
        if let Mood::Slow(delay) = mood {
            tokio::time::sleep(delay).await;
        }
        if moods.wait_for(|mood| *mood != Mood::Silent).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            break;
        }
    }
    // The other side may be gone already.
    drop(to.shutdown().await);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// A socket that says back what it hears.
    fn echo() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("echo");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut reading = stream.try_clone().unwrap();
                    // Ends with an error when the connection is reset.
                    drop(std::io::copy(&mut reading, &mut stream));
                });
            }
        });
        (folder, path)
    }

    fn connect(proxy: &Proxy) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    #[test]
    fn a_network_forwards_delays_holds_back_cuts_and_resets() {
        let (_folder, path) = echo();
        let proxy = Proxy::to(&path);
        let mut stream = connect(&proxy);
        let mut heard = [0; 2];
        let mut trip = |stream: &mut std::net::TcpStream| {
            stream.write_all(b"hi").unwrap();
            stream.read_exact(&mut heard).map(|()| assert_eq!(&heard, b"hi"))
        };
        trip(&mut stream).unwrap();
        proxy.set(Mood::Slow(Duration::from_millis(30)));
        let started = tokio::time::Instant::now();
        trip(&mut stream).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(60), "both ways");
        proxy.set(Mood::Silent);
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(trip(&mut stream).is_err(), "nothing comes back");
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        proxy.set(Mood::Open);
        stream.read_exact(&mut [0; 2]).unwrap();
        proxy.cut();
        assert_eq!(stream.read(&mut [0; 2]).unwrap(), 0, "an orderly end");
        let mut stream = connect(&proxy);
        trip(&mut stream).unwrap();
        proxy.reset();
        let error = stream.read(&mut [0; 2]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        proxy.set(Mood::Refusing);
        assert_eq!(connect(&proxy).read(&mut [0; 2]).unwrap_or(0), 0);
    }
}

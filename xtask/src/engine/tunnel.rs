//! A socket on this machine that leads to an engine behind TLS or ssh, or to a builder.
//!
//! Everything that talks to an engine speaks plain HTTP or gRPC to a socket: so builds over TLS and
//! ssh have sessions, secrets and progress like others, and one place knows how to get there. Each
//! connection to the socket is one to the engine, and closing it closes that.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::engine::dial::dial_builder;
use crate::engine::error::Trouble;
use crate::engine::socket_folder::SocketFolder;
use crate::engine::ssh::Ssh;
use crate::engine::tls::Tls;

/// How to get to the engine.
#[derive(Debug)]
pub(crate) enum Way {
    Tls(Tls),
    Ssh(Ssh),
    /// To the builder of this name.
    Builder(String),
}

/// The socket, as long as this lives.
#[derive(Debug)]
pub(crate) struct Tunnel {
    folder: SocketFolder,
    _serving: JoinSet<()>,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl Tunnel {
    /// Makes the socket.
    pub(crate) fn open(way: Way) -> io::Result<Self> {
        let folder = SocketFolder::create()?;
        let (mut serving, trouble) = (JoinSet::new(), Arc::default());
        let listener = UnixListener::bind(folder.socket())?;
        serving.spawn(serve(listener, way, Arc::clone(&trouble)));
        Ok(Self { folder, _serving: serving, trouble })
    }

    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.socket()
    }

    /// The URL of the socket.
    pub(crate) fn url(&self) -> String {
        self.folder.url()
    }

    /// Why the last connection failed, if one did.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().ok()?.clone()
    }
}

async fn serve(listener: UnixListener, way: Way, trouble: Arc<Mutex<Option<Trouble>>>) {
    let way = Arc::new(way);
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let (way, trouble) = (Arc::clone(&way), Arc::clone(&trouble));
        connections.spawn(async move {
            if let Err(found) = pass_on(&mut client, &way).await
                && let Ok(mut trouble) = trouble.lock()
            {
                *trouble = Some(found);
            }
            // Only now the client sees that there is no connection.
            drop(client);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass_on(client: &mut UnixStream, way: &Way) -> Result<(), Trouble> {
    match way {
        Way::Tls(tls) => tls.pass_on(client).await,
        Way::Ssh(ssh) => ssh.pass_on(client).await,
        Way::Builder(name) => dial_builder(name, client).await,
    }
}

//! The receiving end of a connection from another controller: its Raft messages go to the controller's thread.
//!
//! The bytes are as untrusted as those of a client. While the thread is behind, nothing more is read.

use bytes::{Bytes, BytesMut};
use ottla_quorum::{Arrived, Voter, is_sent_by};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::connection::Closed;
use crate::broker::Broker;
use crate::cluster::quorum_frames::{self, BadPeerFrame, Frame};
use crate::cluster::quorum_inbox::QuorumInbox;
use crate::config::Roles;
use crate::drivers::stopping::stopped;

/// Serves a connection whose first frame is `first`, and on which `rest` has arrived after it.
pub async fn serve(
    broker: &Broker,
    mut stream: TcpStream,
    (first, mut rest): (Bytes, BytesMut),
    mut shutdown: watch::Receiver<bool>,
) -> Closed {
    let Some(inbox) = broker.quorum_inbox.get() else {
        if broker.config.quorum.roles == Roles::Broker {
            return BadPeerFrame::Unknown.into();
        }
        return Closed::Starting;
    };
    let hello = match Frame::read(first) {
        Ok(Frame::Hello(hello)) => hello,
        Ok(Frame::Message(_)) => return BadPeerFrame::Unknown.into(),
        Err(error) => return error.into(),
    };
    let verdict = inbox.check(&hello);
    let answered = stream.write_all(&quorum_frames::answer(&verdict)).await;
    if let Err(reason) = verdict {
        inbox.on_mismatch(&reason);
        return Closed::ByClient;
    }
    if let Err(error) = answered {
        return error.into();
    }
    let controller = hello.controller;
    let arrived = Arrived::Hello(controller.clone());
    if inbox.arrived.send(arrived).await.is_err() {
        return Closed::Shutdown;
    }
    loop {
        let received = tokio::select! {
            received = receive((inbox, &controller), &mut stream, &mut rest) => received,
            () = stopped(&mut shutdown) => return Closed::Shutdown,
        };
        if let Err(closed) = received {
            return closed;
        }
    }
}

/// Passes on the messages that have arrived, and reads more.
async fn receive(
    (inbox, controller): (&QuorumInbox, &Voter),
    stream: &mut TcpStream,
    rest: &mut BytesMut,
) -> Result<(), Closed> {
    while let Some(frame) = quorum_frames::take(rest)? {
        let Frame::Message(message) = Frame::read(frame)? else {
            return Err(BadPeerFrame::Unknown.into());
        };
        if !is_sent_by(controller, &message) {
            return Err(BadPeerFrame::Malformed.into());
        }
        let arrived = Arrived::Message(message);
        if inbox.arrived.send(arrived).await.is_err() {
            return Err(Closed::Shutdown);
        }
    }
    match stream.read_buf(rest).await? {
        0 => Err(Closed::ByClient),
        _ => Ok(()),
    }
}

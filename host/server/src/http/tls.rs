//! Handshakes of agents' connections (TLS).
//!
//! A handshake is done in its connection's own task and in its seat, which is idle meanwhile: who does not get on with it makes room for
//! others as anybody idle does, and is given up in the time that a request's head may take. Each is done by what the host has taken last,
//! so that a certificate that was replaced, and a trust domain that is known no more, hold from a reload on.

use std::io;
use std::sync::Arc;

use ambit_core::identity::why::Why;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::front::Front;
use crate::identity::Peer;

/// A connection whose handshake is done, and what its client showed, where it showed anything.
pub(super) type Shaken<S> = (TlsStream<S>, Option<Peer>);

/// Shakes hands; nothing where that fails. That a client's certificate was the cause is counted with the credentials that are refused.
pub(super) async fn shake<S>(stream: S, config: Arc<ServerConfig>, front: &Front) -> Option<Shaken<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match TlsAcceptor::from(config).accept(stream).into_fallible().await {
        Ok(stream) => {
            let chain = stream.get_ref().1.peer_certificates();
            let peer = chain.and_then(Peer::new);
            Some((stream, peer))
        }
        Err((error, mut stream)) => {
            if is_of_certificate(&error) {
                front.note(Why::Certificate);
            }
            tracing::debug!(%error, "a handshake failed");
            // What the client still sends is taken: otherwise what it was told would be lost with the connection.
            drop(stream.shutdown().await);
            None
        }
    }
}

/// Whether a client's certificate, or its proof of having the key, is what is wrong.
fn is_of_certificate(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidCertificate(_)))
}

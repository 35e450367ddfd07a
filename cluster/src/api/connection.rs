//! The TCP connection below a request: so that it can be closed when its peer does not read, with all
//! that waits for it in this process and in the kernel.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use actix_web::HttpRequest;
use rustix::net::sockopt::set_socket_linger;

/// A second handle on a connection's socket.
#[derive(Clone)]
pub(super) struct Connection(Option<Arc<OwnedFd>>);

impl Connection {
    /// Of a socket that was just accepted.
    pub(super) fn new(io: &dyn Any) -> Connection {
        let stream = io.downcast_ref::<actix_web::rt::net::TcpStream>();
        let socket = stream.and_then(|stream| stream.as_fd().try_clone_to_owned().ok());
        Connection(socket.map(Arc::new))
    }

    pub(super) fn of(request: &HttpRequest) -> Connection {
        request.conn_data::<Connection>().cloned().unwrap_or(Connection(None))
    }

    /// Ends the connection at once, whatever its peer does: nothing that waits is sent any more. The
    /// server's own side sees the end and lets go of its buffers.
    pub(super) fn close_now(&self) {
        let Some(socket) = &self.0 else { return };
        let _ = set_socket_linger(socket.as_fd(), Some(std::time::Duration::ZERO));
        if let Ok(socket) = socket.try_clone() {
            let _ = TcpStream::from(socket).shutdown(Shutdown::Both);
        }
    }
}

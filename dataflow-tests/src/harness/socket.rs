//! A websocket on a plain socket, for readers that misbehave: it says hello and asks, and reads only if
//! told to. It does *not* answer pings, nor close in order.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{HarnessError, Result, io_error};

const TIMEOUT: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: usize = 8 << 10;

/// An open websocket to `/api/v1/live`.
pub struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// Opens one, with the kernel's buffers as they are.
    pub fn open(addr: SocketAddr, token: &str) -> Result<Socket> {
        let mut stream =
            TcpStream::connect(addr).map_err(io_error(format!("connect to {addr}")))?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(io_error("set a timeout"))?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(io_error("set a timeout"))?;
        let head = format!(
            "GET /api/v1/live HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).map_err(io_error("ask for a websocket"))?;
        let answer = read_head(&mut stream)?;
        if answer.starts_with("HTTP/1.1 101") {
            return Ok(Socket { stream });
        }
        Err(HarnessError::NotHttp { peer: addr.to_string(), what: answer })
    }

    /// Sends one text message, masked as clients must; the mask is zero.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let mut frame = vec![0x81];
        match text.len() {
            len @ 0..126 => frame.push(0x80 | len as u8),
            len @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend((len as u16).to_be_bytes());
            }
            len => {
                frame.push(0x80 | 127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).map_err(io_error("send a message"))
    }

    /// Subscribes to a script's text.
    pub fn subscribe(&mut self, id: &str, text: &str) -> Result<()> {
        let message = serde_json::json!({"type": "subscribe", "id": id, "text": text});
        self.send(&message.to_string())
    }

    /// Whether the server has closed the connection; what it sent before is thrown away.
    #[must_use]
    pub fn is_closed(&mut self) -> bool {
        let mut buffer = vec![0; 1 << 16];
        if self.stream.set_nonblocking(true).is_err() {
            return true;
        }
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
    }
}

fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        stream.read_exact(&mut byte).map_err(io_error("read the answer"))?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

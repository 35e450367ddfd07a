//! A client of an API server whose answers are bounded: each in bytes, and in the time that it takes. Without, one that
//! never ends would be kept in memory, or be waited for, for ever. Who may ask what is [`super::access`]'s matter.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};
use kube::client::{Client, ClientBuilder, DynBody};
use kube::config::Config;
use tokio::time::Sleep;
use tower::util::MapResponseLayer;

/// What a piece of an answer costs beside its bytes: of one byte each, a small answer would be a large one in memory.
const PIECE_BYTES: usize = 64;

/// What an answer may be.
#[derive(Clone, Copy, Debug)]
pub struct AnswerLimits {
    /// Each piece that it comes in counts for [`PIECE_BYTES`] more.
    pub bytes_max: usize,
    /// From its first byte to its last.
    pub time_max: Duration,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Nothing is asked of the server yet.
///
/// # Errors
/// What is wrong with certificates and the like.
pub fn client(config: Config, limits: AnswerLimits) -> Result<Client, kube::Error> {
    let bound = move |answer: Response<Box<DynBody>>| answer.map(|body| Bounded::new(body, limits));
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&MapResponseLayer::new(bound)).build())
}

/// A body that ends with an error where it is more than it may be.
struct Bounded {
    body: Pin<Box<DynBody>>,
    bytes_left: usize,
    end: Pin<Box<Sleep>>,
}

impl Bounded {
    fn new(body: Box<DynBody>, limits: AnswerLimits) -> Bounded {
        let end = Box::pin(tokio::time::sleep(limits.time_max));
        Bounded { body: Box::into_pin(body), bytes_left: limits.bytes_max, end }
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err("the answer takes too long".into())));
        }
        let Some(frame) = ready!(self.body.as_mut().poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = frame?;
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match self.bytes_left.checked_sub(bytes + PIECE_BYTES) {
            Some(left) => self.bytes_left = left,
            None => return Poll::Ready(Some(Err("the answer is too large".into()))),
        }
        // A copy: otherwise it keeps the whole buffer that it was read into, and what is counted is not what is held.
        Poll::Ready(Some(Ok(frame.map_data(|data| Bytes::copy_from_slice(&data)))))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server whose every answer begins so, and goes on with that for ever, waiting between.
    fn endless(piece: Vec<u8>, between: Duration) -> Config {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            let chunk = [format!("{:x}\r\n", piece.len()).into_bytes(), piece, b"\r\n".to_vec()];
            while stream.write_all(&chunk.concat()).is_ok() {
                std::thread::park_timeout(between);
            }
        });
        Config::new(url.parse().unwrap())
    }

    fn asked(config: Config, limits: AnswerLimits) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = client(config, limits).unwrap();
            format!("{:?}", client.apiserver_version().await.unwrap_err())
        })
    }

    /// An answer without an end, fast or slow, is given up. Catches bounds that are looked at once all is there, and times
    /// that begin anew with each byte.
    #[test]
    fn endless_answers_are_given_up() {
        let limits = AnswerLimits { bytes_max: 1 << 20, time_max: Duration::from_secs(60) };
        let said = asked(endless(vec![b' '; 1 << 16], Duration::ZERO), limits);
        assert!(said.contains("too large"), "{said}");
        let limits = AnswerLimits { bytes_max: 1 << 20, time_max: Duration::from_millis(300) };
        let said = asked(endless(vec![b' '], Duration::from_millis(20)), limits);
        assert!(said.contains("too long"), "{said}");
    }

    /// Pieces of one byte, without an end.
    struct Crumbs(usize);

    impl Body for Crumbs {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0 += 1;
            assert!(self.0 < 1 << 20, "it has no end");
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b" ")))))
        }
    }

    /// What an answer in pieces of one byte costs is bounded as well. Catches a bound of bytes that were sent, of which
    /// each costs a hundred in memory.
    #[test]
    fn pieces_count() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pieces = runtime.block_on(async {
            let limits = AnswerLimits { bytes_max: 1 << 16, time_max: Duration::from_secs(60) };
            let mut body = Bounded::new(Box::new(Crumbs(0)), limits);
            let mut pieces = 0;
            let next =
                |body: &mut Bounded, context: &mut Context<'_>| Pin::new(body).poll_frame(context);
            while let Some(Ok(_)) = std::future::poll_fn(|context| next(&mut body, context)).await {
                pieces += 1;
            }
            pieces
        });
        assert_eq!(pieces, (1 << 16) / (PIECE_BYTES + 1));
    }
}

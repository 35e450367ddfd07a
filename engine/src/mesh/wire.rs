//! The sockets of a generation as timely has them. Timely's threads panic when one breaks, and its workers some time
//! later or not at all; here a break is told to the engine at once, and the threads end when its workers have ended.

use std::any::Any;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::bytes_slab::BytesRefill;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::zero_copy::stream::Stream;
use timely::communication::{AllocatorBuilder, Hooks};

/// How long processes may take to end in order, once the first one ends.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);

/// Told of a process that has gone, and why.
pub(crate) type OnLoss = Box<dyn Fn(&str) + Send + Sync>;

/// What all sockets of a generation share.
pub(crate) struct Wires {
    own: Vec<TcpStream>,
    /// Told once, of the first socket that breaks.
    lost: OnceLock<OnLoss>,
    /// The generation ends in order: whoever has said its end may go.
    is_closing: AtomicBool,
    /// Workers of this process that run.
    workers: Mutex<usize>,
    ended: Condvar,
    /// Of buffers between the sockets and the workers of this process.
    between_bytes: Arc<AtomicU64>,
}

/// Empty buffers that timely keeps for each of its queues.
const SPARE_MAX: usize = 2;

/// A buffer that counts for as long as anything in it is on its way.
struct Buffer {
    bytes: Box<[u8]>,
    counter: Arc<AtomicU64>,
}

impl Buffer {
    fn new(size: usize, counter: &Arc<AtomicU64>) -> Buffer {
        counter.fetch_add(size as u64, Ordering::Relaxed);
        Buffer { bytes: vec![0; size].into_boxed_slice(), counter: Arc::clone(counter) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Wires {
    pub(crate) fn new(sockets: &[Option<TcpStream>], workers: usize) -> io::Result<Arc<Wires>> {
        let own = sockets.iter().flatten().map(TcpStream::try_clone);
        Ok(Arc::new(Wires {
            own: own.collect::<io::Result<_>>()?,
            lost: OnceLock::new(),
            is_closing: AtomicBool::new(false),
            workers: Mutex::new(workers),
            ended: Condvar::new(),
            between_bytes: Arc::default(),
        }))
    }

    /// What waits to be sent to other processes or has come from them and was not looked at.
    pub(crate) fn between_bytes(&self) -> u64 {
        self.between_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn on_loss(&self, tell: OnLoss) {
        // Set once, by who starts the engine.
        drop(self.lost.set(tell));
    }

    /// The generation ends in order. Who has not ended in time is taken for lost.
    pub(crate) fn closes(self: &Arc<Self>) {
        if self.is_closing.swap(true, Ordering::AcqRel) {
            return;
        }
        let wires = Arc::downgrade(self);
        let watch = std::thread::Builder::new().name("mesh-closing".to_string());
        let spawned = watch.spawn(move || {
            // Nobody says anything.
            let (_nobody, never) = channel::<()>();
            let _ = never.recv_timeout(CLOSE_TIME_MAX);
            wires.upgrade().iter().for_each(|wires| wires.cut());
        });
        if spawned.is_err() {
            // Nobody could see to it that it ends.
            self.cut();
        }
    }

    /// Nobody is spoken to any more.
    pub(crate) fn cut(&self) {
        for socket in &self.own {
            // Closed already, most likely.
            drop(socket.shutdown(Shutdown::Both));
        }
    }

    pub(crate) fn worker_ended(&self) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        *workers = workers.saturating_sub(1);
        drop(workers);
        self.ended.notify_all();
    }

    fn wait_for_workers(&self) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.ended.wait_while(workers, |workers| *workers > 0));
    }

    fn is_lost(&self, process: usize, why: &str) {
        if let Some(tell) = self.lost.get() {
            tell(&format!("process {process} has gone: {why}"));
        }
    }
}

/// One socket.
pub(crate) struct Wire {
    stream: TcpStream,
    /// Who is at its other end.
    process: usize,
    wires: Arc<Wires>,
    framing: Framing,
    /// Once it is lost: zeros that are still to be read.
    ending: Option<u64>,
}

impl Wire {
    fn new(stream: TcpStream, process: usize, wires: Arc<Wires>) -> Wire {
        Wire { stream, process, wires, framing: Framing::new(), ending: None }
    }
}

/// Bytes of a message's header, and where in it the length of the rest stands.
const HEADER_BYTES: usize = 48;
const LENGTH_AT: std::ops::Range<usize> = 32..40;
/// No message that was begun is made whole by more zeros.
const ENDING_BYTES_MAX: u64 = 1 << 30;

/// Where in timely's messages the reader is: one that was begun has to be made whole before the end can be said.
struct Framing {
    header: [u8; HEADER_BYTES],
    have: usize,
    /// Of the message behind the header.
    left: u64,
    /// A header of zeros was there: the other end is done.
    is_over: bool,
}

impl Framing {
    fn new() -> Framing {
        Framing { header: [0; HEADER_BYTES], have: 0, left: 0, is_over: false }
    }

    fn length(&self) -> u64 {
        let mut length = [0; 8];
        length.copy_from_slice(&self.header[LENGTH_AT]);
        u64::from_be_bytes(length)
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= skipped as u64;
            bytes = &bytes[skipped..];
            let taken = (HEADER_BYTES - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEADER_BYTES {
                (self.left, self.have) = (self.length(), 0);
                self.is_over |= self.left == 0;
            }
        }
    }

    /// How many zeros end the stream: the rest of what was begun, and a header of zeros, which is timely's end.
    fn ending(&mut self) -> u64 {
        let header = HEADER_BYTES as u64;
        if self.have == 0 {
            return self.left.saturating_add(header);
        }
        self.header[self.have..].fill(0);
        let rest = (HEADER_BYTES - self.have) as u64;
        match self.length() {
            // It has become the end.
            0 => rest,
            length => rest.saturating_add(length).saturating_add(header),
        }
    }
}

/// Why a thread of timely's ended.
struct Lost;

impl Wire {
    /// Something, or why there is no more.
    fn receive(&mut self, into: &mut [u8]) -> Result<usize, String> {
        loop {
            return match self.stream.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) if !self.framing.is_over => Err("its connection was closed".to_string()),
                read => read.map_err(|error| error.to_string()),
            };
        }
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let ending = match &mut self.ending {
            Some(ending) => ending,
            None => match self.receive(into) {
                Ok(count) => {
                    self.framing.pass(&into[..count]);
                    return Ok(count);
                }
                // After its end nothing more is expected.
                Err(_) if self.framing.is_over => return Ok(0),
                Err(why) => {
                    self.wires.is_lost(self.process, &why);
                    // Nobody looks at what is read from now on.
                    self.wires.wait_for_workers();
                    let ending = self.framing.ending();
                    if ending > ENDING_BYTES_MAX {
                        std::panic::resume_unwind(Box::new(Lost));
                    }
                    self.ending.insert(ending)
                }
            },
        };
        let count = usize::try_from(*ending).unwrap_or(usize::MAX).min(into.len());
        into[..count].fill(0);
        *ending -= count as u64;
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                if !self.wires.is_closing.load(Ordering::Acquire) {
                    self.wires.is_lost(self.process, &error.to_string());
                }
                // What the thread has left is nobody's; it ends with the workers.
                Ok(bytes.len())
            }
            done => done,
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Wire {
    fn try_clone(&self) -> io::Result<Wire> {
        Ok(Wire::new(self.stream.try_clone()?, self.process, Arc::clone(&self.wires)))
    }
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        // It may be gone.
        drop(self.stream.shutdown(how));
        Ok(())
    }
}

/// What timely's workers of a process are made of, over these sockets.
pub(crate) fn builders(
    sockets: Vec<Option<TcpStream>>,
    process: usize,
    workers: usize,
    wires: &Arc<Wires>,
) -> io::Result<(Vec<AllocatorBuilder>, Box<dyn Any + Send>)> {
    let counter = Arc::clone(&wires.between_bytes);
    let refill = BytesRefill {
        logic: Arc::new(move |size| Box::new(Buffer::new(size, &counter))),
        limit: Some(SPARE_MAX),
    };
    let hooks = Hooks { refill, ..Hooks::default() };
    let own = ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), None);
    let wire = |(there, socket): (usize, Option<TcpStream>)| {
        socket.map(|stream| Wire::new(stream, there, Arc::clone(wires)))
    };
    let sockets: Vec<Option<Wire>> = sockets.into_iter().enumerate().map(wire).collect();
    let (tcp, guard) = initialize_networking_from_sockets(own, sockets, process, workers, hooks)?;
    Ok((tcp.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![7; HEADER_BYTES + length];
        bytes[LENGTH_AT].copy_from_slice(&(length as u64).to_be_bytes());
        bytes
    }

    /// Wherever a stream of messages breaks, what follows makes the last one whole and ends with one header of
    /// zeros: catches a thread that takes the rest for a message, or waits for more.
    #[test]
    fn a_broken_stream_ends_at_a_message() {
        let whole: Vec<u8> = [message(5), message(0x0102), message(1)].concat();
        for cut in 0..=whole.len() {
            let mut framing = Framing::new();
            whole[..cut].chunks(7).for_each(|bytes| framing.pass(bytes));
            let mut stream = whole[..cut].to_vec();
            stream.resize(cut + usize::try_from(framing.ending()).unwrap(), 0);
            let mut left = &stream[..];
            loop {
                let mut length = [0; 8];
                length.copy_from_slice(&left[LENGTH_AT]);
                left = &left[HEADER_BYTES..];
                let length = usize::try_from(u64::from_be_bytes(length)).unwrap();
                if length == 0 {
                    break;
                }
                left = &left[length..];
            }
            assert!(left.is_empty(), "{} bytes behind the end, cut at {cut}", left.len());
        }
    }
}

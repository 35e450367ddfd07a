//! Sinks on a running server: each follows one or more views as a reader like any other (`feeder.rs`), and
//! has a pump of its own (`owner.rs`), which may block as long as it likes. While its buffer is full, each
//! view keeps one net change for it, within what a reader may hold. If that is too much, or the view is gone,
//! it subscribes again: from where it was if the view still knows, with a snapshot behind a reset if not.

mod feeder;
mod owner;
mod status;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use weir_actors::{KillSwitch, Stop};
use weir_sinks::buffer::WhenFull;
use weir_sinks::encode::Mode;
use weir_sinks::pipe::{Backoff, BatchLimits};
use weir_sinks::sink::{Page, Writer};

use super::Service;
use crate::planner::ScriptRequest;

pub use self::status::{SinkRow, SinkState};

use self::owner::{Command, Owner};
use self::status::Status;

/// A sink that cannot end what it is at within this is left behind.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Commands to one sink that wait: there is one reload at a time.
const COMMANDS_MAX: usize = 4;

/// Where elements of a sink wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSpec {
    pub is_disk: bool,
    pub bytes_max: u64,
    pub when_full: WhenFull,
}

/// What a sink takes in.
#[derive(Clone, Debug)]
pub struct InputSpec {
    pub request: ScriptRequest,
    /// Which output, where there are several.
    pub table: Option<String>,
}

/// How a sink writes.
pub struct WriterSpec {
    pub writer: Box<dyn Writer>,
    pub batch: BatchLimits,
    pub backoff: Backoff,
    /// How often it is looked at if the other end is there, while nothing is to be written.
    pub checks: Option<Duration>,
    /// Where it writes to. At another place nothing is known of what was written so far.
    pub place: String,
    /// The same for people, without secrets; empty: there is nothing to say.
    pub target: String,
}

/// One sink as it is configured.
pub struct SinkSpec {
    pub name: String,
    /// As `type` in the configuration.
    pub kind: &'static str,
    pub inputs: Vec<InputSpec>,
    pub mode: Mode,
    pub buffer: BufferSpec,
    /// `None` only once it is at work.
    pub writer: Option<WriterSpec>,
    /// Equal for two of a name: the one that runs goes on with what it has, at most with another writer.
    pub feed_print: String,
    /// Equal, too: nothing has changed.
    pub writer_print: String,
}

struct Known {
    status: Arc<Status>,
    commands: mpsc::Sender<Command>,
    /// What others read from it.
    page: Option<Weak<Page>>,
    feed_print: String,
    writer_print: String,
}

/// All sinks of a server.
#[derive(Default)]
pub struct Sinks {
    known: Mutex<BTreeMap<String, Known>>,
    started: OnceLock<Started>,
}

/// What all of them begin with.
struct Started {
    /// Where buffers are.
    data_dir: Option<PathBuf>,
    switch: KillSwitch,
}

impl Sinks {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn rows(&self) -> Vec<SinkRow> {
        let known: Vec<Arc<Status>> =
            self.lock().values().map(|known| Arc::clone(&known.status)).collect();
        known.iter().map(|status| status.row()).collect()
    }

    /// Starts them in the current actix system, each a part below `root`. Buffers and numbers are kept in
    /// `data_dir`, if there is one.
    pub fn start(
        service: &Service,
        root: &KillSwitch,
        data_dir: Option<PathBuf>,
        specs: Vec<SinkSpec>,
    ) {
        service.sinks.started.get_or_init(|| Started { data_dir, switch: root.child("sinks") });
        for spec in specs {
            Sinks::start_one(service, spec);
        }
    }

    fn start_one(service: &Service, spec: SinkSpec) {
        let sinks = &service.sinks;
        let Some(Started { data_dir, switch }) = sinks.started.get() else { return };
        let status = Arc::new(Status::new(&spec.name, spec.inputs.len()));
        let target = spec.writer.as_ref().map_or("", |writer| writer.target.as_str());
        status.goes_to(spec.kind, target);
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let known = Known {
            status: Arc::clone(&status),
            commands,
            page: spec.writer.as_ref().and_then(|writer| writer.writer.page()),
            feed_print: spec.feed_print.clone(),
            writer_print: spec.writer_print.clone(),
        };
        sinks.lock().insert(spec.name.clone(), known);
        let part = switch.part(&spec.name, Stop::Asked { within: STOP_MAX });
        let owner = Owner::new(service.clone(), spec, data_dir.clone(), status, part);
        actix::spawn(owner.run(receiver));
    }

    /// Makes the sinks that run those that are configured. What did not change is not touched; where only the
    /// other end changed, what is buffered goes to the new one. Says what it did.
    pub async fn apply(service: &Service, specs: Vec<SinkSpec>) -> Vec<String> {
        let mut done = Vec::new();
        let (mut ending, mut starting) = (Vec::new(), Vec::new());
        let names: Vec<&String> = specs.iter().map(|spec| &spec.name).collect();
        let gone: Vec<String> =
            service.sinks.lock().keys().filter(|name| !names.contains(name)).cloned().collect();
        for name in gone {
            done.push(format!("{name} ended"));
            ending.push(name);
        }
        for mut spec in specs {
            let name = spec.name.clone();
            let running = service.sinks.lock().get(&name).map(|known| {
                let is_same_feed =
                    known.feed_print == spec.feed_print && !known.status.has_failed();
                (is_same_feed, known.writer_print == spec.writer_print, known.commands.clone())
            });
            match running {
                Some((true, true, _)) => {}
                Some((true, false, commands)) => {
                    let (print, kind) = (spec.writer_print.clone(), spec.kind);
                    let Some(writer) = spec.writer else { continue };
                    let target = writer.target.clone();
                    if commands.send(Command::Replace(writer)).await.is_ok()
                        && let Some(known) = service.sinks.lock().get_mut(&name)
                    {
                        known.writer_print = print;
                        known.status.goes_to(kind, &target);
                    }
                    done.push(format!("{name} goes on elsewhere"));
                }
                Some(_) => {
                    Sinks::hand_on(service, &mut spec);
                    ending.push(name.clone());
                    starting.push(spec);
                    done.push(format!("{name} began anew"));
                }
                None => {
                    starting.push(spec);
                    done.push(format!("{name} started"));
                }
            }
        }
        // All at once: one that hangs takes its time, and the others do not wait for it.
        let stops = ending.iter().map(|name| Sinks::stop(service, name));
        futures_util::future::join_all(stops).await;
        for spec in starting {
            Sinks::start_one(service, spec);
        }
        done
    }

    /// Lets one that begins anew go on with what others read from the one that ends.
    fn hand_on(service: &Service, spec: &mut SinkSpec) {
        let known = service.sinks.lock();
        let page = known.get(&spec.name).and_then(|known| known.page.as_ref()?.upgrade());
        if let (Some(page), Some(writer)) = (page, &mut spec.writer) {
            let inputs = u16::try_from(spec.inputs.len()).unwrap_or(u16::MAX);
            writer.writer.takes_over(page, inputs);
        }
    }

    async fn stop(service: &Service, name: &str) {
        let Some(known) = service.sinks.lock().remove(name) else { return };
        let (say, stopped) = oneshot::channel();
        if known.commands.send(Command::Stop(say)).await.is_ok() {
            drop(stopped.await);
        }
    }
}

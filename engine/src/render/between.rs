//! The way of rows from worker to worker, by key. What is on it is counted as waiting, from when it is sent
//! until it is taken: a worker that is behind must not let the others fill the memory with what it has not
//! looked at. It decides nothing: who is above its budget is ended where bytes are counted.
//!
//! Rows to another process are not counted on the way: the receiver cannot give back what the sender took.

use std::marker::PhantomData;
use std::rc::Rc;

use timely::ExchangeData;
use timely::communication::{Pull, Push};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::{LogPuller, LogPusher, ParallelizationContract};
use timely::dataflow::channels::pushers::Exchange;
use timely::dataflow::channels::pushers::exchange::DrainContainerDistributor;
use timely::logging::TimelyLogger;
use timely::worker::Worker as TimelyWorker;

use crate::budget::Purpose;
use crate::query::Env;
use crate::weigh::{self, Weigh};

/// Told by how many bytes more, or fewer, wait.
type Count = Rc<dyn Fn(i64)>;

/// Rows go to the worker that `route` says.
pub(super) struct Between<F> {
    route: F,
    count: Count,
    /// Workers of one process, in the order of their numbers.
    local: usize,
}

pub(super) fn between<D, F>(env: &Rc<Env>, route: F) -> Between<F>
where
    F: FnMut(&D) -> u64 + 'static,
{
    let held_by = Rc::clone(env);
    let count = move |bytes| held_by.query.hold(&held_by.engine, Purpose::Waiting, bytes);
    Between { route, count: Rc::new(count), local: env.engine.config.workers }
}

type Rows<D> = Message<u64, Vec<D>>;
type Distributor<D, F> = DrainContainerDistributor<CapacityContainerBuilder<Vec<D>>, F>;

impl<D, F> ParallelizationContract<u64, Vec<D>> for Between<F>
where
    D: ExchangeData + Weigh,
    F: FnMut(&D) -> u64 + 'static,
{
    type Pusher = Exchange<u64, CountedPusher<D>, Distributor<D, F>>;
    type Puller = CountedPuller<D>;

    fn connect(
        self,
        worker: &TimelyWorker,
        identifier: usize,
        address: Rc<[usize]>,
        logging: Option<TimelyLogger>,
    ) -> (Self::Pusher, Self::Puller) {
        let Between { route, count, local } = self;
        let own = worker.index();
        // A worker alone takes its own rows in the same step.
        let is_alone = worker.peers() == 1;
        let is_local = move |peer: usize| !is_alone && peer / local == own / local;
        let (senders, receiver) = worker.allocate::<Rows<D>>(identifier, address);
        let pushers = senders.into_iter().enumerate().map(|(peer, sender)| CountedPusher {
            pusher: LogPusher::new(sender, own, peer, identifier, logging.clone()),
            count: is_local(peer).then(|| Rc::clone(&count)),
            rows: PhantomData,
        });
        let pushers = pushers.collect();
        let distributor = DrainContainerDistributor::new(route, worker.peers());
        let puller = LogPuller::new(receiver, own, identifier, logging);
        let puller = CountedPuller { puller, count, is_local: Box::new(is_local) };
        (Exchange::new(pushers, distributor), puller)
    }
}

fn bytes_of<D: Weigh>(rows: &[D]) -> i64 {
    i64::try_from(rows.iter().map(weigh::item).sum::<usize>()).unwrap_or(i64::MAX)
}

pub(super) struct CountedPusher<D> {
    pusher: LogPusher<Box<dyn Push<Rows<D>>>>,
    /// `None`: they leave the process.
    count: Option<Count>,
    rows: PhantomData<D>,
}

impl<D: ExchangeData + Weigh> Push<Rows<D>> for CountedPusher<D> {
    fn push(&mut self, message: &mut Option<Rows<D>>) {
        if let (Some(count), Some(message)) = (&self.count, &message) {
            count(bytes_of(&message.data));
        }
        self.pusher.push(message);
    }
}

pub(super) struct CountedPuller<D> {
    puller: LogPuller<Box<dyn Pull<Rows<D>>>>,
    count: Count,
    is_local: Box<dyn Fn(usize) -> bool>,
}

impl<D: ExchangeData + Weigh> Pull<Rows<D>> for CountedPuller<D> {
    fn pull(&mut self) -> &mut Option<Rows<D>> {
        let message = self.puller.pull();
        if let Some(message) = message
            && (self.is_local)(message.from)
        {
            (self.count)(-bytes_of(&message.data));
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::sync::{Arc, Barrier};

    use timely::dataflow::operators::generic::operator::Operator;
    use timely::dataflow::operators::{Input, Probe};
    use weir_types::PackedRow;

    use super::*;

    const ROWS: u64 = 10_000;
    const ROW_BYTES: usize = 1_000;

    /// Rows that one worker has sent and another has not looked at are counted, all of them and with their
    /// bytes, and none is when they have been taken: catches a slow worker whose input grows unseen.
    #[test]
    fn rows_on_their_way_are_counted() {
        for peers in [2, 4] {
            let (waiting, sent) = (Arc::new(AtomicI64::new(0)), Arc::new(Barrier::new(peers)));
            let counted = Arc::clone(&waiting);
            let guards = timely::execute(timely::Config::process(peers), move |worker| {
                let index = worker.index();
                let counted = Arc::clone(&counted);
                let at_the_counter = Arc::clone(&counted);
                let count: Count = Rc::new(move |bytes| {
                    counted.fetch_add(bytes, Ordering::SeqCst);
                });
                let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
                    let (input, stream) = scope.new_input::<Vec<(PackedRow, u64, i64)>>();
                    // All to the last worker, which takes nothing before all is sent.
                    let route = move |_: &(PackedRow, u64, i64)| peers as u64 - 1;
                    let pact = Between { route, count, local: peers };
                    type Out = CapacityContainerBuilder<Vec<()>>;
                    let taken = stream.unary::<Out, _, _, _>(pact, "Take", |_, _| {
                        move |input, _output| input.for_each(|_, rows| rows.clear())
                    });
                    let (probe, _) = taken.probe();
                    (input, probe)
                });
                if index == 0 {
                    for row in 0..ROWS {
                        input.send((PackedRow(vec![0; ROW_BYTES]), row, 1));
                    }
                    input.advance_to(1);
                    input.flush();
                    let row = (PackedRow(vec![0; ROW_BYTES]), 0_u64, 1_i64);
                    let all = (weigh::item(&row) as u64 * ROWS) as i64;
                    assert_eq!(at_the_counter.load(Ordering::SeqCst), all, "{peers} workers");
                }
                input.close();
                sent.wait();
                while !probe.done() {
                    worker.step_or_park(None);
                }
                sent.wait();
                assert_eq!(at_the_counter.load(Ordering::SeqCst), 0, "{peers} workers");
            });
            let ended: Vec<_> = guards.unwrap().join().into_iter().collect();
            assert!(ended.iter().all(Result::is_ok), "{ended:?}");
            assert_eq!(waiting.load(Ordering::SeqCst), 0);
        }
    }
}

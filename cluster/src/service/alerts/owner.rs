//! The owner of all rules: steps them by what their views deliver, keeps their state over restarts, and hands out
//! what is to be told. It lives on a thread of its own; a panic of it begins anew from what it kept.

mod shown;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::clock::Instant;
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tracing::{error, info, warn};
use weir_actors::{KillSwitch, Part, Stop};
use weir_pxl::NamedView;
use weir_rules::state::{Answer, Notice, Row, RuleId, RuleSet, Saved};
use weir_sinks::delivery::Delivery;
use weir_types::Value;
use weir_types::clock::tick_unix_ns;

use self::shown::why_incomplete;
use super::feeder::{Feeder, Said, What};
use super::queue::Queue;
use super::saved::{self, State, StateStore};
use super::send::Receiver;
use super::status::{AlertsShown, Figures, Happened, History};
use super::{AlertsSpec, ReceiverSpec};
use crate::planner::ScriptRequest;
use crate::service::Service;

/// Deliveries that wait for the rules; more stay with their views.
const SAID_MAX: usize = 8;
/// While something is pending or kept, its times are written down so often: time while down is not time true.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// What happened is written down so often.
const HISTORY_EVERY: Duration = Duration::from_secs(1);
/// Before a panic's successor begins.
const REBIRTH: Duration = Duration::from_secs(1);
/// A receiver that is in the middle of an attempt is left behind.
const RECEIVER_STOP_MAX: Duration = Duration::from_secs(1);

pub(super) enum Command {
    Load { spec: Box<AlertsSpec>, done: oneshot::Sender<Vec<String>> },
    Show(oneshot::Sender<AlertsShown>),
    History(oneshot::Sender<Vec<Happened>>),
    Figures(oneshot::Sender<Figures>),
}

/// Where things are kept.
pub(super) struct Stores {
    pub(super) state: StateStore,
    pub(super) history: StateStore,
}

/// What outlives a panic.
struct Kept {
    spec: AlertsSpec,
    stores: Stores,
    /// Receivers' threads are not the owner's.
    receivers: Vec<Receiver>,
    state_errors: u64,
}

/// Runs owners until the server stops.
pub(super) async fn supervise(
    service: Service,
    switch: KillSwitch,
    part: Part,
    stores: Stores,
    spec: AlertsSpec,
    commands: mpsc::Receiver<Command>,
) {
    let commands = Arc::new(Mutex::new(commands));
    let kept = Kept { spec, stores, receivers: Vec::new(), state_errors: 0 };
    let kept = Arc::new(Mutex::new(kept));
    loop {
        let (service, switch, part_of) = (service.clone(), switch.clone(), part.clone());
        let (commands, kept) = (Arc::clone(&commands), Arc::clone(&kept));
        let life = actix::spawn(async move {
            let mut commands = commands.lock_owned().await;
            let mut kept = kept.lock_owned().await;
            Owner::new(service, switch, part_of.clone(), &mut kept).run(&mut commands).await;
        });
        match life.await {
            Ok(()) => break,
            Err(_) => part.died("the owner of the rules panicked", REBIRTH),
        }
        tokio::select! {
            () = part.stop_requested() => break,
            () = actix::clock::sleep(REBIRTH) => {}
        }
    }
    kept.lock().await.receivers.clear();
    part.stopped();
}

/// A rule at work.
struct Running {
    name: String,
    /// What its view is made of, besides its expression.
    views: Arc<[NamedView]>,
    feeder: tokio::task::JoinHandle<()>,
    /// Which feeder's word counts.
    number: u64,
    again: Arc<Notify>,
    /// It has an answer, and nothing hinders it.
    is_running: bool,
    has_failed: bool,
    last_error: String,
    /// What its first answer covered.
    covers_from_unix_ns: Option<i64>,
    /// The next part is the first of a snapshot.
    wants_first: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.feeder.abort();
    }
}

struct Owner<'a> {
    service: Service,
    switch: KillSwitch,
    part: Part,
    kept: &'a mut Kept,
    set: RuleSet,
    ids: Vec<RuleId>,
    running: BTreeMap<RuleId, Running>,
    said: mpsc::Sender<Said>,
    heard: mpsc::Receiver<Said>,
    feeders: u64,
    history: History,
    /// Something left a queue.
    sent: Arc<Notify>,
    has_changed: bool,
    saved_at: Instant,
    /// How long that took.
    save_cost: Duration,
    state_error: String,
    state_bytes: u64,
    steps: u64,
}

impl<'a> Owner<'a> {
    fn new(service: Service, switch: KillSwitch, part: Part, kept: &'a mut Kept) -> Owner<'a> {
        let (said, heard) = mpsc::channel(SAID_MAX);
        Owner {
            set: RuleSet::new(kept.spec.settings.clone()),
            service,
            switch,
            part,
            kept,
            ids: Vec::new(),
            running: BTreeMap::new(),
            said,
            heard,
            feeders: 0,
            history: History::default(),
            sent: Arc::default(),
            has_changed: false,
            saved_at: Instant::now(),
            save_cost: Duration::ZERO,
            state_error: String::new(),
            state_bytes: 0,
            steps: 0,
        }
    }

    async fn run(mut self, commands: &mut mpsc::Receiver<Command>) {
        let part = self.part.clone();
        let mut stop = Box::pin(part.stop_requested());
        self.begin();
        self.part.running();
        let mut history_at = Instant::now() + HISTORY_EVERY;
        loop {
            let sent = Arc::clone(&self.sent);
            let wait = self.wait();
            tokio::select! {
                biased;
                () = &mut stop => break,
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                said = self.heard.recv() => {
                    if let Some(said) = said {
                        self.hear(said);
                    }
                }
                () = sent.notified() => self.has_changed = true,
                () = actix::clock::sleep(wait) => {}
            }
            self.tell();
            if Instant::now() >= history_at {
                history_at = Instant::now() + HISTORY_EVERY;
                self.save_history();
            }
        }
        self.running.clear();
        self.save();
        self.save_history();
    }

    /// Takes up what was left, and starts what is configured.
    fn begin(&mut self) {
        let taken = std::mem::replace(&mut self.kept.stores.state.saved, Ok(String::new()));
        let state: State = taken.and_then(|text| saved::parse(&text)).unwrap_or_else(|why| {
            self.kept.state_errors += 1;
            self.state_error = format!("the alerts' state could not be read: {why}");
            error!(why, "the alerts' state could not be read: alerts begin anew");
            State::default()
        });
        let history = &mut self.kept.stores.history.saved;
        let history = std::mem::replace(history, Ok(String::new()));
        match history.and_then(|text| saved::parse(&text)) {
            Ok(items) => self.history.restore(items),
            Err(why) => warn!(why, "what happened to alerts could not be read"),
        }
        let State { rules, queues } = state;
        let spec = self.kept.spec.clone();
        // Those of an owner that panicked have what waits for them.
        let is_rebirth = !self.kept.receivers.is_empty();
        self.load(spec, Some(rules));
        for (name, notices) in queues.into_iter().filter(|_| !is_rebirth) {
            match self.kept.receivers.iter().find(|receiver| receiver.name == name) {
                Some(receiver) => receiver.queue.push(notices),
                None => warn!(receiver = name, lost = notices.len(), "nobody to be told any more"),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Load { spec, done } => {
                let changes = self.load(*spec, None);
                drop(done.send(changes));
            }
            Command::Show(say) => drop(say.send(self.shown())),
            Command::History(say) => drop(say.send(self.history.items())),
            Command::Figures(say) => drop(say.send(self.figures())),
        }
    }

    /// Which rules and receivers there are from now on.
    fn load(&mut self, spec: AlertsSpec, saved: Option<Saved>) -> Vec<String> {
        let now_unix_ns = self.service.clock.now_unix_ns();
        let mut done = self.load_receivers(&spec.receivers);
        self.ids = self.set.load(spec.settings.clone(), spec.rules.clone(), now_unix_ns);
        if let Some(saved) = saved {
            self.set.restore(saved, now_unix_ns);
        }
        let gone: Vec<RuleId> =
            self.running.keys().filter(|id| !self.ids.contains(id)).copied().collect();
        for id in gone {
            if let Some(ended) = self.running.remove(&id) {
                done.push(format!("rule {} ended", ended.name));
            }
        }
        let over = self.set.take_ended();
        self.history.note(now_unix_ns, &over);
        for (id, rule) in self.ids.clone().into_iter().zip(&spec.rules) {
            let views = self.service.views.read_by(&rule.expr);
            match self.running.get(&id) {
                Some(running) if running.views == views => continue,
                Some(_) => done.push(format!("rule {} reads another view", rule.name)),
                None => done.push(format!("rule {} started", rule.name)),
            }
            self.follow(id, &rule.name, &rule.expr, views);
        }
        self.kept.spec = spec;
        self.has_changed = true;
        done
    }

    fn follow(&mut self, id: RuleId, name: &str, expr: &str, views: Arc<[NamedView]>) {
        self.feeders += 1;
        let again = Arc::new(Notify::new());
        let request = ScriptRequest { text: Some(expr.to_string()), ..ScriptRequest::default() };
        let feeder = Feeder {
            service: self.service.clone(),
            rule: id,
            number: self.feeders,
            request,
            said: self.said.clone(),
            again: Arc::clone(&again),
        };
        let running = Running {
            name: name.to_string(),
            views,
            feeder: actix::spawn(feeder.run()),
            number: self.feeders,
            again,
            is_running: false,
            has_failed: false,
            last_error: String::new(),
            covers_from_unix_ns: None,
            wants_first: true,
        };
        self.running.insert(id, running);
    }

    fn load_receivers(&mut self, specs: &[ReceiverSpec]) -> Vec<String> {
        let mut done = Vec::new();
        let mut old = std::mem::take(&mut self.kept.receivers);
        for spec in specs {
            let at = old.iter().position(|receiver| receiver.name == spec.name);
            let before = at.map(|at| old.remove(at));
            if let Some(same) = before.as_ref().filter(|before| before.print == spec.print) {
                // What it says when something was sent is the present owner's to hear.
                same.tells(Arc::clone(&self.sent));
                self.kept.receivers.extend(before);
                continue;
            }
            done.push(match before {
                Some(_) => format!("receiver {} goes on elsewhere", spec.name),
                None => format!("receiver {} started", spec.name),
            });
            let waiting = before.map(|before| before.queue.waiting()).unwrap_or_default();
            let queue = Arc::new(Queue::new(spec.sender.is_state()));
            let ended = Arc::clone(&queue);
            // What waits stays there, to be kept.
            let stop = Stop::call(RECEIVER_STOP_MAX, move || ended.end());
            let part = self.switch.part(&spec.name, stop);
            let clock = Arc::clone(&self.service.clock);
            match Receiver::start(&spec.name, &spec.print, &spec.sender, queue, part, clock) {
                Ok(receiver) => {
                    receiver.tells(Arc::clone(&self.sent));
                    receiver.queue.push(waiting);
                    self.kept.receivers.push(receiver);
                }
                Err(error) => warn!(receiver = spec.name, %error, "no thread for a receiver"),
            }
        }
        done.extend(old.iter().map(|receiver| format!("receiver {} ended", receiver.name)));
        done
    }

    fn hear(&mut self, said: Said) {
        let Said { rule, feeder, what } = said;
        let Some(running) = self.running.get_mut(&rule) else { return };
        if running.number != feeder {
            return;
        }
        match what {
            What::Delivery { is_first, delivery } => {
                running.wants_first |= is_first;
                self.deliver(rule, &delivery);
            }
            What::Waits(why) | What::Failed(why) if why.is_empty() => {}
            What::Waits(why) => {
                warn!(rule = running.name, why, "a rule waits for its view");
                (running.is_running, running.last_error) = (false, why);
            }
            What::Failed(why) => {
                warn!(rule = running.name, why, "a rule has no view");
                (running.is_running, running.has_failed) = (false, true);
                running.last_error = why;
            }
        }
    }

    /// A part of a frontier's changes; the last has its completeness.
    fn deliver(&mut self, id: RuleId, delivery: &Delivery) {
        let Some(running) = self.running.get_mut(&id) else { return };
        let Some(machine) = self.set.machine(id) else { return };
        let columns = &machine.rule().columns;
        let mut rows: Vec<(i64, Row)> = Vec::new();
        for changes in &delivery.changes {
            let types = changes.output.info.relation.types();
            rows.extend(changes.rows.iter().filter_map(|(row, diff)| {
                let values: Vec<Value> = row.unpack(&types)?;
                Some((*diff, columns.row(&values)))
            }));
        }
        let snapshot = std::mem::replace(&mut running.wants_first, false);
        let Some(completeness) = &delivery.completeness else {
            self.set.take(id, snapshot, &rows);
            return;
        };
        let covers_from = completeness.covers_from_unix_ns;
        let covered_then = *running.covers_from_unix_ns.get_or_insert(covers_from);
        let lacks_nothing = completeness.lagging.is_empty() && completeness.lost.is_empty();
        let why = why_incomplete(completeness);
        let answer = Answer {
            at_unix_ns: tick_unix_ns(delivery.tick_ms),
            snapshot,
            complete: completeness.complete,
            young: lacks_nothing && covers_from <= covered_then,
            why: &why,
        };
        if !running.is_running {
            (running.is_running, running.has_failed) = (true, false);
            running.last_error = String::new();
        }
        let step = self.set.step(id, &answer, &rows, self.service.clock.now_unix_ns());
        self.steps += 1;
        if step.wants_snapshot {
            running.again.notify_one();
        }
        self.has_changed |= !step.changes.is_empty();
        self.history.note(answer.at_unix_ns, &step.changes);
    }

    /// Until there is something to do without being asked.
    fn wait(&self) -> Duration {
        let now_unix_ns = self.service.clock.now_unix_ns();
        let next = self.set.next_unix_ns().map_or(i64::MAX, |at| at.saturating_sub(now_unix_ns));
        let next = Duration::from_nanos(u64::try_from(next).unwrap_or(0));
        let save = if self.has_changed { self.save_wait() } else { SAVE_EVERY };
        next.min(save)
    }

    /// Changes are written down at once, unless that takes long: then for a tenth of the time at most.
    fn save_wait(&self) -> Duration {
        (self.save_cost * 10).min(SAVE_EVERY).saturating_sub(self.saved_at.elapsed())
    }

    /// What is due is kept first, and then told: who begins anew knows what was told.
    fn tell(&mut self) {
        let now_unix_ns = self.service.clock.now_unix_ns();
        let due = self.set.next_unix_ns().is_some_and(|at| at <= now_unix_ns);
        let notices = if due { self.set.due(now_unix_ns) } else { Vec::new() };
        let has_news = notices.iter().any(Notice::is_news);
        let notices: Vec<Arc<Notice>> = notices.into_iter().map(Arc::new).collect();
        let is_changed = self.has_changed && self.save_wait().is_zero();
        let is_time = self.saved_at.elapsed() >= SAVE_EVERY;
        if has_news || is_changed || (is_time && self.set.is_waiting()) {
            self.save_with(&notices);
        }
        if has_news {
            self.save_history();
        }
        for receiver in &self.kept.receivers {
            let wanted = notices.iter().filter(|it| receiver.is_state() || it.is_news());
            receiver.queue.push(wanted.cloned());
        }
    }

    fn save(&mut self) {
        self.save_with(&[]);
    }

    /// With what is about to be told.
    fn save_with(&mut self, notices: &[Arc<Notice>]) {
        let begun = Instant::now();
        let told_once = self.kept.receivers.iter().filter(|receiver| !receiver.is_state());
        let queues = told_once.map(|receiver| {
            let mut waiting = receiver.queue.waiting();
            waiting.extend(notices.iter().filter(|notice| notice.is_news()).cloned());
            (receiver.name.clone(), waiting)
        });
        let state = State { rules: self.set.save(), queues: queues.collect() };
        let text = saved::text_of(&state);
        let saved = text.and_then(|text| {
            self.state_bytes = text.len() as u64;
            (self.kept.stores.state.save)(&text)?;
            // Should this owner panic, its successor begins here.
            self.kept.stores.state.saved = Ok(text);
            Ok(())
        });
        (self.has_changed, self.saved_at) = (false, Instant::now());
        self.save_cost = begun.elapsed();
        match saved {
            Ok(()) => self.state_error.clear(),
            Err(why) => {
                self.kept.state_errors += 1;
                if self.state_error.is_empty() {
                    error!(why, "the alerts' state could not be kept: a restart would tell again");
                }
                self.state_error = why;
            }
        }
    }

    fn save_history(&mut self) {
        if !std::mem::take(&mut self.history.is_changed) {
            return;
        }
        let text = saved::text_of(&self.history.items());
        let saved = text.and_then(|text| {
            (self.kept.stores.history.save)(&text)?;
            self.kept.stores.history.saved = Ok(text);
            Ok(())
        });
        if let Err(why) = saved {
            self.kept.state_errors += 1;
            info!(why, "what happened to alerts could not be kept");
        }
    }
}

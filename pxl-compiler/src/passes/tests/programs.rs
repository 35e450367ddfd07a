//! Random PxL programs: most of them compile. Choices come as numbers, so that failures shrink.

use std::fmt::Write;

use proptest::prelude::*;

/// What a program is made of: a statement each.
#[derive(Clone, Debug)]
pub(super) struct Choices(Vec<[u8; 4]>);

impl Choices {
    pub(super) fn seeded(seed: u64) -> Choices {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        let statements = 3 + usize::from(next() % 12);
        Choices((0..statements).map(|_| [next(), next(), next(), next()]).collect())
    }
}

impl Arbitrary for Choices {
    type Parameters = ();
    type Strategy = BoxedStrategy<Choices>;
    fn arbitrary_with((): ()) -> Self::Strategy {
        proptest::collection::vec(any::<[u8; 4]>(), 1..16).prop_map(Choices).boxed()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Int,
    Text,
    Time,
    Other,
}

#[derive(Clone)]
struct Frame {
    columns: Vec<(String, Type)>,
    /// Behind a blocking operator.
    is_blocked: bool,
}

impl Frame {
    fn http() -> Frame {
        let columns = [
            ("time_", Type::Time),
            ("upid", Type::Other),
            ("latency", Type::Int),
            ("resp_status", Type::Int),
            ("req_path", Type::Text),
            ("remote_addr", Type::Text),
        ];
        let columns = columns.map(|(name, ty)| (name.to_string(), ty)).to_vec();
        Frame { columns, is_blocked: false }
    }
    fn any(&self, choice: u8) -> String {
        self.columns[usize::from(choice) % self.columns.len()].0.clone()
    }
    fn of(&self, ty: Type, choice: u8) -> Option<String> {
        let all: Vec<_> = self.columns.iter().filter(|(_, have)| *have == ty).collect();
        (!all.is_empty()).then(|| all[usize::from(choice) % all.len()].0.clone())
    }
    fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|(have, _)| have == name)
    }
    fn set(&mut self, name: &str, ty: Type) {
        self.columns.retain(|(have, _)| have != name);
        self.columns.push((name.to_string(), ty));
    }
}

struct Writer {
    text: String,
    frames: Vec<Frame>,
}

pub(super) fn program(choices: &Choices) -> String {
    let mut writer = Writer { text: "import px\n".to_string(), frames: Vec::new() };
    writer.source(0);
    for (number, choice) in choices.0.iter().enumerate() {
        writer.statement(number, *choice);
    }
    let shown = choices.0.len() % writer.frames.len();
    for frame in [shown, writer.frames.len() - 1] {
        let _ = writeln!(writer.text, "px.display(f{frame}, 'out{frame}')");
    }
    writer.text
}

impl Writer {
    fn source(&mut self, choice: u8) {
        let start = ["-1m", "-5m", "-30s"][usize::from(choice) % 3];
        let columns = "['time_', 'upid', 'latency', 'resp_status', 'req_path', 'remote_addr']";
        let number = self.frames.len();
        let _ = writeln!(
            self.text,
            "f{number} = px.DataFrame('http_events', select={columns}, start_time='{start}')"
        );
        self.frames.push(Frame::http());
    }

    fn statement(&mut self, number: usize, [kind, frame, a, b]: [u8; 4]) {
        let at = usize::from(frame) % self.frames.len();
        match kind % 16 {
            0 if self.frames.len() < 6 => self.source(a),
            1 | 2 if self.frames.len() < 6 => {
                let _ = writeln!(self.text, "f{} = f{at}", self.frames.len());
                self.frames.push(self.frames[at].clone());
            }
            3..=6 => self.assign(number, at, kind, [a, b]),
            7..=9 => self.filter(at, a, b),
            10 => {
                let _ = writeln!(self.text, "f{at} = f{at}.head({})", 1 + a % 9);
                self.frames[at].is_blocked = true;
            }
            11 => self.aggregate(number, at, a, b),
            12 | 13 => self.columns(at, kind, a),
            14 => self.append(at, usize::from(a) % self.frames.len()),
            15 => self.merge(number, at, usize::from(a) % self.frames.len(), b),
            _ => {}
        }
    }

    fn assign(&mut self, number: usize, at: usize, kind: u8, [a, b]: [u8; 2]) {
        let frame = &self.frames[at];
        let name = format!("c{}", number % 4);
        let text = || frame.of(Type::Text, b);
        let is_low = !frame.is_blocked && frame.has("upid");
        let value = match (kind / 16).wrapping_add(a) % 9 {
            0 | 1 => frame.of(Type::Int, b).map(|c| (format!("f{at}.{c} + {a}"), Type::Int)),
            2 if is_low => Some((format!("f{at}.ctx['pod']"), Type::Text)),
            3 if is_low => Some((format!("f{at}.ctx['service']"), Type::Text)),
            4 => text().map(|c| {
                (format!("px.pod_id_to_pod_name(px.ip_to_pod_id(f{at}.{c}))"), Type::Text)
            }),
            5 if frame.has("time_") => {
                Some((format!("px.now() - px.time_to_int64(f{at}.time_)"), Type::Int))
            }
            6 if is_low => Some(("px._exec_hostname()".to_string(), Type::Text)),
            7 => text().map(|c| (format!("px.length(f{at}.{c}) * (2 + 3)"), Type::Int)),
            _ if frame.has("time_") => {
                let bin = format!("px.bin(f{at}.time_, px.seconds({}))", 1 + a % 20);
                let _ = writeln!(self.text, "f{at}.time_ = {bin}");
                return self.frames[at].set("time_", Type::Time);
            }
            _ => None,
        };
        if let Some((value, ty)) = value {
            let _ = writeln!(self.text, "f{at}.{name} = {value}");
            self.frames[at].set(&name, ty);
        }
    }

    fn filter(&mut self, at: usize, a: u8, b: u8) {
        let frame = &self.frames[at];
        let condition = match a % 3 {
            0 => frame.of(Type::Int, b).map(|c| format!("f{at}.{c} > {b}")),
            1 => frame.of(Type::Text, b).map(|c| format!("f{at}.{c} != 'x{}'", b % 4)),
            _ => frame.of(Type::Text, b).map(|c| format!("px.contains(f{at}.{c}, '')")),
        };
        if let Some(condition) = condition {
            let _ = writeln!(self.text, "f{at} = f{at}[{condition}]");
        }
    }

    fn aggregate(&mut self, number: usize, at: usize, a: u8, b: u8) {
        let frame = &self.frames[at];
        let (key, counted) = (frame.any(a), frame.any(b));
        let mut columns = frame.columns.clone();
        columns.retain(|(name, _)| *name == key);
        let (n, most) = (format!("n{number}"), format!("m{number}"));
        let mut aggs = format!("{n}=('{counted}', px.count)");
        columns.push((n, Type::Int));
        if let Some(int) = frame.of(Type::Int, b) {
            let _ = write!(aggs, ", {most}=('{int}', px.max)");
            columns.push((most, Type::Int));
        }
        let _ = writeln!(self.text, "f{at} = f{at}.groupby('{key}').agg({aggs})");
        self.frames[at] = Frame { columns, is_blocked: true };
    }

    fn columns(&mut self, at: usize, kind: u8, a: u8) {
        let frame = &mut self.frames[at];
        if frame.columns.len() < 3 {
            return;
        }
        let gone = frame.any(a);
        frame.columns.retain(|(name, _)| *name != gone);
        let kept: Vec<String> = frame.columns.iter().map(|(name, _)| format!("'{name}'")).collect();
        let _ = match kind % 2 {
            0 => writeln!(self.text, "f{at} = f{at}.drop('{gone}')"),
            _ => writeln!(self.text, "f{at} = f{at}[[{}]]", kept.join(", ")),
        };
    }

    /// Both cut down to what they have in common.
    fn append(&mut self, at: usize, other: usize) {
        let mut columns = self.frames[at].columns.clone();
        columns.retain(|column| self.frames[other].columns.contains(column));
        if columns.is_empty() {
            return;
        }
        let names: Vec<String> = columns.iter().map(|(name, _)| format!("'{name}'")).collect();
        let names = names.join(", ");
        let _ = writeln!(self.text, "f{at} = f{at}[[{names}]].append(f{other}[[{names}]])");
        self.frames[at] = Frame { columns, is_blocked: true };
    }

    fn merge(&mut self, number: usize, at: usize, other: usize, b: u8) {
        let key = self.frames[at].any(b);
        let of = |frame: &Frame| frame.columns.iter().find(|(name, _)| *name == key).cloned();
        if of(&self.frames[at]) != of(&self.frames[other]) {
            return;
        }
        let how = ["inner", "left", "right", "outer"][usize::from(b) % 4];
        let suffixed = format!("_r{number}");
        let _ = writeln!(
            self.text,
            "f{at} = f{at}.merge(f{other}, how='{how}', left_on='{key}', right_on='{key}', \
             suffixes=['', '{suffixed}'])"
        );
        let mut columns = self.frames[at].columns.clone();
        for (name, ty) in &self.frames[other].columns {
            let is_double = self.frames[at].has(name);
            let name = if is_double { format!("{name}{suffixed}") } else { name.clone() };
            columns.push((name, *ty));
        }
        columns.truncate(24);
        self.frames[at] = Frame { columns, is_blocked: true };
    }
}

//! Which processes are known: how they begin, run another program, end and are forgotten, and which are
//! to be read.

use std::sync::Arc;

use weir_types::Upid;

use super::{
    ENDED_MAX, Known, Model, PROCESS_BYTES_MAX, PROCESSES_MAX, READS_PER_SECOND, TURN_SECONDS,
    YOUNG_SECONDS, kubernetes,
};
use crate::capture::Process;
use crate::metadata::{LOCAL_NAMESPACE, ProcessInfo, names};

impl Model {
    /// It runs what its parent runs, in the same container and namespaces.
    pub(super) fn forked(&mut self, process: Process, parent: Process) {
        let upid = self.upid(process);
        if self.known.contains_key(&upid) {
            return;
        }
        match self.known.get(&self.upid(parent)) {
            Some(parent) => {
                let info = ProcessInfo { upid, ..(*parent.info).clone() };
                self.put(info, false);
            }
            None => self.order_process(process.pid),
        }
    }

    /// It runs another program: what its arguments say holds until it was read.
    pub(super) fn started(&mut self, process: Process, comm: String, cmdline: &[u8]) {
        let upid = self.upid(process);
        // Events of two CPUs may come in any order: what has ended does not begin again.
        let ended = self.known.get(&upid).is_some_and(|known| known.ended);
        let former = self.known.get(&upid).map(|known| (*known.info).clone());
        let mut info = self.by_name(upid, comm, cmdline);
        if let Some(former) = former {
            if !former.service_is_program {
                info.service = former.service;
                info.service_is_program = false;
            }
            info.namespace = former.namespace;
            info.container = former.container;
            info.container_id = former.container_id;
            info.pod_uid = former.pod_uid;
            info.netns = former.netns;
        }
        self.put(info, ended);
        self.stamp += 1;
        if let Some(known) = self.known.get_mut(&upid) {
            known.version = self.stamp;
        }
        if !ended {
            self.order_process(process.pid);
        }
    }

    pub(super) fn has_ended(&mut self, process: Process, comm: String) {
        let upid = self.upid(process);
        let is_kernel_thread = self.kernel_threads.contains_key(&process.pid);
        if !self.known.contains_key(&upid) && !is_kernel_thread {
            let info = self.by_name(upid, comm, &[]);
            self.put(info, true);
        } else {
            self.end(upid);
        }
    }

    /// What can be said without reading.
    fn by_name(&self, upid: Upid, comm: String, cmdline: &[u8]) -> ProcessInfo {
        let executable = names::executable("", cmdline, &comm);
        ProcessInfo {
            upid,
            cmdline: names::command_line(cmdline),
            service: names::program(&executable, cmdline).replace('/', "_"),
            service_is_program: true,
            executable: executable.replace('/', "_"),
            namespace: LOCAL_NAMESPACE.to_string(),
            comm,
            ..ProcessInfo::default()
        }
    }

    pub(super) fn was_read(&mut self, version: u64, info: ProcessInfo) {
        let known = self.known.get(&info.upid);
        // It has started another program since: that was ordered, too.
        if known.is_some_and(|known| known.version > version) {
            return;
        }
        // Of one that is just ending nothing is left to read: its event said more.
        if known.is_some() && info.exe.is_empty() && info.cmdline.is_empty() {
            return;
        }
        let ended = known.is_some_and(|known| known.ended);
        let other = self.live.get(&info.upid.pid()).filter(|upid| **upid != info.upid);
        if let Some(&other) = other
            && !ended
        {
            self.end(other);
        }
        self.kernel_threads.remove(&info.upid.pid());
        self.put(info, ended);
    }

    /// Puts a process in, in place of what was known of it.
    pub(super) fn put(&mut self, info: ProcessInfo, ended: bool) {
        let upid = info.upid;
        if let Some(have) = self.known.get(&upid)
            && *have.info == info
            && have.ended == ended
        {
            return;
        }
        let bytes = info.bytes();
        let former = self.take_out(upid);
        if !self.has_room(ended, bytes) {
            self.counters.processes_refused_total += 1;
            self.changed |= former.is_some();
            return;
        }
        let pod_id = kubernetes::pod_of(&self.kubernetes, &info);
        self.entities.add(&mut self.snapshot, &info, ended, pod_id.as_deref());
        self.counters.touched_total += 1;
        self.bytes += bytes;
        self.changed = true;
        self.stamp += 1;
        let (first_second, version) =
            former.as_ref().map_or((self.seconds, 0), |known| (known.first_second, known.version));
        let info = Arc::new(info);
        let known = Known { info, pod_id, ended, first_second, version, stamp: self.stamp };
        self.known.insert(upid, known);
        if !ended {
            self.live.insert(upid.pid(), upid);
        } else if former.is_none_or(|known| !known.ended) {
            self.ended.push_back((self.seconds, upid));
        }
    }

    fn has_room(&mut self, ended: bool, bytes: usize) -> bool {
        while self.bytes + bytes > PROCESS_BYTES_MAX || (ended && self.ended.len() >= ENDED_MAX) {
            if self.ended.is_empty() {
                return false;
            }
            self.counters.processes_forgotten_total += 1;
            self.note_forgotten();
            self.forget_oldest();
        }
        ended || self.live.len() < PROCESSES_MAX
    }

    /// Takes out what is known of a process; its place among the ended stays.
    pub(super) fn take_out(&mut self, upid: Upid) -> Option<Known> {
        let known = self.known.remove(&upid)?;
        let is_pods = known.pod_id.is_some();
        self.entities.remove(&mut self.snapshot, &known.info, known.ended, is_pods);
        self.counters.touched_total += 1;
        self.bytes -= known.info.bytes();
        if self.live.get(&upid.pid()) == Some(&upid) {
            self.live.remove(&upid.pid());
        }
        Some(known)
    }

    /// The one that is to be forgotten next goes before its time.
    fn note_forgotten(&mut self) {
        const SEC_NS: i64 = 1_000_000_000;
        let Some((ended, upid)) = self.ended.front() else { return };
        let Some(known) = self.known.get(upid) else { return };
        let ago = i64::try_from(self.seconds.saturating_sub(*ended)).unwrap_or(i64::MAX);
        let until_unix_ns = self.now_unix_ns.saturating_sub(ago.saturating_mul(SEC_NS));
        self.forgotten.note(self.entities.start_unix_ns(&known.info), until_unix_ns);
    }

    pub(super) fn forget_oldest(&mut self) {
        let Some((_, upid)) = self.ended.pop_front() else { return };
        self.changed |= self.take_out(upid).is_some();
        self.snapshot.libraries.remove(&upid);
        self.libraries.remove(&upid);
    }

    pub(super) fn end_pid(&mut self, pid: u32) {
        if let Some(&upid) = self.live.get(&pid) {
            self.end(upid);
        }
    }

    pub(super) fn end(&mut self, upid: Upid) {
        let Some(known) = self.known.get(&upid).filter(|known| !known.ended) else { return };
        let info = (*known.info).clone();
        let to = &mut self.snapshot.connections;
        self.addresses.process_ended(upid, self.now_unix_ns, self.seconds, to);
        self.put(info, true);
    }

    pub(super) fn listed_pids(&mut self, stamp: u64, pids: &[u32]) {
        let is_gone = |(pid, upid): &(&u32, &Upid)| {
            let older = self.known.get(*upid).is_some_and(|known| known.stamp < stamp);
            older && pids.binary_search(pid).is_err()
        };
        let gone: Vec<Upid> = self.live.iter().filter(is_gone).map(|(_, upid)| *upid).collect();
        gone.into_iter().for_each(|upid| self.end(upid));
        let is_gone = |pid: &&u32| pids.binary_search(pid).is_err();
        let gone: Vec<u32> = self.kernel_threads.keys().filter(is_gone).copied().collect();
        for pid in &gone {
            self.kernel_threads.remove(pid);
        }
        let due = pids.iter().filter(|pid| self.is_due(**pid));
        let due: Vec<u32> = due.copied().take(READS_PER_SECOND).collect();
        due.into_iter().for_each(|pid| self.order_process(pid));
    }

    fn is_due(&self, pid: u32) -> bool {
        let known = self.live.get(&pid).and_then(|upid| self.known.get(upid));
        if let Some(known) = known {
            // What was there at the start is not young.
            let is_new = known.first_second > 1;
            return (is_new && self.seconds - known.first_second <= YOUNG_SECONDS)
                || (u64::from(pid) + self.seconds).is_multiple_of(TURN_SECONDS);
        }
        match self.kernel_threads.get(&pid) {
            Some(seen) => self.seconds - seen >= TURN_SECONDS,
            None => true,
        }
    }
}

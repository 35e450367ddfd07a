//! What was lost in the kernel, by the socket that it was lost on: who knows what the socket speaks
//! can charge it to that.
//!
//! The programs note each loss twice: by socket, in a table that forgets the least recently used, and
//! then in a counter that forgets nothing. What the counters have beyond the table was lost on sockets
//! that nobody can name any more.

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use weir_bpf::abi;

use super::can_run::CannotRun;
use super::counters::Counters;
use super::decode::SOCK_DGRAM;
use super::filters::Pod;
use crate::capture::{ConnKey, LostCounts, SocketLoss, SocketType};

/// Sockets that the kernel's table remembers between two looks.
const SOCKETS_MAX: usize = 1_024;

pub(super) struct LossMap {
    map: HashMap<MapData, Pod<abi::LossKey>, Pod<abi::Losses>>,
    /// Of streams, and of datagrams.
    reckonings: [Reckoning; 2],
}

impl LossMap {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<LossMap, CannotRun> {
        let map = ebpf.take_map("losses").ok_or(CannotRun::BadObject("losses"))?;
        let map =
            HashMap::try_from(map).map_err(|source| CannotRun::Map { map: "losses", source })?;
        Ok(LossMap { map, reckonings: Default::default() })
    }

    /// Hands out what was lost since the last call. `counters` were read before this is called.
    pub(super) fn hand_out(&mut self, counters: &Counters, f: &mut dyn FnMut(&SocketLoss)) {
        let [streams, datagrams] = &mut self.reckonings;
        let new = [streams.is_new(of_streams(counters)), datagrams.is_new(of_datagrams(counters))];
        if new == [false, false] {
            return;
        }
        let keys: Vec<Pod<abi::LossKey>> =
            self.map.keys().take(SOCKETS_MAX).filter_map(Result::ok).collect();
        for key in keys {
            let Ok(Pod(losses)) = self.map.get(&key, 0) else { continue };
            // What is noted in between goes with the entry; the counters still have it.
            if self.map.remove(&key).is_err() {
                continue;
            }
            let Pod(abi::LossKey { conn, generation, socket_type }) = key;
            let key = Some(ConnKey { sock: conn.sock, inode: conn.inode, generation });
            let is_datagram = socket_type == u32::from(SOCK_DGRAM);
            let counts = counts_of(&losses);
            self.reckonings[usize::from(is_datagram)].noted(counts);
            f(&SocketLoss { key, socket_type: type_of(is_datagram), counts });
        }
        for (is_datagram, reckoning) in [false, true].into_iter().zip(&mut self.reckonings) {
            let counts = reckoning.settle();
            if counts != LostCounts::default() {
                f(&SocketLoss { key: None, socket_type: type_of(is_datagram), counts });
            }
        }
    }
}

fn type_of(is_datagram: bool) -> SocketType {
    if is_datagram { SocketType::Datagram } else { SocketType::Stream }
}

fn counts_of(losses: &abi::Losses) -> LostCounts {
    LostCounts {
        records: losses.counts[abi::LOST_RECORDS],
        messages: losses.counts[abi::LOST_MESSAGES],
        unseen_bytes: losses.counts[abi::LOST_UNSEEN_BYTES],
        uring_bytes: losses.counts[abi::LOST_URING_BYTES],
    }
}

fn of_datagrams(counters: &Counters) -> LostCounts {
    LostCounts {
        records: counters.lost_datagrams,
        messages: counters.skipped_datagrams,
        unseen_bytes: 0,
        uring_bytes: 0,
    }
}

fn of_streams(counters: &Counters) -> LostCounts {
    LostCounts {
        records: counters.lost_records.saturating_sub(counters.lost_datagrams),
        messages: counters.skipped_messages.saturating_sub(counters.skipped_datagrams),
        unseen_bytes: counters.unseen_bytes,
        uring_bytes: counters.uring_bytes,
    }
}

/// What was counted in all, and what was handed out of it.
#[derive(Clone, Copy, Debug, Default)]
struct Reckoning {
    counted: LostCounts,
    handed_out: LostCounts,
}

impl Reckoning {
    /// Takes the counters; whether they have changed.
    fn is_new(&mut self, counted: LostCounts) -> bool {
        std::mem::replace(&mut self.counted, counted) != counted
    }

    fn noted(&mut self, counts: LostCounts) {
        self.handed_out.add(counts);
    }

    /// What is counted and was never noted. More may be noted than counted: it is counted a moment later.
    fn settle(&mut self) -> LostCounts {
        let rest = self.counted.beyond(self.handed_out);
        self.handed_out.add(rest);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(records: u64) -> LostCounts {
        LostCounts { records, ..LostCounts::default() }
    }

    /// Each loss is handed out once: what was noted is not told again by the counters, what was noted
    /// before it was counted is not told twice, and what the table has forgotten is told as nobody's.
    /// Catches losses that count double, or vanish with the table's entry.
    #[test]
    fn every_loss_is_handed_out_once() {
        let mut reckoning = Reckoning::default();
        assert!(!reckoning.is_new(lost(0)));
        assert!(reckoning.is_new(lost(5)));
        reckoning.noted(lost(3));
        assert_eq!(reckoning.settle(), lost(2));
        assert_eq!(reckoning.settle(), lost(0));
        assert!(reckoning.is_new(lost(6)));
        reckoning.noted(lost(4)); // of which three are counted a moment later
        assert_eq!(reckoning.settle(), lost(0));
        assert!(reckoning.is_new(lost(9)));
        assert_eq!(reckoning.settle(), lost(0));
        assert!(!reckoning.is_new(lost(9)));
        assert!(reckoning.is_new(lost(10)));
        assert_eq!(reckoning.settle(), lost(1));
    }
}

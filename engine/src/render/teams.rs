//! How the workers of a process share a node part. Rows of one key that are folded by several workers are as
//! many partials: so workers divide exchanges among themselves first, and rows only where there are fewer
//! exchanges than workers. Every worker is told of every batch; it says which it takes, and for which
//! exchanges. It moves no rows.

use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

use super::BatchStream;
use crate::prepare::{NodeProgram, NodeStep};
use crate::query::Env;

/// The team that a worker is in. Worker w of n is in team w mod m, where m is the number of exchanges, at
/// most n; exchange e is folded by team e mod m.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Team {
    number: usize,
    of: usize,
    /// The worker's place in its team, and how many are in it.
    member: usize,
    members: usize,
}

impl Default for Team {
    /// Of a worker alone.
    fn default() -> Team {
        Team::of(0, 1, 1)
    }
}

impl Team {
    pub(super) fn of(worker: usize, workers: usize, exchanges: usize) -> Team {
        let of = exchanges.clamp(1, workers.max(1));
        let number = worker % of;
        let members = (workers.max(1) - number).div_ceil(of);
        Team { number, of, member: worker / of, members }
    }

    pub(super) fn folds(&self, exchange: usize) -> bool {
        exchange % self.of == self.number
    }

    /// Batches of a team are dealt out to its members.
    pub(crate) fn takes(&self, batch: u64) -> bool {
        batch % self.members as u64 == self.member as u64
    }

    /// Per step of a program: some exchange of the team is made of it, and no team before has it, too.
    pub(super) fn steps(&self, program: &NodeProgram) -> Vec<StepUse> {
        let mut first: Vec<Option<usize>> = vec![None; program.steps.len()];
        let mut own = vec![false; program.steps.len()];
        for (exchange, send) in program.sends.iter().enumerate() {
            let team = exchange % self.of;
            let mut at = Some(send.from);
            while let Some(step) = at {
                own[step] |= team == self.number;
                first[step] = Some(first[step].map_or(team, |have| have.min(team)));
                at = match &program.steps[step] {
                    NodeStep::Scan(_) => None,
                    NodeStep::Rows { below, .. } => Some(*below),
                };
            }
        }
        let uses = own.into_iter().zip(first);
        uses.map(|(is_used, first)| StepUse { is_used, counts: first == Some(self.number) })
            .collect()
    }
}

/// What a worker does at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StepUse {
    pub(super) is_used: bool,
    /// It says how many rows there were: others take the same ones.
    pub(super) counts: bool,
}

/// The stream on a worker that has use for it, and an empty one on others. With one team all have.
pub(super) fn only<'s>(
    env: &Rc<Env>,
    team: Team,
    stream: BatchStream<'s>,
    is_used: bool,
) -> BatchStream<'s> {
    if team.of == 1 {
        return stream;
    }
    let env = Rc::clone(env);
    stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "Only", move |_, _| {
        move |input, output| {
            input.for_each(|stamp, data| match stamp.retain_least(0) {
                Some(at) if is_used && env.is_live() => output.session(&at).give_container(data),
                _ => data.clear(),
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For every number of workers and exchanges: each exchange is folded by some worker, and of its batches each
    /// by exactly one; with no fewer exchanges than workers no two fold the same. Catches rows that
    /// nobody takes, or two.
    #[test]
    fn every_batch_is_folded_once_for_every_exchange() {
        for workers in 1..=8 {
            for exchanges in 1..=9 {
                let teams: Vec<Team> =
                    (0..workers).map(|worker| Team::of(worker, workers, exchanges)).collect();
                for exchange in 0..exchanges {
                    let folders: Vec<&Team> =
                        teams.iter().filter(|team| team.folds(exchange)).collect();
                    assert!(exchanges < workers || folders.len() == 1);
                    for batch in 0..24 {
                        let takers = folders.iter().filter(|team| team.takes(batch)).count();
                        assert_eq!(takers, 1, "{workers} workers, exchange {exchange}/{exchanges}");
                    }
                }
            }
        }
    }
}

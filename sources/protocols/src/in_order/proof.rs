//! Proof that all requests before one have been answered, or that a response answers one for certain, where what
//! is missing cannot be counted. What is known meanwhile is [`super::evidence`]'s.

use super::{Asked, InOrder, Owner, Pairing, Waiting};

impl<Q: Asked> InOrder<Q> {
    /// Responses are missing, and no request: looks for proof in what the response is that began then and was
    /// not told yet. It answers the first request behind the loss or one before that; `fits` says whether it
    /// can be that one's, `may_be` whether one before it, `may_be_of` whether one of those that were
    /// dropped.
    pub(crate) fn prove_by(
        &mut self,
        begin_ns: i64,
        fits: impl Fn(&Q) -> bool,
        may_be: impl Fn(&Q) -> bool,
        may_be_of: impl Fn(u32) -> bool,
    ) {
        let Pairing::Uncertain(evidence) = &self.pairing else { return };
        let lost_ns = self.activity.responses_lost_ns.unwrap_or(i64::MAX);
        let idx = self.waiting.partition_point(|waiting| waiting.begin_ns < lost_ns);
        let Some(first) = self.waiting.get(idx) else { return };
        let is_known = evidence.knows_requests()
            && self.waiting.range(..=idx).all(|waiting| waiting.after_loss.is_none());
        let is_next =
            first.begin_ns <= begin_ns && self.activity.response_begin_ns < Some(first.begin_ns);
        let mut before = self.waiting.range(..idx).map(|waiting| &waiting.request);
        if is_known
            && is_next
            && fits(&first.request)
            && !may_be_of(evidence.marks)
            && !before.any(may_be)
        {
            for _ in 0..idx {
                self.drop_uncertain();
            }
            (self.pairing, self.ahead) = (Pairing::Certain, None);
        }
    }

    /// Looks for proof, request by request, that one of them is answered by the response that began then.
    /// Those before it are dropped.
    pub(super) fn prove(&mut self, begin_ns: i64) -> Owner {
        let count = self.waiting.partition_point(|waiting| waiting.begin_ns <= begin_ns);
        let mut owner_idx = self.owner_by_count(count);
        for _ in 0..count {
            let Pairing::Uncertain(evidence) = &mut self.pairing else { return Owner::Front };
            let Some(front) = self.waiting.front_mut() else { break };
            let at = (front.begin_ns, front.after_loss);
            if owner_idx == Some(0) || evidence.proves(at, &self.activity) {
                front.after_loss = None;
                (self.pairing, self.ahead) = (Pairing::Certain, None);
                return Owner::Front;
            }
            owner_idx = owner_idx.map(|idx| idx - 1);
            let request = &front.request;
            evidence.request(at, request.responses(), request.is_plain(), &self.activity);
            self.activity.request(front.begin_ns);
            self.drop_uncertain();
        }
        Owner::Nobody
    }

    /// Which of the first `count` requests a response answers that began after them and before the next, if
    /// counts prove it. That no request is missing before the response is told by the next one only.
    fn owner_by_count(&self, count: usize) -> Option<usize> {
        let Pairing::Uncertain(evidence) = &self.pairing else { return None };
        if !evidence.is_any_missing() || self.waiting.len() <= count {
            return None;
        }
        let is_known = |waiting: &Waiting<Q>| waiting.after_loss.is_none();
        let are_plain = self.waiting.range(..count).all(|waiting| waiting.request.is_plain());
        if !are_plain || !self.waiting.range(..=count).all(is_known) {
            return None;
        }
        let each = self.waiting.range(..count).map(|waiting| waiting.request.responses());
        let before = each.sum::<Option<u64>>()?.checked_sub(1)?;
        let mut passed = 0;
        let owner = self.waiting.range(..count).position(|waiting| {
            let is_it = passed == before;
            passed += waiting.request.responses().unwrap_or_default();
            is_it
        });
        owner.filter(|_| evidence.are_answered(before))
    }
}

//! What the task tells the outside about it.

use tokio::time::Instant;

use super::super::gap::Cause;
use super::super::state::State;
use super::Task;
use crate::event::Event;
use crate::origin::{OpenError, SourceId};

impl Task {
    pub(super) fn report_start(&self, source: &SourceId) {
        self.shared.live();
        self.report_stages();
        let took = self.shared.opened.elapsed();
        let (key, result, client) = (&self.shared.key(), Ok(source), self.shared.client);
        self.relay.observe(&Event::StartFinished { key, result, took, client });
    }

    pub(super) fn report_opening(&mut self, error: &OpenError) {
        let (key, source, text) = (&self.shared.key(), error.source_id(), error.to_string());
        let State::Recovering(gap) = self.machine.state() else {
            return self.relay.observe(&Event::StartRetried { key, source, error: &text });
        };
        if gap.cause == Cause::Wanted {
            return self.relay.observe(&Event::Leaving { key, source, why: &text });
        }
        if self.interrupted_at.is_none() {
            self.interrupted_at = Some(self.stuffing.last_media());
            self.relay.observe(&Event::Interrupted { key, source, error: &text });
            self.told = Some(text);
        }
    }

    /// Why the gap is not healed yet, once for each reason.
    pub(super) fn report_unhealed(&mut self, error: &OpenError) {
        let is_held = matches!(self.machine.state(), State::Recovering(_)) && self.interrupted_at.is_some();
        let text = error.to_string();
        if is_held && self.told.as_ref() != Some(&text) {
            let (key, source) = (&self.shared.key(), error.source_id());
            self.relay.observe(&Event::Interrupted { key, source, error: &text });
            self.told = Some(text);
        }
    }

    pub(super) fn report_stages(&self) {
        let Some(attempt) = &self.current else { return };
        for (stage, took) in attempt.progress.finish(Instant::now()) {
            self.relay.observe(&Event::StageFinished { stage, took });
        }
    }
}

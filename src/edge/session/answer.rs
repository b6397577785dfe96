//! What comes out of the outbox: live entries, answers, outcomes, and changes of the connection itself.

use std::sync::Arc;

use super::super::control::Control;
use super::super::outbox::{Note, SubscriptionId};
use super::end::Ending;
use super::join::RETRY_MS;
use super::subscription::State;
use super::{QUEUED_LOW, Session};
use crate::model::{Answer, Cursor, Page, ResetReason, Resume, Room};
use crate::protocol::{ErrorCode, LeftReason, Refusal, RequestRef, ServerFrame};
use crate::stream::Step;
use crate::telemetry::names;

impl Session {
    /// Takes notes while there is room on the wire. What stays in the outbox is bounded there.
    pub(super) fn take_notes(&mut self) -> Result<(), Ending> {
        while self.wire().queued() < QUEUED_LOW {
            let Some(note) = self.outbox.pop() else {
                let dropped = self.outbox.take_dropped();
                self.dropped(&dropped);
                return Ok(());
            };
            self.note(note)?;
        }
        Ok(())
    }

    fn note(&mut self, note: Note) -> Result<(), Ending> {
        match note {
            Note::Batch(subscription, batch) => self.batch(subscription, batch),
            Note::Signal(subscription, signal) => {
                if self.subscriptions.contains_key(&subscription) {
                    let encoded = signal.encoded(self.subprotocol);
                    self.ws.get_mut().enqueue(encoded);
                }
            }
            Note::Published(ticket, outcome) => self.published(ticket, outcome),
            Note::Answer(number, answer) => self.answered(number, answer.as_ref()),
            Note::Control(control) => self.control(control)?,
        }
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<(), Ending> {
        match control {
            Control::Replaced => return Err(Ending::replaced()),
            Control::Disconnect => return Err(Ending::disconnected()),
            Control::Drain(after) => return Err(Ending::restart(after)),
            Control::Verify(partition) => self.verify(partition),
            Control::CountAgain => self.to_count_again = true,
        }
        Ok(())
    }

    /// Changes that wait for Redis: done between turns, not while notes are taken.
    pub(super) async fn do_changes(&mut self) {
        if self.to_put_out.is_empty() && self.to_end_stay.is_empty() && !self.to_count_again {
            return;
        }
        Box::pin(self.change()).await;
    }

    async fn change(&mut self) {
        for room in std::mem::take(&mut self.to_put_out) {
            self.put_out(&room, LeftReason::RoomClosed).await;
        }
        for room in std::mem::take(&mut self.to_end_stay) {
            self.end_stay(&room, Step::End).await;
        }
        if std::mem::take(&mut self.to_count_again) {
            self.count_again().await;
        }
    }

    /// Gives up a join that can't be served; its count is taken back.
    fn unjoin(&mut self, id: SubscriptionId) -> Option<(Room, Option<RequestRef>)> {
        let subscription = self.subscriptions.get_mut(&id)?;
        let State::Joining { request_ref, .. } = &mut subscription.state else { return None };
        let request_ref = request_ref.take();
        let room = subscription.room.clone();
        self.to_end_stay.push(room.clone());
        Some((room, request_ref))
    }

    fn answered(&mut self, number: u64, answer: Option<&Arc<Answer>>) {
        if let Some((request_ref, room)) = self.histories.remove(&number) {
            return self.history_answered(request_ref, &room, answer);
        }
        if self.acks.is_waiting_for(number) {
            return self.ack_resolved(number, answer);
        }
        let mut waiting = self.subscriptions.values();
        let Some(id) = waiting.find(|other| other.ask() == Some(number)).map(|found| found.id) else { return };
        match answer.map(Arc::as_ref) {
            Some(Answer::Joined { resume, reason, since, head, page }) => {
                self.joined(id, (*resume, *reason), *since, *head, page);
            }
            Some(Answer::Page { reset, page }) => {
                if let Some((reason, from)) = reset {
                    self.reset(id, *reason, *from);
                }
                self.page(id, page);
            }
            Some(Answer::History { .. } | Answer::Unavailable) => {}
            None => {
                let Some((room, request_ref)) = self.unjoin(id) else { return };
                let refusal = Refusal::new(ErrorCode::Unavailable, "the room can't be read now").in_room(&room);
                self.refuse(&refusal.to(request_ref).retry_after_ms(RETRY_MS));
            }
        }
    }

    fn joined(
        &mut self,
        id: SubscriptionId,
        (resume, reason): (Resume, Option<ResetReason>),
        since: Cursor,
        head: Cursor,
        page: &Page,
    ) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let state = std::mem::replace(&mut subscription.state, State::CatchingUp { ask: None, not_before: None });
        let State::Joining { request_ref, read, .. } = state else { return };
        subscription.begin_after(since);
        subscription.acked = since.seq;
        self.behind.more();
        let room = subscription.room.clone();
        if let Some(reason) = reason {
            metrics::counter!(names::RESETS, "reason" => reason.as_str()).increment(1);
        }
        let cause = if resume == Resume::Fresh { "join" } else { "reconnect" };
        metrics::counter!(names::CATCH_UPS, "cause" => cause).increment(1);
        self.say(&ServerFrame::Joined {
            request_ref: request_ref.as_ref(),
            room: &room,
            resume,
            reason,
            since,
            head,
            unread: head.seq.saturating_sub(read),
        });
        self.page(id, page);
    }

    fn history_answered(&mut self, request_ref: Option<RequestRef>, room: &Room, answer: Option<&Arc<Answer>>) {
        if let Some(Answer::History { entries, more, floor, head }) = answer.map(Arc::as_ref) {
            let (more, floor, head) = (*more, *floor, *head);
            let request_ref = request_ref.as_ref();
            self.say(&ServerFrame::History { request_ref, room, entries, more, floor, head });
        } else {
            let refusal = Refusal::new(ErrorCode::Unavailable, "the history can't be read now").in_room(room);
            self.refuse(&refusal.to(request_ref).retry_after_ms(RETRY_MS));
        }
    }
}

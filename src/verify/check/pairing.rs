//! Two accounts of the same entries side by side, both along their ids.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::ViolationKind;
use crate::verify::{Content, Seen};

/// One step along two accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pair<T> {
    /// Both have it.
    Both(T, T),
    /// Only the first has it.
    First(T),
    /// Only the second has it.
    Second(T),
}

/// Walks two accounts at once, holding only what was fed and is not walked yet.
///
/// Each must be fed along its ids; [`Pairing::step`] waits for a side that is empty and has not ended.
#[derive(Debug)]
pub struct Pairing<T> {
    first: VecDeque<T>,
    second: VecDeque<T>,
    /// Whether nothing more is fed to the first, and to the second.
    ended: (bool, bool),
}

impl<T> Default for Pairing<T> {
    fn default() -> Self {
        Self { first: VecDeque::new(), second: VecDeque::new(), ended: (false, false) }
    }
}

impl<T: AsRef<Seen>> Pairing<T> {
    /// More of the first account.
    pub fn feed_first(&mut self, entries: impl IntoIterator<Item = T>, ended: bool) {
        self.first.extend(entries);
        self.ended.0 |= ended;
    }

    /// More of the second account.
    pub fn feed_second(&mut self, entries: impl IntoIterator<Item = T>, ended: bool) {
        self.second.extend(entries);
        self.ended.1 |= ended;
    }

    /// Whether the first account has to be fed before the next step.
    pub fn wants_first(&self) -> bool {
        self.first.is_empty() && !self.ended.0
    }

    /// Whether the second account has to be fed before the next step.
    pub fn wants_second(&self) -> bool {
        self.second.is_empty() && !self.ended.1
    }

    /// The next entry along the ids; nothing if a side has to be fed, or both have ended.
    pub fn step(&mut self) -> Option<Pair<T>> {
        if self.wants_first() || self.wants_second() {
            return None;
        }
        let order = match (self.first.front(), self.second.front()) {
            (Some(first), Some(second)) => first.as_ref().id.cmp(&second.as_ref().id),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        match order {
            Ordering::Less => self.first.pop_front().map(Pair::First),
            Ordering::Greater => self.second.pop_front().map(Pair::Second),
            Ordering::Equal => Some(Pair::Both(self.first.pop_front()?, self.second.pop_front()?)),
        }
    }
}

impl AsRef<Seen> for Seen {
    fn as_ref(&self) -> &Seen {
        self
    }
}

/// How an account of an entry differs from the truth, apart from its id.
pub fn differences(truth: &Seen, account: &Seen) -> Vec<(ViolationKind, String)> {
    let mut wrong = Vec::new();
    if truth.seq != account.seq {
        wrong.push((ViolationKind::SeqAltered, format!("number {} instead of {}", account.seq, truth.seq)));
    }
    if truth.room != account.room {
        wrong.push((ViolationKind::BodyAltered, format!("room {} instead of {}", account.room, truth.room)));
    }
    if truth.content != account.content {
        let message = match (&truth.content, &account.content) {
            (Content::Message { body, cid, .. }, Content::Message { body: other, cid: same, .. }) if cid == same => {
                format!("body {other} instead of {body}")
            }
            (truth, account) => format!("{account} instead of {truth}"),
        };
        wrong.push((ViolationKind::BodyAltered, message));
    }
    wrong
}

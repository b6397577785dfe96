//! Single mistakes that can be put into a history, and the names under which they must be found.

use millstream::model::{EntryId, Room};
use millstream::verify::{Content, Digest, Event, Fact, History, Seen, ViolationKind};

use crate::facts::{body_of, body_of_mut, for_each_seq, seen_mut};
use crate::world::message;

/// The history as somebody wrote it down, and where the last catch-up begins.
pub(crate) struct Right<'a> {
    pub(crate) history: &'a History,
    pub(crate) final_from: usize,
    /// Which of several places a mistake is made at.
    pub(crate) pick: usize,
}

type Made = Option<(History, Vec<ViolationKind>)>;

/// Makes one mistake in a right history.
pub(crate) type Mistake = fn(&Right<'_>) -> Made;

/// Every mistake, by name.
pub(crate) const ALL: &[(&str, Mistake)] = &[
    ("a row less in the log", |r| r.drop(|r, n| matches!(r.fact(n), Fact::Logged { .. }), ViolationKind::MissingInLog)),
    // The worker's count of rows tells it too.
    ("a row less in the archive", |r| {
        let (history, mut kinds) = r.drop(
            |r, n| matches!(r.fact(n), Fact::Archived { seen } if r.is_logged(seen)),
            ViolationKind::MissingInArchive,
        )?;
        kinds.push(ViolationKind::MetricsDisagree);
        Some((history, kinds))
    }),
    ("a delivery less", |r| {
        r.drop(
            |r, n| n >= r.final_from && matches!(r.fact(n), Fact::Delivered { .. }),
            ViolationKind::MissingAtSubscriber,
        )
    }),
    ("a delivery twice", |r| {
        r.twice(|fact| matches!(fact, Fact::Delivered { .. }), ViolationKind::DeliveredTwice, |_| {})
    }),
    ("a row of the log twice", |r| {
        r.twice(|fact| matches!(fact, Fact::Logged { .. }), ViolationKind::StoredTwice, |_| {})
    }),
    ("a row of the archive twice", |r| {
        r.twice(|fact| matches!(fact, Fact::Archived { .. }), ViolationKind::StoredTwice, |_| {})
    }),
    ("a call under another id", |r| {
        r.twice(
            |fact| matches!(fact, Fact::Called { .. }),
            ViolationKind::WebhookIdUnstable,
            |fact| {
                if let Fact::Called { webhook_id, .. } = fact {
                    *webhook_id = "msg_other".into();
                }
            },
        )
    }),
    ("a call with other bytes", |r| {
        r.twice(
            |fact| matches!(fact, Fact::Called { .. }),
            ViolationKind::WebhookBodyUnstable,
            |fact| {
                if let Fact::Called { bytes, .. } = fact {
                    *bytes = Digest::of_bytes(b"other");
                }
            },
        )
    }),
    ("two deliveries swapped", |r| r.swap(r.neighbours(is_same_delivery), ViolationKind::OrderBroken)),
    ("two sends swapped", |r| r.swap(r.neighbours(is_same_burst), ViolationKind::OrderBroken)),
    ("two calls swapped", |r| r.swap(r.first_calls(), ViolationKind::OrderBroken)),
    ("a send that left later", left_later),
    ("a call less", call_less),
    ("an altered body", |r| {
        r.alter(
            |fact| body_of(fact).is_some(),
            ViolationKind::BodyAltered,
            |fact| {
                if let Some(body) = body_of_mut(fact) {
                    *body = Digest::of_json("\"altered\"");
                }
            },
        )
    }),
    ("another number in an account", |r| {
        r.alter(
            |fact| matches!(fact, Fact::Delivered { .. } | Fact::Called { .. }),
            ViolationKind::SeqAltered,
            |fact| {
                if let Some(seen) = seen_mut(fact) {
                    seen.seq += 1_000;
                }
            },
        )
    }),
    ("another number in an answer", |r| {
        r.alter(
            |fact| matches!(fact, Fact::Accepted { .. }),
            ViolationKind::AnswerDisagrees,
            |fact| {
                if let Fact::Accepted { seq, .. } = fact {
                    *seq += 1_000;
                }
            },
        )
    }),
    ("an advanced cursor", |r| {
        r.alter(
            |fact| matches!(fact, Fact::Saved { .. }),
            ViolationKind::CursorAhead,
            |fact| {
                if let Fact::Saved { cursor, .. } = fact {
                    cursor.seq += 10_000;
                }
            },
        )
    }),
    ("a live point behind its history", |r| {
        r.alter(
            |fact| matches!(fact, Fact::Live { seq: 1.., .. }),
            ViolationKind::SeqAltered,
            |fact| {
                if let Fact::Live { seq, .. } = fact {
                    *seq -= 1;
                }
            },
        )
    }),
    ("a live point beyond its history", |r| {
        let n = r.one(|r, n| n >= r.final_from && matches!(r.fact(n), Fact::Live { .. }))?;
        let mut history = r.history.clone();
        if let Fact::Live { seq, .. } = &mut history.events[n].fact {
            *seq += 10_000;
        }
        Some((history, vec![ViolationKind::SeqAltered]))
    }),
    ("a number left out", |r| r.renumber(1, ViolationKind::SeqGap)),
    ("a number given twice", |r| r.renumber(-1, ViolationKind::SeqDoubled)),
    ("an invented row of the log", |r| r.invent(|seen| Fact::Logged { epoch: "e1".into(), seen }, "supervisor")),
    ("an invented row of the archive", |r| r.invent(|seen| Fact::Archived { seen }, "supervisor")),
    ("an invented delivery", |r| r.invent(|seen| Fact::Delivered { seen, replay: false }, "subscriber-0")),
    ("an invented call", |r| {
        let bytes = Digest::of_bytes(b"x");
        let call = |seen| Fact::Called { webhook_id: "msg_x".into(), bytes, status: 200, replay: false, seen };
        r.invent(call, "endpoint-a")
    }),
    ("a message at two places", |r| {
        let stored = r.messages();
        let seen = stored.get(r.pick % stored.len().max(1))?;
        Some(r.store_more(seen.room.clone(), seen.content.clone(), ViolationKind::StoredTwice))
    }),
    ("a refused message that is stored", |r| {
        let n = r.one(|r, n| matches!(r.fact(n), Fact::Refused { .. }))?;
        let Fact::Refused { room, cid, .. } = r.fact(n) else { return None };
        let p = usize::from(r.history.events[n].who.ends_with('1'));
        Some(r.store_more(room.clone(), message(p, cid), ViolationKind::RefusedButStored))
    }),
    ("something left pending", |r| {
        r.alter(
            |fact| matches!(fact, Fact::Pending { .. }),
            ViolationKind::PendingLeft,
            |fact| {
                if let Fact::Pending { count, .. } = fact {
                    *count = 3;
                }
            },
        )
    }),
    ("a metric that counts too much", |r| {
        let rows = |fact: &Fact| matches!(fact, Fact::Metric { name, .. } if name.contains("archive_rows"));
        r.alter(rows, ViolationKind::MetricsDisagree, |fact| {
            if let Fact::Metric { value, .. } = fact {
                *value += 1.0;
            }
        })
    }),
    ("a slow end", |r| {
        r.alter(
            |fact| matches!(fact, Fact::Exited { .. }),
            ViolationKind::SlowStop,
            |fact| {
                if let Fact::Exited { took_ms, .. } = fact {
                    *took_ms = 20_001;
                }
            },
        )
    }),
    ("a panic", |r| {
        let fact = Fact::LogText { process: "edge".into(), kind: "panic".into(), text: "thread panicked".into() };
        Some((r.with(fact, "supervisor"), vec![ViolationKind::Panic]))
    }),
    ("a dead letter", |r| {
        let (group, room, id) = ("callback:a".into(), Room::new("room-0").ok()?, EntryId::new(1, 0));
        Some((
            r.with(Fact::Dead { group, room, id, reason: "refused".into() }, "supervisor"),
            vec![ViolationKind::DeadLeft],
        ))
    }),
];

impl Right<'_> {
    fn fact(&self, n: usize) -> &Fact {
        &self.history.events[n].fact
    }

    fn is_logged(&self, seen: &Seen) -> bool {
        self.history.events.iter().any(|event| matches!(&event.fact, Fact::Logged { seen: s, .. } if s == seen))
    }

    /// One of the events that fit.
    fn one(&self, fits: impl Fn(&Self, usize) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.history.events.len()).filter(|n| fits(self, *n)).collect();
        fitting.get(self.pick % fitting.len().max(1)).copied()
    }

    fn drop(&self, fits: impl Fn(&Self, usize) -> bool, kind: ViolationKind) -> Made {
        let n = self.one(fits)?;
        let mut history = self.history.clone();
        history.events.remove(n);
        Some((history, vec![kind]))
    }

    fn twice(&self, fits: impl Fn(&Fact) -> bool, kind: ViolationKind, change: impl Fn(&mut Fact)) -> Made {
        let n = self.one(|r, n| fits(r.fact(n)))?;
        let mut history = self.history.clone();
        let mut copy = history.events[n].clone();
        change(&mut copy.fact);
        history.events.insert(n + 1, copy);
        Some((history, vec![kind]))
    }

    fn alter(&self, fits: impl Fn(&Fact) -> bool, kind: ViolationKind, change: impl Fn(&mut Fact)) -> Made {
        let n = self.one(|r, n| fits(r.fact(n)))?;
        let mut history = self.history.clone();
        change(&mut history.events[n].fact);
        Some((history, vec![kind]))
    }

    /// Two events change places.
    fn swap(&self, pairs: Vec<(usize, usize)>, kind: ViolationKind) -> Made {
        let (a, b) = *pairs.get(self.pick % pairs.len().max(1))?;
        let mut history = self.history.clone();
        let fact = history.events[a].fact.clone();
        history.events[a].fact = std::mem::replace(&mut history.events[b].fact, fact);
        Some((history, vec![kind]))
    }

    fn neighbours(&self, fits: fn(&Event, &Event) -> bool) -> Vec<(usize, usize)> {
        let events = &self.history.events;
        (1..events.len()).filter(|n| fits(&events[n - 1], &events[*n])).map(|n| (n - 1, n)).collect()
    }

    /// First acceptances of entries that follow each other in a room.
    fn first_calls(&self) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for name in ["room-0", "room-1"] {
            let mut firsts: Vec<(usize, EntryId)> = Vec::new();
            for (n, event) in self.history.events.iter().enumerate() {
                if let Fact::Called { seen, status: 200..300, .. } = &event.fact
                    && seen.room.as_str() == name
                    && firsts.last().is_none_or(|(_, id)| *id < seen.id)
                {
                    firsts.push((n, seen.id));
                }
            }
            pairs.extend(firsts.windows(2).map(|pair| (pair[0].0, pair[1].0)));
        }
        pairs
    }

    /// The same history, in which the numbers of a room jump behind one of its messages.
    fn renumber(&self, by: i64, kind: ViolationKind) -> Made {
        let stored = self.messages();
        let later: Vec<&Seen> = stored.iter().filter(|seen| seen.seq > 1).collect();
        let first = later.get(self.pick % later.len().max(1))?;
        let (room, seq) = (first.room.clone(), first.seq);
        let mut history = self.history.clone();
        for event in &mut history.events {
            for_each_seq(&mut event.fact, &room, &mut |n| {
                if *n >= seq {
                    *n = n.saturating_add_signed(by);
                }
            });
        }
        Some((history, vec![kind]))
    }

    fn messages(&self) -> Vec<Seen> {
        let stored = self.history.events.iter().filter_map(|event| match &event.fact {
            Fact::Archived { seen } => Some(seen),
            _ => None,
        });
        stored.filter(|seen| matches!(seen.content, Content::Message { .. })).cloned().collect()
    }

    /// The place after the last entry of a room.
    fn place(&self, room: &Room) -> (EntryId, u64) {
        let of = self.history.events.iter().filter_map(|event| match &event.fact {
            Fact::Archived { seen } if seen.room == *room => Some(seen.seq),
            _ => None,
        });
        (EntryId::new(9_000_000, 0), of.max().unwrap_or_default() + 1)
    }

    fn with(&self, fact: Fact, who: &str) -> History {
        let mut history = self.history.clone();
        let n = history.events.len() - 1;
        history.events.insert(n, Event::new(history.events[n].at_us, who, fact));
        history
    }

    fn invent(&self, fact: impl FnOnce(Seen) -> Fact, who: &str) -> Made {
        let room = Room::new("room-0").ok()?;
        let (id, seq) = self.place(&room);
        let seen = Seen { room, id, seq, content: message(0, "nobody-sent-it") };
        Some((self.with(fact(seen), who), vec![ViolationKind::Invented]))
    }

    /// Log and archive hold one more that nobody else knows of.
    fn store_more(&self, room: Room, content: Content, kind: ViolationKind) -> (History, Vec<ViolationKind>) {
        let (id, seq) = self.place(&room);
        let seen = Seen { room, id, seq, content };
        let mut history = self.with(Fact::Archived { seen: seen.clone() }, "supervisor");
        let n = history.events.len() - 1;
        history.events.insert(n, Event::new(0, "supervisor", Fact::Logged { epoch: "e1".into(), seen }));
        (history, vec![kind, ViolationKind::MissingAtEndpoint, ViolationKind::MissingAtSubscriber])
    }
}

/// A send whose publisher claims that it left only after a later one was accepted.
fn left_later(right: &Right<'_>) -> Made {
    let events = &right.history.events;
    let mut pairs = Vec::new();
    for (n, event) in events.iter().enumerate() {
        let Fact::Accepted { room, id, .. } = &event.fact else { continue };
        let earlier = events.iter().find_map(|other| match &other.fact {
            Fact::Accepted { room: r, id: i, cid, .. } if r == room && i < id => Some((other.who.clone(), cid.clone())),
            _ => None,
        });
        pairs.extend(earlier.map(|earlier| (n, earlier)));
    }
    let (n, (who, cid)) = pairs.get(right.pick % pairs.len().max(1))?;
    let mut history = right.history.clone();
    let late = history.events[*n].at_us + 1;
    for event in history.events.iter_mut().filter(|event| event.who == *who) {
        if matches!(&event.fact, Fact::Invoked { cid: c, .. } if c == cid) {
            event.at_us = late;
        }
    }
    Some((history, vec![ViolationKind::RealTimeOrderBroken]))
}

/// An endpoint that never got one of the items.
fn call_less(right: &Right<'_>) -> Made {
    let n = right.one(|r, n| matches!(r.fact(n), Fact::Called { .. }))?;
    let Fact::Called { seen: gone, .. } = right.fact(n) else { return None };
    let mut history = right.history.clone();
    history.events.retain(|event| !matches!(&event.fact, Fact::Called { seen, .. } if seen.id == gone.id));
    Some((history, vec![ViolationKind::MissingAtEndpoint]))
}

fn is_same_delivery(a: &Event, b: &Event) -> bool {
    match (&a.fact, &b.fact) {
        (Fact::Delivered { seen: one, .. }, Fact::Delivered { seen: two, .. }) => {
            a.who == b.who && one.room == two.room
        }
        _ => false,
    }
}

/// Two sends that are under way at once.
fn is_same_burst(a: &Event, b: &Event) -> bool {
    match (&a.fact, &b.fact) {
        (Fact::Invoked { room: one, attempt: 1, .. }, Fact::Invoked { room: two, attempt: 1, .. }) => {
            a.who == b.who && one == two
        }
        _ => false,
    }
}

//! Judges a [`History`]: is every account the log, from where it began, once and in order?
//!
//! What the log and the archive hold at the end is the truth that everybody else's account is
//! compared with; what publishers were told is compared with that truth.
//!
//! **Invariant:** a verdict is [`Verdict::Valid`] only if the final state was collected and everything
//! that the run was to test has happened.
//!
//! # Design
//! Each check looks for one thing and leaves to others what is theirs, so that one defect is reported
//! under one name: negative controls and people rely on the names.
//! Costs are O(n log n): everything is sorted once by room and id, then walked.

mod calling;
mod coverage;
mod density;
mod ending;
mod index;
mod ordering;
mod pairing;
mod reading;
mod stored;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::density::Density;
use self::index::Index;
pub use self::pairing::{Pair, Pairing, differences};
use super::{History, Name, Seen};
use crate::model::{EntryId, Room};

/// Violations of one kind that are told in full: more are counted only.
const TOLD_PER_KIND_MAX: usize = 100;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:literal;)*) => {
        /// What is wrong. Its name is stable: scripts and negative controls compare it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum ViolationKind {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $kind,)*
        }

        impl ViolationKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// An acknowledged message, or an entry that the archive holds, is not in the log.
    MissingInLog "missing-in-log";
    /// An acknowledged message, or an entry that the log holds, is not in the archive.
    MissingInArchive "missing-in-archive";
    /// An entry that an endpoint wants never reached it.
    MissingAtEndpoint "missing-at-endpoint";
    /// An entry was passed over on a connection without being announced.
    MissingAtSubscriber "missing-at-subscriber";
    /// One message, or one row, is stored twice.
    StoredTwice "stored-twice";
    /// What `sent` said of a message is not where it stands.
    AnswerDisagrees "answer-disagrees";
    /// The numbers of a room leave one out.
    SeqGap "seq-gap";
    /// Two messages of a room have one number.
    SeqDoubled "seq-doubled";
    /// Somebody has another number for an entry than the log.
    SeqAltered "seq-altered";
    /// A device's saved position is further than what it acknowledged.
    CursorAhead "cursor-ahead";
    /// An entry came twice on one connection, or before where it began.
    DeliveredTwice "delivered-twice";
    /// A publisher's messages, or somebody's account of a room, are in another order.
    OrderBroken "order-broken";
    /// A message that was sent after another was accepted stands before it.
    RealTimeOrderBroken "real-time-order-broken";
    /// Somebody has another content for an entry.
    BodyAltered "body-altered";
    /// Nobody sent it, or the log never held it.
    Invented "invented";
    /// Every attempt was refused for good, and it is there all the same.
    RefusedButStored "refused-but-stored";
    /// One item was called back under two ids, or two under one.
    WebhookIdUnstable "webhook-id-unstable";
    /// Two attempts of one callback had different bodies.
    WebhookBodyUnstable "webhook-body-unstable";
    /// A group has not settled everything.
    PendingLeft "pending-left";
    /// An entry was given up.
    DeadLeft "dead-left";
    /// A metric counts something else than what happened.
    MetricsDisagree "metrics-disagree";
    /// A process that was asked to end did not in time, or not with success.
    SlowStop "slow-stop";
    /// A process panicked.
    Panic "panic";
}

impl fmt::Display for ViolationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Violation {
    /// What.
    pub kind: ViolationKind,
    /// In which room, if in one.
    pub room: Option<Room>,
    /// With which entry, if with one.
    pub id: Option<EntryId>,
    /// The whole of it, for a person.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

/// What a history shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Everything agrees, and everything that was required has happened.
    Valid,
    /// Something is wrong.
    Invalid(Vec<Violation>),
    /// Nothing is wrong, but these did not happen: nothing is shown.
    Unknown(Vec<Name>),
}

impl Verdict {
    /// The kinds of what is wrong, each once.
    pub fn kinds(&self) -> Vec<ViolationKind> {
        let Self::Invalid(violations) = self else { return Vec::new() };
        let mut kinds: Vec<_> = violations.iter().map(|violation| violation.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

/// What is asked of a history beyond that it agrees.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// What must have happened: `fault`, `fault:<name>`, `retry`, `duplicate`, `unanswered`, `catch-up`,
    /// `reset`, `crash`, `callback-retry`, `kill`, `stop`, or what a [`Fact::Happened`](super::Fact::Happened)
    /// names, as `take-over` and `unclear-commit`.
    pub required: Vec<Name>,
    /// Whether entries may have been given up: then they are owed to nobody. Else each is a violation.
    pub dead_allowed: bool,
}

impl Rules {
    /// These must have happened; nothing may have been given up.
    pub fn requiring(required: &[&str]) -> Self {
        Self { required: required.iter().map(|name| Name::from(*name)).collect(), dead_allowed: false }
    }
}

/// Judges a history. It must hold everything of its rooms, from their first entry on.
///
/// ```
/// use millstream::verify::{History, Rules, Verdict, check};
/// // Without a final state nothing is shown.
/// assert_eq!(check(&History::default(), &Rules::default()), Verdict::Unknown(vec!["final-state".into()]));
/// ```
pub fn check(history: &History, rules: &Rules) -> Verdict {
    let missing = coverage::missing(history, &rules.required);
    if missing.iter().any(|what| **what == *coverage::FINAL_STATE) {
        return Verdict::Unknown(missing);
    }
    let index = Index::new(history);
    let mut found = Found::default();
    stored::check(&index, &mut found);
    density::check(&index, &mut found);
    ordering::check(&index, &mut found);
    reading::check(history, &index, &mut found);
    calling::check(history, &index, &mut found);
    ending::check(history, &index, rules, &mut found);
    match (found.into_violations(), missing.is_empty()) {
        (violations, _) if !violations.is_empty() => Verdict::Invalid(violations),
        (_, true) => Verdict::Valid,
        (_, false) => Verdict::Unknown(missing),
    }
}

/// Violations as they are found.
#[derive(Default)]
struct Found {
    by_kind: BTreeMap<ViolationKind, (Vec<Violation>, usize)>,
}

impl Found {
    fn add(&mut self, kind: ViolationKind, room: Option<&Room>, id: Option<EntryId>, message: String) {
        let (told, untold) = self.by_kind.entry(kind).or_default();
        if told.len() < TOLD_PER_KIND_MAX {
            told.push(Violation { kind, room: room.cloned(), id, message });
        } else {
            *untold += 1;
        }
    }

    /// One about an entry.
    fn entry(&mut self, kind: ViolationKind, seen: &Seen, message: impl fmt::Display) {
        self.add(kind, Some(&seen.room), Some(seen.id), format!("{seen}: {message}"));
    }

    fn into_violations(self) -> Vec<Violation> {
        let mut all = Vec::new();
        for (kind, (told, untold)) in self.by_kind {
            all.extend(told);
            if untold > 0 {
                all.push(Violation { kind, room: None, id: None, message: format!("and {untold} more") });
            }
        }
        all
    }
}

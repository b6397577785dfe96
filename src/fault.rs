//! Faults that can be put in on purpose: each breaks one promise, to show that the checker finds it.
//!
//! The torture run's negative controls (`tests/torture/controls.rs`) build with the feature `faults` and
//! choose one per process with `MILLSTREAM_FAULT=ack-before-xadd`. Without the feature nothing of this is
//! in a build: [`active`] is constantly false, and what it guards is compiled away.
//!
//! # Design
//! A fault stands at the very place where its mistake would be made, as one condition. Where a second
//! guard would heal it, the fault takes that guard away too: otherwise the control would show nothing.

/// A mistake that somebody could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The edge says `sent` before the publish script has run.
    AckBeforeXadd,
    /// The publish script remembers no cid.
    NoDeduplication,
    /// The archive acknowledges a batch before its transaction, and trusts the group's position afterwards.
    XackBeforeCommit,
    /// A lost group is made again at the end of the log, and nobody looks whether it was given everything.
    GroupAtDollar,
    /// A device's cursor is saved when an entry comes up for delivery.
    CursorBeforeDelivery,
    /// Live entries that come during a catch-up are dropped, and nobody looks for the hole.
    NoSplice,
    /// Retention asks nobody what he still needs.
    TrimWithoutFloor,
    /// An endpoint's 5xx is taken for its acceptance.
    WebhookDroppedAt500,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AckBeforeXadd,
        Self::NoDeduplication,
        Self::XackBeforeCommit,
        Self::GroupAtDollar,
        Self::CursorBeforeDelivery,
        Self::NoSplice,
        Self::TrimWithoutFloor,
        Self::WebhookDroppedAt500,
    ];

    /// Its name, as `MILLSTREAM_FAULT` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeXadd => "ack-before-xadd",
            Self::NoDeduplication => "no-deduplication",
            Self::XackBeforeCommit => "xack-before-commit",
            Self::GroupAtDollar => "group-at-dollar",
            Self::CursorBeforeDelivery => "cursor-before-delivery",
            Self::NoSplice => "no-splice",
            Self::TrimWithoutFloor => "trim-without-floor",
            Self::WebhookDroppedAt500 => "webhook-dropped-at-500",
        }
    }
}

/// Whether this build can have faults put in.
pub const POSSIBLE: bool = cfg!(feature = "faults");

/// Whether a fault was put in.
#[cfg(not(feature = "faults"))]
pub const fn active(_: Fault) -> bool {
    false
}

/// Whether a fault was put in.
#[cfg(feature = "faults")]
pub fn active(fault: Fault) -> bool {
    chosen() == Some(fault)
}

/// The fault that was put in.
#[cfg(not(feature = "faults"))]
pub const fn chosen() -> Option<Fault> {
    None
}

/// The fault that was put in: read once per process, at its start.
///
/// # Panics
/// If `MILLSTREAM_FAULT` names none: a control that runs without its fault would show nothing.
#[cfg(feature = "faults")]
pub fn chosen() -> Option<Fault> {
    static CHOSEN: std::sync::OnceLock<Option<Fault>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let wanted = std::env::var("MILLSTREAM_FAULT").ok().filter(|name| !name.is_empty())?;
        let found = Fault::ALL.into_iter().find(|fault| fault.name() == wanted);
        let names = || Fault::ALL.map(Fault::name).join(", ");
        Some(found.unwrap_or_else(|| panic!("MILLSTREAM_FAULT={wanted} is none of {}", names())))
    })
}

//! The checker, checked: a history of a system that is right is valid, and each single mistake in it
//! is found under its own name and no other.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

mod facts;
mod mutations;
mod world;

use std::collections::BTreeSet;

use millstream::model::{EntryId, Room};
use millstream::verify::{Event, Fact, History, Rules, Verdict, check};
use proptest::collection::vec;
use proptest::prelude::*;

use self::mutations::Right;
use self::world::{Step, World};

/// Steps of a run: long enough for every fault to meet every other.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(any::<Step>(), 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_history_of_a_right_system_is_valid(steps in steps()) {
        let (history, _) = World::run(&steps);
        prop_assert_eq!(check(&history, &Rules::default()), Verdict::Valid);
    }

    #[test]
    fn each_single_mistake_is_found_under_its_name_and_no_other(steps in steps(), pick in any::<u16>()) {
        let (history, final_from) = World::run(&steps);
        let right = Right { history: &history, final_from, pick: usize::from(pick) };
        for (name, make) in mutations::ALL {
            let Some((wrong, mut expected)) = make(&right) else { continue };
            expected.sort_unstable();
            let verdict = check(&wrong, &Rules::default());
            prop_assert_eq!(verdict.kinds(), expected, "{}: {:?}", name, verdict);
        }
    }

    #[test]
    fn lines_of_json_are_the_history(steps in steps()) {
        let (history, _) = World::run(&steps);
        prop_assert_eq!(History::from_lines(&history.to_lines()).unwrap(), history);
    }
}

/// A long run in which everything happens.
fn long_run() -> (History, usize) {
    let step = |n: u32| {
        let [a, b, c, d] = n.wrapping_mul(2_654_435_761).to_be_bytes();
        (a, b, c, d)
    };
    let steps: Vec<Step> = (1..600).map(step).collect();
    World::run(&steps)
}

/// A mistake that no history has room for would be tested by nothing.
#[test]
fn every_mistake_can_be_made() {
    let (history, final_from) = long_run();
    let mut kinds = BTreeSet::new();
    for (name, make) in mutations::ALL {
        let right = Right { history: &history, final_from, pick: 5 };
        let (wrong, expected) = make(&right).unwrap_or_else(|| panic!("{name}: nowhere to make it"));
        assert_ne!(wrong, history, "{name}");
        kinds.extend(expected);
    }
    let all: BTreeSet<_> = millstream::verify::ViolationKind::ALL.iter().copied().collect();
    assert_eq!(kinds, all, "kinds that no mistake stands for");
}

#[test]
fn what_was_required_and_did_not_happen_leaves_it_unknown() {
    let (history, _) = long_run();
    let seen = ["retry", "duplicate", "unanswered", "catch-up", "reset", "crash", "callback-retry", "stop"];
    assert_eq!(check(&history, &Rules::requiring(&seen)), Verdict::Valid);
    let required = Rules::requiring(&["retry", "fault:redis-killed", "take-over"]);
    let missing = vec!["fault:redis-killed".into(), "take-over".into()];
    assert_eq!(check(&history, &required), Verdict::Unknown(missing));
    let mut more = history.clone();
    more.events.insert(0, Event::new(0, "supervisor", Fact::Fault { name: "redis-killed".into(), on: true }));
    more.events.insert(0, Event::new(0, "supervisor", Fact::Happened { what: "take-over".into() }));
    assert_eq!(check(&more, &required), Verdict::Valid);
}

#[test]
fn without_a_final_state_nothing_is_shown() {
    let (mut history, _) = long_run();
    history.events.retain(|event| event.fact != Fact::Collected);
    assert_eq!(check(&history, &Rules::default()), Verdict::Unknown(vec!["final-state".into()]));
}

/// What a fault beyond the chosen durability took is owed to nobody, and nothing else is excused.
#[test]
fn what_may_be_lost_is_not_missing() {
    let (history, _) = long_run();
    let lost = history.events.iter().rev().find_map(|event| match &event.fact {
        Fact::Accepted { room, id, .. } if *room == Room::new("room-0").unwrap() => Some(*id),
        _ => None,
    });
    let lost = lost.unwrap();
    let mut wrong = history.clone();
    wrong.events.retain(|event| match &event.fact {
        Fact::Logged { seen, .. } | Fact::Archived { seen } => seen.id < lost || seen.room.as_str() != "room-0",
        // What the workers counted went with it.
        Fact::Metric { .. } => false,
        _ => true,
    });
    assert!(matches!(check(&wrong, &Rules::default()), Verdict::Invalid(_)));
    let (room, after, before) = (Room::new("room-0").unwrap(), lost.previous(), EntryId::MAX);
    wrong.events.insert(0, Event::new(0, "supervisor", Fact::Lost { room, after, before }));
    assert_eq!(check(&wrong, &Rules::default()).kinds(), []);
}

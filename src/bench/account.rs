//! What one receiver got of each sender: lost, repeated, out of order.

use std::collections::BTreeSet;

use super::body::Stamp;

/// Gaps that are remembered one by one; beyond, they only count.
const MISSING_MAX: usize = 100_000;

/// A receiver's account of one publisher.
#[derive(Debug, Default)]
struct OfPublisher {
    /// Next expected number.
    next: u64,
    missing: BTreeSet<u64>,
    beyond: u64,
}

/// A receiver's account of all publishers of its room.
#[derive(Debug)]
pub(super) struct Account {
    /// The room's first publisher; its publishers have numbers in a row.
    first: u32,
    publishers: Vec<OfPublisher>,
    pub(super) received: u64,
    pub(super) duplicates: u64,
    pub(super) out_of_order: u64,
}

impl Account {
    /// An account of these publishers: `count` numbers from `first` on.
    pub(super) fn new(first: u32, count: u32) -> Self {
        let publishers = (0..count).map(|_| OfPublisher::default()).collect();
        Self { first, publishers, received: 0, duplicates: 0, out_of_order: 0 }
    }

    /// Notes a message; gives whether it is the first of its kind.
    pub(super) fn take(&mut self, stamp: Stamp) -> bool {
        let index = stamp.publisher.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        // Of another load in the same room.
        let Some(publisher) = index.and_then(|index| self.publishers.get_mut(index)) else { return false };
        if stamp.n < publisher.next && !publisher.missing.remove(&stamp.n) {
            self.duplicates += 1;
            return false;
        }
        self.received += 1;
        if stamp.n < publisher.next {
            self.out_of_order += 1;
            return true;
        }
        for missed in publisher.next..stamp.n {
            if publisher.missing.len() < MISSING_MAX {
                publisher.missing.insert(missed);
            } else {
                publisher.beyond += 1;
            }
        }
        publisher.next = stamp.n + 1;
        true
    }

    /// How many of the accepted messages are missing: for each publisher, how many it sent and
    /// which of them were not accepted.
    pub(super) fn lost(&self, sent: &[(u64, BTreeSet<u64>)]) -> u64 {
        let lost = self.publishers.iter().zip(sent).map(|(publisher, (sent, refused))| {
            let gaps = publisher.missing.iter().filter(|n| !refused.contains(n)).count() as u64;
            let tail = (publisher.next..*sent).filter(|n| !refused.contains(n)).count() as u64;
            gaps + tail + publisher.beyond
        });
        lost.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(taken: &[u64]) -> Account {
        let mut account = Account::new(5, 2);
        for n in taken {
            account.take(Stamp { publisher: 5, n: *n, at: 0 });
        }
        account
    }

    #[test]
    fn what_comes_once_in_order_is_right() {
        let account = account(&[0, 1, 2]);
        assert_eq!((account.received, account.duplicates, account.out_of_order), (3, 0, 0));
        assert_eq!(account.lost(&[(3, BTreeSet::new()), (0, BTreeSet::new())]), 0);
    }

    #[test]
    fn gaps_repeats_and_disorder_are_told_apart() {
        let account = account(&[0, 3, 3, 1, 1]);
        assert_eq!((account.received, account.duplicates, account.out_of_order), (3, 2, 1));
        assert_eq!(account.lost(&[(6, BTreeSet::new()), (2, BTreeSet::new())]), 5, "2, 4, 5 and both of the other");
        assert_eq!(account.lost(&[(6, BTreeSet::from([2, 5])), (2, BTreeSet::from([0, 1]))]), 1, "what was refused");
    }

    #[test]
    fn other_loads_are_not_counted() {
        let mut account = account(&[]);
        assert!(!account.take(Stamp { publisher: 4, n: 0, at: 0 }));
        assert!(!account.take(Stamp { publisher: 7, n: 0, at: 0 }));
        assert_eq!(account.received, 0);
    }
}

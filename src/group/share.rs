//! How many partitions a worker should own. Pure.

/// The share of `worker` among `workers` (in order, it among them) of `partitions`: each gets the same
/// number, the first ones one more if it doesn't come out even.
pub(super) fn share(partitions: u16, workers: &[String], worker: &str) -> usize {
    let (all, count) = (usize::from(partitions), workers.len());
    let Some(rank) = workers.iter().position(|name| name == worker) else { return 0 };
    all / count + usize::from(rank < all % count)
}

/// Where a worker begins to look for free partitions, so that workers which start together look at
/// different ones.
pub(super) fn first_choice(partitions: u16, workers: &[String], worker: &str) -> u16 {
    let rank = workers.iter().position(|name| name == worker).unwrap_or(0);
    let before: usize = workers[..rank].iter().map(|name| share(partitions, workers, name)).sum();
    u16::try_from(before).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("w{n}")).collect()
    }

    #[test]
    fn the_shares_of_all_workers_are_all_partitions_and_differ_by_one_at_most() {
        for partitions in [1, 2, 3, 7, 16, 100] {
            for count in 1..20 {
                let workers = workers(count);
                let shares: Vec<usize> = workers.iter().map(|worker| share(partitions, &workers, worker)).collect();
                assert_eq!(shares.iter().sum::<usize>(), usize::from(partitions));
                assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
            }
        }
    }

    #[test]
    fn a_worker_that_is_not_among_the_living_has_no_share() {
        assert_eq!(share(16, &workers(2), "other"), 0);
        assert_eq!(share(16, &[], "other"), 0);
    }

    #[test]
    fn workers_begin_to_look_one_after_the_other() {
        let workers = workers(3);
        let firsts: Vec<u16> = workers.iter().map(|worker| first_choice(16, &workers, worker)).collect();
        assert_eq!(firsts, [0, 6, 11]);
    }
}

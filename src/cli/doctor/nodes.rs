//! The nodes of a Redis Cluster: each is looked at, what is the same on all is told once.

use std::collections::BTreeMap;

use super::report::{Finding, Status};
use crate::error::Result;
use crate::model::Partitions;
use crate::stream::Redis;

const CHECK: &str = "redis.cluster";

/// What was found on each server, by its name; without a cluster there is one, without a name.
pub(super) fn fold(found: Vec<(String, Vec<Finding>)>) -> Vec<Finding> {
    let nodes = found.len();
    if let [(name, _)] = found.as_slice()
        && name.is_empty()
    {
        return found.into_iter().flat_map(|(_, findings)| findings).collect();
    }
    let mut checks: Vec<String> = Vec::new();
    let mut by_check: BTreeMap<String, Vec<(String, Finding)>> = BTreeMap::new();
    for (name, findings) in found {
        for finding in findings {
            if !checks.contains(&finding.check) {
                checks.push(finding.check.clone());
            }
            by_check.entry(finding.check.clone()).or_default().push((name.clone(), finding));
        }
    }
    let folded = checks.into_iter().filter_map(|check| by_check.remove(&check).map(|found| fold_check(nodes, found)));
    folded.flatten().collect()
}

/// One check on all nodes: what is well in one line, everything else with its node.
fn fold_check(nodes: usize, found: Vec<(String, Finding)>) -> Vec<Finding> {
    let (well, other): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, finding)| finding.status == Status::Ok);
    let mut folded = Vec::new();
    if let Some((_, first)) = well.first() {
        let count = if well.len() == nodes { format!("all {nodes}") } else { format!("{} of {nodes}", well.len()) };
        let is_same = well.iter().all(|(_, finding)| finding.what == first.what);
        let what = if is_same { &first.what } else { "as it should be" };
        folded.push(Finding::ok(&first.check, format!("{count} nodes: {what}")));
    }
    folded.extend(other.into_iter().map(|(name, finding)| at(&name, finding)));
    folded
}

fn at(name: &str, mut finding: Finding) -> Finding {
    finding.what = format!("{name}: {}", finding.what);
    if let Some((host, port)) = name.rsplit_once(':') {
        finding.fix = finding.fix.replace("with redis-cli:", &format!("with redis-cli -h {host} -p {port}:"));
    }
    finding
}

/// Whether the nodes agree that the cluster serves, and where the partitions are.
pub(super) async fn check(
    redis: &Redis,
    servers: &[(String, Result<Redis>)],
    partitions: Option<Partitions>,
) -> Result<Vec<Finding>> {
    if !redis.is_cluster() {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    for (name, server) in servers.iter().filter_map(|(name, server)| Some((name, server.as_ref().ok()?))) {
        let state = server.cluster_info().await?.text("cluster_state").unwrap_or("unknown").to_owned();
        if state != "ok" {
            findings.push(Finding::fail(
                CHECK,
                format!("{name}: the cluster's state is {state}"),
                "a slot has no master, or this node doesn't see the others: it refuses sends and reads",
                format!("redis-cli --cluster check {name}; start the node that is missing, or promote its replica"),
            ));
        }
        let moving = server.moving_slots().await?;
        if !moving.is_empty() {
            findings.push(Finding::warn(
                CHECK,
                format!("{name}: {} moving between two nodes: {}", slots(moving.len()), moving.join(", ")),
                "sends to partitions of such a slot are refused as unavailable until it has arrived",
                format!("let the move end; if nobody moves it any more: redis-cli --cluster fix {name}"),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "all nodes say that it serves"));
    }
    findings.extend(partitions.and_then(|partitions| spread(redis, partitions)));
    Ok(findings)
}

fn slots(count: usize) -> String {
    if count == 1 { "1 slot is".to_owned() } else { format!("{count} slots are") }
}

/// Which master has how many partitions.
fn spread(redis: &Redis, partitions: Partitions) -> Option<Finding> {
    let mut masters: BTreeMap<String, usize> = BTreeMap::new();
    for p in partitions.all() {
        *masters.entry(redis.node_of(&redis.keys().log(p))?).or_default() += 1;
    }
    let told: Vec<String> = masters.iter().map(|(name, count)| format!("{count} at {name}")).collect();
    Some(Finding::ok("redis.spread", format!("{} partitions: {}", partitions.count(), told.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_everywhere_is_told_once_and_the_rest_with_its_node() {
        let one = |what: &str| vec![Finding::ok("redis.version", what), Finding::ok("redis.eviction", "noeviction")];
        let mut other = one("b");
        other[1] = Finding::fail("redis.eviction", "allkeys-lru", "why", "with redis-cli:\nCONFIG SET x y");
        let folded = fold(vec![("h:1".into(), one("a")), ("h:2".into(), other)]);
        let told: Vec<_> = folded.iter().map(|found| (found.check.as_str(), found.what.as_str())).collect();
        assert_eq!(
            told,
            [
                ("redis.version", "all 2 nodes: as it should be"),
                ("redis.eviction", "1 of 2 nodes: noeviction"),
                ("redis.eviction", "h:2: allkeys-lru"),
            ]
        );
        assert_eq!(folded[2].fix, "with redis-cli -h h -p 2:\nCONFIG SET x y");
        assert_eq!(fold(vec![(String::new(), one("a"))]), one("a"));
    }
}

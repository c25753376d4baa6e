//! What is watched: the alerts, and the panels of the dashboard.

/// How bad an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// Something does not work, or the next loss stops it.
    Critical,
    /// Somebody should look today.
    Warning,
}

impl Severity {
    pub(super) fn word(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
        }
    }
}

/// One alert.
pub(super) struct Alert {
    pub(super) name: &'static str,
    /// In PromQL. Series of one node differ in `instance`.
    pub(super) expression: &'static str,
    /// How long it must hold.
    pub(super) lasts: &'static str,
    pub(super) severity: Severity,
    /// What it means, with the labels of the series.
    pub(super) summary: &'static str,
    /// What to do.
    pub(super) action: &'static str,
}

use Severity::{Critical, Warning};

/// Every alert, the worst first.
pub(super) const ALERTS: &[Alert] = &[
    Alert {
        name: "QuorateGroupWithoutLeader",
        expression: "max by (unit, group) (quorate_group_leads) < 1",
        lasts: "30s",
        severity: Critical,
        summary: "group {{ $labels.group }} of {{ $labels.unit }} has no serving leader",
        action: "run `quorate check unit {{ $labels.unit }}`; start nodes until each group has a majority",
    },
    Alert {
        name: "QuorateNextLossStops",
        expression: "min by (unit, level) (quorate_group_survives{level=\"node\"}) < 1",
        lasts: "5m",
        severity: Critical,
        summary: "the loss of one more {{ $labels.level }} stops groups of {{ $labels.unit }}",
        action: "run `quorate status`: bring back the members that it lists as not caught up",
    },
    Alert {
        name: "QuorateNodeSilent",
        expression: "up{job=\"quorate\"} < 1",
        lasts: "1m",
        severity: Critical,
        summary: "{{ $labels.instance }} gives no metrics",
        action: "run `quorate check cluster`; look at the log of the node, and start it again",
    },
    Alert {
        name: "QuorateNoRoom",
        expression: "quorate_log_has_room < 1",
        lasts: "1m",
        severity: Critical,
        summary: "log or disk of {{ $labels.instance }} has reached its reserve",
        action: "make room on the disk; a log at its cap waits for a member that does not catch up",
    },
    Alert {
        name: "QuorateManyErrors",
        expression: "sum(rate(quorate_requests_total{code=~\"NO_QUORUM|NOT_READY|OVERLOADED|DISK_FULL|DISK_FAILED|INTERNAL\"}[5m])) > 0.05 * sum(rate(quorate_requests_total[5m]))",
        lasts: "5m",
        severity: Critical,
        summary: "more than 5 % of requests fail for reasons of the cluster",
        action: "the dashboard shows the codes; `quorate error CODE` explains each",
    },
    Alert {
        name: "QuorateTransactionsStuck",
        expression: "min_over_time(quorate_group_parked_requests[1m]) > 0 and on (instance, unit, group) rate(quorate_group_entries_applied_total[1m]) == 0",
        lasts: "1m",
        severity: Critical,
        summary: "requests wait for rows that an undecided transaction locks in {{ $labels.unit }}, and nothing moves",
        action: "run `quorate txn list`, then `quorate txn show` and `quorate txn resolve`",
    },
    Alert {
        name: "QuorateLeadersChangeOften",
        expression: "sum by (unit, group) (increase(quorate_group_leader_changes_total[15m])) >= 4",
        lasts: "1m",
        severity: Warning,
        summary: "group {{ $labels.group }} of {{ $labels.unit }} had four elections in 15 minutes",
        action: "look for a slow disk or a bad link: `quorate check cluster`",
    },
    Alert {
        name: "QuorateLeaderAway",
        expression: "min by (unit, group) (quorate_group_leader_home) < 1",
        lasts: "30m",
        severity: Warning,
        summary: "group {{ $labels.group }} of {{ $labels.unit }} is led by a node that is not its first choice",
        action: "run `quorate status`: the first choice is away, behind, has a worse disk, or leaves again and again",
    },
    Alert {
        name: "QuorateVoterSuspended",
        expression: "max by (unit, group) (quorate_group_voters_suspended) > 0",
        lasts: "1m",
        severity: Critical,
        summary: "group {{ $labels.group }} of {{ $labels.unit }} goes on without a voter: what is written has a copy less",
        action: "start the node that `quorate group members` shows as suspended, or give its place to another with `quorate group replace`",
    },
    Alert {
        name: "QuorateRowsMissing",
        expression: "max by (instance, unit, group) (quorate_group_rows_missing) > 0",
        lasts: "10m",
        severity: Warning,
        summary: "{{ $labels.instance }} has no rows of group {{ $labels.group }} and does not get any",
        action: "look at its log for `rows could not be fetched`: a majority must live, and one of it must have the rows",
    },
    Alert {
        name: "QuorateReplicaDiverged",
        expression: "max by (unit, group) (quorate_group_diverged) > 0 or sum by (unit, group) (increase(quorate_group_checks_total{result=~\"diverged|no_majority\"}[15m])) > 0",
        lasts: "0s",
        severity: Critical,
        summary: "replicas of group {{ $labels.group }} of {{ $labels.unit }} hold different rows",
        action: "run `quorate error REPLICA_DIVERGED`; keep the logs of all members, and report it",
    },
    Alert {
        name: "QuorateRowsRepaired",
        expression: "quorate_rows_repaired > 0",
        lasts: "0s",
        severity: Warning,
        summary: "{{ $labels.instance }} found its rows damaged at its start and fetched others",
        action: "check its disk; `quorate status` names the folder the old rows are in",
    },
    Alert {
        name: "QuorateReplicaBehind",
        expression: "quorate_replica_lag_slots > 8192",
        lasts: "2m",
        severity: Warning,
        summary: "{{ $labels.instance }} has not applied what group {{ $labels.group }} decided",
        action: "the node is short of CPU or disk; `quorate check node NAME`",
    },
    Alert {
        name: "QuorateSlowDisk",
        expression: "rate(quorate_log_busy_seconds_total[5m]) > 0.1 * rate(quorate_log_syncs_total[5m])",
        lasts: "10m",
        severity: Warning,
        summary: "a sync of the log takes over 100 ms on average at {{ $labels.instance }}",
        action: "see `Disks that fail slowly` of the operations page; replace the disk",
    },
    Alert {
        name: "QuorateDiskHangs",
        expression: "quorate_log_disk_hangs > 0",
        lasts: "0s",
        severity: Warning,
        summary: "a write of the log of {{ $labels.instance }} has run for over 5 s",
        action: "the node ends by itself after 20 s; look at the disk before you start it again",
    },
    Alert {
        name: "QuorateDiskNearlyFull",
        expression: "quorate_disk_free_bytes < 0.15 * quorate_disk_total_bytes",
        lasts: "5m",
        severity: Warning,
        summary: "{{ $labels.instance }} has less than 15 % of its disk free",
        action: "make room: at 10 % the node hands its leaderships over and refuses writes",
    },
    Alert {
        name: "QuorateLogNearCap",
        expression: "quorate_log_size_bytes > 0.8 * quorate_log_cap_bytes",
        lasts: "5m",
        severity: Warning,
        summary: "the log of {{ $labels.instance }} is over 80 % of its cap",
        action: "it keeps what a member has not got yet: bring back the members that are away",
    },
    Alert {
        name: "QuorateMessagesDropped",
        expression: "rate(quorate_peer_messages_dropped_total[5m]) > 1",
        lasts: "10m",
        severity: Warning,
        summary: "{{ $labels.instance }} drops messages to node {{ $labels.peer }}",
        action: "the link or the peer is too slow, or down",
    },
    Alert {
        name: "QuorateCertificateEnds",
        expression: "quorate_certificate_left_seconds < 14 * 86400",
        lasts: "1h",
        severity: Warning,
        summary: "the certificate of {{ $labels.instance }} ends within 14 days",
        action: "run `quorate cert rotate`: the node reads the new one while it runs",
    },
    Alert {
        name: "QuorateTopologyDiffers",
        expression: "max(quorate_topology_version) > min(quorate_topology_version)",
        lasts: "1m",
        severity: Warning,
        summary: "nodes route by different versions of the cluster file",
        action: "run `quorate check cluster` to see which; give every node the same file",
    },
    Alert {
        name: "QuorateVersionsDiffer",
        expression: "count(count by (version) (quorate_build_info)) > 1",
        lasts: "4h",
        severity: Warning,
        summary: "nodes run different versions of the program",
        action: "finish the upgrade",
    },
];

/// A panel of the dashboard.
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// A unit of Grafana.
    pub(super) unit: &'static str,
    /// Expression and legend of each line.
    pub(super) lines: &'static [(&'static str, &'static str)],
}

/// The panels, two in a row.
pub(super) const PANELS: &[Panel] = &[
    Panel {
        title: "Groups without a serving leader",
        unit: "short",
        lines: &[("count(max by (unit, group) (quorate_group_leads) < 1) or vector(0)", "groups")],
    },
    Panel {
        title: "One more may be lost (1 yes, 0 no)",
        unit: "short",
        lines: &[("min by (unit, level) (quorate_group_survives)", "{{unit}} {{level}}")],
    },
    Panel {
        title: "Requests by code",
        unit: "reqps",
        lines: &[("sum by (code) (rate(quorate_requests_total[1m]))", "{{code}}")],
    },
    Panel {
        title: "Time of requests",
        unit: "s",
        lines: &[
            (
                "histogram_quantile(0.5, sum by (kind, le) (rate(quorate_request_seconds_bucket[1m])))",
                "{{kind}} p50",
            ),
            (
                "histogram_quantile(0.99, sum by (kind, le) (rate(quorate_request_seconds_bucket[1m])))",
                "{{kind}} p99",
            ),
        ],
    },
    Panel {
        title: "Groups led, by node",
        unit: "short",
        lines: &[("sum by (instance) (quorate_group_leads)", "{{instance}}")],
    },
    Panel {
        title: "Elections won",
        unit: "short",
        lines: &[("sum by (unit) (increase(quorate_group_leader_changes_total[5m]))", "{{unit}}")],
    },
    Panel {
        title: "Slots decided and not applied",
        unit: "short",
        lines: &[("max by (instance) (quorate_replica_lag_slots)", "{{instance}}")],
    },
    Panel {
        title: "Transactions over several groups",
        unit: "short",
        lines: &[
            ("sum by (unit) (quorate_group_locked_rows)", "{{unit}} rows locked"),
            ("sum by (unit) (quorate_group_parked_requests)", "{{unit}} requests waiting"),
        ],
    },
    Panel {
        title: "Mean time of a sync of the log",
        unit: "s",
        lines: &[(
            "rate(quorate_log_busy_seconds_total[1m]) / rate(quorate_log_syncs_total[1m])",
            "{{instance}}",
        )],
    },
    Panel {
        title: "Written",
        unit: "Bps",
        lines: &[
            ("rate(quorate_log_written_bytes_total[1m])", "{{instance}} log"),
            ("rate(quorate_process_written_bytes_total[1m])", "{{instance}} all"),
        ],
    },
    Panel {
        title: "Log, of its cap",
        unit: "percentunit",
        lines: &[("quorate_log_size_bytes / quorate_log_cap_bytes", "{{instance}}")],
    },
    Panel {
        title: "Disk free",
        unit: "percentunit",
        lines: &[("quorate_disk_free_bytes / quorate_disk_total_bytes", "{{instance}}")],
    },
    Panel {
        title: "CPU",
        unit: "short",
        lines: &[("rate(quorate_process_cpu_seconds_total[1m])", "{{instance}} cores")],
    },
    Panel {
        title: "Memory",
        unit: "bytes",
        lines: &[("quorate_process_resident_bytes", "{{instance}}")],
    },
];

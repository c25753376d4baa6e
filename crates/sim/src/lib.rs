//! Simulated clusters: nodes, faults, workloads and checkers on madsim.

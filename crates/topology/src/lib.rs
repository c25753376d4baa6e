//! Cities, IDCs, nodes, tables, units, slice map and groups: the cluster file, its rules and its answers.

//! One replica of one Multi-Paxos group as a pure state machine: inputs in, outputs out.

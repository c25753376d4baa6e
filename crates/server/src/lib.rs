//! The server process: configuration, services, peer streams, wiring, shutdown.

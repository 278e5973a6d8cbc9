//! What makes a program a daemon: configuration, logging, readiness, shutdown, doors, health.

//! Writes, verifies and proves disks: agent, command and daemon.

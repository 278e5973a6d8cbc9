//! For tests and the demo: temporary daemons, namespaces, virtual disks, virtual machines.

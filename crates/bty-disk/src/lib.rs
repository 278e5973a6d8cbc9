//! A disk as a thing: discovery, identity, the safety gate, aligned I/O.

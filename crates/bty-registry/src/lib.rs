//! The system of record: machines, images, runs, events, and what a machine does next.

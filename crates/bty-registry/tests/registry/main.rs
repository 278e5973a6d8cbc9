//! The real registry from outside: the program, its sockets, its files, and power cuts.

mod access;
mod agent;
mod durability;
mod harness;
mod images;
mod machines;

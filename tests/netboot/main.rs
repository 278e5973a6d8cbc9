//! From power-on to the flashed disk booting: real firmware, real daemons, real operating systems.

mod arm64;
mod boot_order;
mod faults;
mod foreign_image;
mod live_drivers;
mod once;
mod secure_boot;
mod small_machine;
mod ways;
mod wrong_disk;

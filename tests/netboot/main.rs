//! From power-on to the flashed disk booting: real firmware, real daemons, real operating systems.

mod arm64;
mod boot_order;
mod clock;
mod disk_commands;
mod faults;
mod fix_ups;
mod foreign_image;
mod full_disk;
mod hardware;
mod live_drivers;
mod network;
mod once;
mod power;
mod registry_away;
mod secure_boot;
mod small_machine;
mod ways;
mod wrong_disk;

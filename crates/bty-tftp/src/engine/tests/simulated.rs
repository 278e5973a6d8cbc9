//! Whole transfers over bad networks.

use std::time::Duration;

use super::network::{Dice, Habit, Simulation, Weather, terms};
use crate::engine::{negotiate::Rollover, transfer::Outcome};

const HABITS: [Habit; 3] = [Habit::Quiet, Habit::Chatty, Habit::Mute];

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn lan() -> Weather {
    Weather { delay: millis(1), ..Weather::default() }
}

#[test]
fn ten_thousand_networks_deliver_the_file() {
    for seed in 0..10_000 {
        let mut dice = Dice(seed);
        let block_bytes = u16::try_from(8 + dice.below(56)).unwrap();
        let window_blocks = u16::try_from(1 + dice.below(16)).unwrap();
        let blocks = dice.below(60);
        // Every other file ends with a whole block, and so with an empty one.
        let rest = if dice.below(2) == 0 { 0 } else { dice.below(block_bytes.into()) };
        let mut terms = terms(blocks * u64::from(block_bytes) + rest, block_bytes, window_blocks);
        if dice.below(4) == 0 && window_blocks == 1 {
            terms.oack = None;
        }
        let weather = Weather {
            lost_per_mille: dice.below(150),
            copied_per_mille: dice.below(100),
            delay: Duration::from_micros(dice.below(20_000)),
            jitter: Duration::from_micros(dice.below(10_000)),
            spoofed_per_mille: dice.below(50),
            ..Weather::default()
        };
        let habit = HABITS[usize::try_from(dice.below(3)).unwrap()];
        let mut simulation = Simulation::new(seed, terms, habit, weather);
        let (outcome, took) = simulation.run();
        // The client may be done when its last ACK is lost for good; it has the file all the same.
        if outcome == Outcome::Complete {
            simulation.assert_delivered();
        }
        assert!(
            simulation.client.done,
            "seed {seed}: {outcome:?} after {took:?}, {habit:?}, {weather:?}"
        );
    }
}

#[test]
fn a_good_network_sends_every_block_once() {
    for window_blocks in [1, 2, 4, 16] {
        for size in [0, 1, 511, 512, 513, 512 * 16, 100_000] {
            for habit in HABITS {
                let mut simulation =
                    Simulation::new(1, terms(size, 512, window_blocks), habit, lan());
                assert_eq!(simulation.run().0, Outcome::Complete);
                simulation.assert_delivered();
                assert_eq!(
                    simulation.blocks_sent,
                    size / 512 + 1,
                    "a file ends with a short block"
                );
            }
        }
    }
}

#[test]
fn rfc1123_duplicate_acks_are_no_reason_to_send_again() {
    for window_blocks in [1, 2, 16] {
        for habit in HABITS {
            let weather = Weather { acks_copied_per_mille: 1000, ..lan() };
            let mut simulation =
                Simulation::new(1, terms(200_000, 512, window_blocks), habit, weather);
            assert_eq!(simulation.run().0, Outcome::Complete);
            simulation.assert_delivered();
            assert_eq!(simulation.transfer.resent_blocks(), 0, "window {window_blocks}, {habit:?}");
        }
    }
}

#[test]
fn late_copies_of_acks_do_not_double_the_transfer() {
    for seed in 0..200 {
        let weather = Weather {
            acks_copied_per_mille: 300,
            delay: millis(1),
            ack_jitter: millis(3),
            ..Weather::default()
        };
        let mut simulation = Simulation::new(seed, terms(200_000, 512, 8), Habit::Chatty, weather);
        assert_eq!(simulation.run().0, Outcome::Complete);
        simulation.assert_delivered();
        // A copy that comes late enough looks like a report; one window is its price, and nothing follows from it.
        let blocks = 200_000 / 512 + 1;
        assert!(
            simulation.blocks_sent < blocks * 2,
            "seed {seed}: {} blocks",
            simulation.blocks_sent
        );
    }
}

#[test]
fn a_spurious_window_is_not_followed_by_another() {
    for habit in HABITS {
        let mut simulation = Simulation::new(1, terms(400_000, 512, 8), habit, lan());
        // Looks like a report of a gap after block 0: the first window goes out twice, once.
        simulation.inject(&[0, 4, 0, 0]);
        assert_eq!(simulation.run().0, Outcome::Complete);
        simulation.assert_delivered();
        assert!(simulation.transfer.resent_blocks() <= 8, "{habit:?}");
    }
}

#[test]
fn strangers_change_nothing() {
    let weather = Weather { spoofed_per_mille: 500, ..lan() };
    let mut simulation = Simulation::new(3, terms(100_000, 512, 4), Habit::Quiet, weather);
    assert_eq!(simulation.run().0, Outcome::Complete);
    simulation.assert_delivered();
    assert_eq!(simulation.blocks_sent, 100_000 / 512 + 1);
    assert!((1..=16).contains(&simulation.strangers_told), "{}", simulation.strangers_told);
}

#[test]
fn block_numbers_go_on_after_65535() {
    for rollover in [Rollover::Zero, Rollover::One] {
        for window_blocks in [1, 16] {
            let mut terms = terms(8 * 140_000 + 3, 8, window_blocks);
            terms.rollover = rollover;
            let weather = Weather { lost_per_mille: 2, ..lan() };
            let mut simulation = Simulation::new(5, terms, Habit::Quiet, weather);
            assert_eq!(simulation.run().0, Outcome::Complete);
            simulation.assert_delivered();
        }
    }
}

#[test]
fn loss_costs_round_trips_and_not_seconds() {
    let weather = Weather { lost_per_mille: 10, ..lan() };
    for (size, window_blocks, most) in [(1 << 20, 1, millis(3000)), (8 << 20, 16, millis(3000))] {
        for seed in 0..4 {
            let mut simulation =
                Simulation::new(seed, terms(size, 1468, window_blocks), Habit::Quiet, weather);
            let (outcome, took) = simulation.run();
            assert_eq!(outcome, Outcome::Complete);
            simulation.assert_delivered();
            assert!(took < most, "window {window_blocks}, seed {seed}: {took:?}");
        }
    }
}

#[test]
fn a_slow_link_is_measured_and_not_flooded() {
    let weather = Weather { delay: millis(300), ..Weather::default() };
    let mut simulation = Simulation::new(1, terms(50_000, 512, 4), Habit::Quiet, weather);
    assert_eq!(simulation.run().0, Outcome::Complete);
    simulation.assert_delivered();
    assert_eq!(simulation.transfer.resent_blocks(), 0);
}

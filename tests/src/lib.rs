//! Black-box tests of bty over real processes; see `tests/`.

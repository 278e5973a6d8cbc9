//! Operating system images for the lab.

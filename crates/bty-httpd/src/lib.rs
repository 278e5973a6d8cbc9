//! The HTTP face of bty: boot scripts, boot artefacts, image bytes, the agents' API.

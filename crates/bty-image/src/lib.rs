//! An image as bytes: reading every source format, the seekable container, its chunk index.

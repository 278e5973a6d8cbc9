//! System calls that need unsafe code: ioctls, aligned buffers, named file descriptors.

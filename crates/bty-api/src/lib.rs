//! The gRPC contract: generated code, connecting, conversions, errors to and from status.

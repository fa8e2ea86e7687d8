//! The broker process: sockets, request handlers, tasks and wiring.

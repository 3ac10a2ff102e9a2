//! The examples do what they say: each is run in this process, on the device model.

#![allow(clippy::duplicate_mod, reason = "examples are programs of their own")]

mod async_echo;
mod bridge;
mod pipeline;
mod support;
mod tcp;
mod udp_echo;

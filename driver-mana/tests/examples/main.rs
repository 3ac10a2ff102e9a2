//! The examples do what they say: each is run in this process, on the device model.

mod bridge;
mod support;

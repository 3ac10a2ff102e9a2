//! A port's life from discovery to close, over the device model stepped by hand.

mod faults;
mod lifecycle;
mod open;
mod singles;
mod support;

//! The device over vfio-user, judged byte by byte by a client of another house and the reference.

mod channel;
mod datapath;
mod fuzz;
mod guest;
mod hostile;
mod lifecycle;

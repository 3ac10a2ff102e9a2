mod guest;
mod netdev;
mod recorded;

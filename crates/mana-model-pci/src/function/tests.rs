mod datapath;
mod guest;
mod hostile;
mod layouts;
mod netdev;
mod recorded;

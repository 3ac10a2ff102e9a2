//! A transport that plays a script, for tests.

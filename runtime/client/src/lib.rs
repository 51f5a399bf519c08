//! The Distributed Task Client: the library by which programs speak with a running waft.
//!
//! So far it finds the workers at a broker.

mod workers;

pub use workers::{WorkersError, workers};

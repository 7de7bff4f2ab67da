//! What the fuzz targets run, so that ordinary tests can replay their corpus.

pub mod configuration;
pub mod frame;
pub mod records;
pub mod resp;
pub mod seeds;
pub mod steps;
pub mod wal;
pub mod wire;

//! What the fuzz targets run, so that ordinary tests can replay their corpus.

pub mod steps;

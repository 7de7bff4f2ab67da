//! Prints what is in a data directory, for people; changes nothing, not even for a node that runs on it.

use std::io::Write;
use std::path::Path;

use crate::stop::Stop;

pub(crate) fn wal(dir: &Path, out: &mut dyn Write) -> Result<(), Stop> {
    let _ = (dir, out);
    Ok(())
}

pub(crate) fn identity(dir: &Path, out: &mut dyn Write) -> Result<(), Stop> {
    let _ = (dir, out);
    Ok(())
}

//! Why the spool refuses an upload.

use std::io;

use crate::storage::descriptors::is_out_of_descriptors;

/// Why a part or an upload is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("the part is larger than {bytes_max} bytes")]
    PartTooLarge { bytes_max: u64 },
    #[error("the upload is larger than the limit of all uploads together, {bytes_max} bytes")]
    NeverFits { bytes_max: u64 },
    #[error("all uploads together exceed {bytes_max} bytes")]
    Full { bytes_max: u64 },
    /// A temporary condition: the disk is full, or no file descriptor is left.
    #[error("the system has no resources left for the upload: {0}")]
    Exhausted(io::Error),
    #[error("the spool cannot be written: {0}")]
    Io(io::Error),
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> Self {
        let is_temporary = error.kind() == io::ErrorKind::StorageFull || is_out_of_descriptors(&error);
        if is_temporary { Self::Exhausted(error) } else { Self::Io(error) }
    }
}

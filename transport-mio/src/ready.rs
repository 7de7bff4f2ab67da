//! What mio says of a socket, in the words of those who serve it.

/// What a socket is ready for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The other side closed its half, or the connection failed: reading will tell.
    pub(crate) ending: bool,
}

impl From<&mio::event::Event> for Ready {
    fn from(event: &mio::event::Event) -> Ready {
        Ready {
            readable: event.is_readable(),
            writable: event.is_writable(),
            ending: event.is_read_closed() || event.is_error(),
        }
    }
}

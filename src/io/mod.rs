//! (room: io)

//! (room: models)

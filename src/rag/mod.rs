//! (room: rag)

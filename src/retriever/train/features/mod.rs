//! What the towers make of the training data, where training finds it.
//!
//! A frozen tower's features are computed once; those of one that learns with every batch.
//!
//! | file | what |
//! | --- | --- |
//! | `cache` | features on disk, one record an item, of as many layers as any run wanted |
//! | `pictures` | records of pictures and of their random views |
//! | `texts` | records of texts |

pub mod cache;
pub mod pictures;
pub mod texts;

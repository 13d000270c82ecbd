//! Agreement with reference numbers: `tests/data/golden`, and more sets of the same layout where `CICERONE_GOLDEN` names
//! their folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

/// Largest difference from a reference number.
pub const TOLERANCE: f32 = 1e-4;

/// Folders of one kind of set: ours, if there is one, and those that are given.
pub fn sets(kind: &str) -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let given = std::env::var_os("CICERONE_GOLDEN").map(PathBuf::from);
    [Some(own), given].into_iter().flatten().map(|dir| dir.join(kind)).filter(|dir| dir.is_dir()).collect()
}

/// Inputs and results of a set.
pub fn io(dir: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(dir.join("io.safetensors"), &Device::Cpu).unwrap()
}

/// Token numbers and masks as the towers take them.
pub fn ids(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::U32).unwrap()
}

/// Same shape, and every number within 1e-4.
#[track_caller]
pub fn agree(what: &str, ours: &Tensor, reference: &Tensor) {
    assert_eq!(ours.dims(), reference.dims(), "{what}");
    let far = (ours - reference).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let far = far.to_scalar::<f32>().unwrap();
    assert!(far <= TOLERANCE, "{what}: off by {far}");
}

//! Strict weights: every tensor of a file is used, every expected tensor is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Tensor};

use super::error::{Result, RetrieverError};
use crate::models::names::{NameMap, Renamed};

/// Named tensors of one or more files, and which of them a model has taken.
///
/// Loading a model takes its tensors with [`Weights::get`]; [`Weights::finish`] then reports everything that did not
/// fit in one error, so that a foreign checkpoint is understood in one try.
#[derive(Debug, Clone)]
pub struct Weights {
    inner: Arc<Inner>,
    prefix: String,
}

#[derive(Debug)]
struct Inner {
    origin: String,
    tensors: HashMap<String, Tensor>,
    device: Device,
    /// How the file calls the tensors, where that differs.
    map: Option<NameMap>,
    ledger: Mutex<Ledger>,
}

impl Inner {
    /// A tensor's name as the file has it.
    fn in_file(&self, name: &str) -> String {
        self.map.as_ref().and_then(|map| map.original(name)).unwrap_or_else(|| name.to_owned())
    }
}

#[derive(Debug, Default)]
struct Ledger {
    used: BTreeSet<String>,
    missing: BTreeMap<String, Shape>,
    misshaped: BTreeSet<String>,
}

impl Weights {
    /// Reads a safetensors file into f32 on `device`.
    ///
    /// # Errors
    /// An unreadable or damaged file, or a tensor with a value that is not finite.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let read = |reason: String| RetrieverError::Read { path: path.to_owned(), reason };
        let bytes = fs_err::read(path).map_err(|e| read(e.to_string()))?;
        let raw = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| {
            read(format!("not a whole safetensors file ({e}); fetch it again with `cicerone models pull`"))
        })?;
        drop(bytes);
        let mut tensors = HashMap::with_capacity(raw.len());
        let mut not_finite = Vec::new();
        for (name, tensor) in raw {
            let tensor = if matches!(tensor.dtype(), DType::F16 | DType::BF16 | DType::F64) {
                tensor.to_dtype(DType::F32)?
            } else {
                tensor
            };
            // A sum is finite only if every part is (or overflows, which weights never do).
            if tensor.dtype() == DType::F32 && !tensor.sum_all()?.to_scalar::<f32>()?.is_finite() {
                not_finite.push(name.clone());
            }
            tensors.insert(name, tensor.to_device(device)?);
        }
        if !not_finite.is_empty() {
            not_finite.sort();
            return Err(RetrieverError::Weights {
                origin: path.display().to_string(),
                details: format!("values that are not finite in {}", not_finite.join(", ")),
            });
        }
        Ok(Self::from_tensors(path.display().to_string(), tensors, device))
    }

    /// Takes tensors that are in memory, such as trainable variables. `origin` is named in errors.
    #[must_use]
    pub fn from_tensors(origin: String, tensors: HashMap<String, Tensor>, device: &Device) -> Self {
        let inner = Inner { origin, tensors, device: device.clone(), map: None, ledger: Mutex::default() };
        Self { inner: Arc::new(inner), prefix: String::new() }
    }

    /// The same tensors under the names that `map` gives them. One that the map does not know keeps its own, so that
    /// [`Weights::finish`] tells of it.
    ///
    /// # Errors
    /// [`RetrieverError::Weights`]: rows that cannot be cut as the map says, or two tensors of one name.
    pub fn renamed(&self, map: &NameMap) -> Result<Self> {
        let mut tensors = HashMap::with_capacity(self.inner.tensors.len());
        let mut problems = BTreeSet::new();
        for (name, tensor) in &self.inner.tensors {
            let names = match map.apply(name) {
                Renamed::LeftOut => continue,
                Renamed::Unknown => vec![name.clone()],
                Renamed::To(one) => vec![one],
                Renamed::Rows(parts) => parts,
            };
            let (rows, parts) = (tensor.dims().first().copied(), names.len());
            let rows = rows.filter(|rows| rows.is_multiple_of(parts));
            if parts > 1 && rows.is_none() {
                problems.insert(format!("{name} {:?}: its rows cannot be cut into {parts}", tensor.dims()));
                continue;
            }
            for (at, to) in names.into_iter().enumerate() {
                let part = match rows {
                    Some(rows) if parts > 1 => tensor.narrow(0, at * rows / parts, rows / parts)?.contiguous()?,
                    _ => tensor.clone(),
                };
                if tensors.insert(to.clone(), part).is_some() {
                    problems.insert(format!("two tensors become {to}"));
                }
            }
        }
        let origin = self.inner.origin.clone();
        if !problems.is_empty() {
            let details = problems.into_iter().collect::<Vec<_>>().join("; ");
            return Err(RetrieverError::Weights { origin, details });
        }
        let device = self.inner.device.clone();
        let inner = Inner { origin, tensors, device, map: Some(map.clone()), ledger: Mutex::default() };
        Ok(Self { inner: Arc::new(inner), prefix: String::new() })
    }

    /// The part of the names below `name`.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self { inner: Arc::clone(&self.inner), prefix: self.full(&name.to_string()) }
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// Whether the tensor is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.inner.tensors.contains_key(&self.full(name))
    }

    /// Takes a tensor of a given shape. One that is missing or of another shape is noted for [`Weights::finish`] and
    /// stands in as zeros until then.
    ///
    /// # Errors
    /// Only if the device cannot allocate.
    pub fn get(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        let name = self.full(name);
        let shape = shape.into();
        let mut ledger = self.inner.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tensor) = self.inner.tensors.get(&name) {
            ledger.used.insert(name.clone());
            if tensor.shape() == &shape {
                return Ok(tensor.clone());
            }
            let mut told = self.inner.in_file(&name);
            if told != name {
                told.push_str(&format!(" (read as {name})"));
            }
            ledger.misshaped.insert(format!("{told} {:?}, expected {:?}", tensor.dims(), shape.dims()));
        } else {
            ledger.missing.insert(name, shape.clone());
        }
        // An absurd configuration must end in the message, not in an allocation.
        let stand_in = Tensor::zeros((), DType::F32, &self.inner.device)?;
        Ok(stand_in.broadcast_as(shape)?)
    }

    /// Names and shapes that were asked for and are not there: what a new model needs to be initialised.
    #[must_use]
    pub fn missing(&self) -> BTreeMap<String, Shape> {
        self.inner.ledger.lock().unwrap_or_else(PoisonError::into_inner).missing.clone()
    }

    /// Ends loading: anything missing, mis-shaped or left over is one error that lists the names.
    ///
    /// # Errors
    /// [`RetrieverError::Weights`].
    pub fn finish(&self, known_unused: &[&str]) -> Result<()> {
        let ledger = self.inner.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let unused: BTreeSet<_> = self
            .inner
            .tensors
            .keys()
            .filter(|name| !ledger.used.contains(*name))
            .filter(|name| !known_unused.iter().any(|known| name.ends_with(known)))
            .map(|name| self.inner.in_file(name))
            .collect();
        let mut details = Vec::new();
        let missing = ledger.missing.keys().map(|name| self.inner.in_file(name)).collect();
        for (what, names) in [("missing", &missing), ("of another shape", &ledger.misshaped), ("not used", &unused)] {
            if !names.is_empty() {
                let listed: Vec<_> = names.iter().map(String::as_str).collect();
                details.push(format!("{what}: {}", listed.join(", ")));
            }
        }
        if details.is_empty() {
            return Ok(());
        }
        Err(RetrieverError::Weights { origin: self.inner.origin.clone(), details: details.join("; ") })
    }
}

//! Strict weights: every tensor of a checkpoint is used, every expected tensor is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Tensor};

use super::error::{Result, RetrieverError};
use super::shards::{self, Entry};
use crate::models::names::{NameMap, Renamed};

/// Named tensors of a checkpoint, and which of them a model has taken.
///
/// Loading a model takes its tensors with [`Weights::get`]; [`Weights::finish`] then reports everything that did not
/// fit in one error, so that a foreign checkpoint is understood in one try.
#[derive(Debug, Clone)]
pub struct Weights {
    inner: Arc<Inner>,
    prefix: String,
    /// Whether every tensor is taken in f32.
    single: bool,
}

#[derive(Debug)]
struct Inner {
    origin: String,
    tensors: BTreeMap<String, Stored>,
    device: Device,
    /// How the file calls the tensors, where that differs.
    map: Option<NameMap>,
    /// Makes what is not there.
    make: Option<Make>,
    ledger: Mutex<Ledger>,
}

/// A tensor of a name and a shape.
type Make = fn(&str, &Shape, &Device) -> candle_core::Result<Tensor>;

impl Inner {
    /// A tensor's name as the file has it.
    fn in_file(&self, name: &str) -> String {
        self.map.as_ref().and_then(|map| map.original(name)).unwrap_or_else(|| name.to_owned())
    }
}

#[derive(Debug)]
enum Stored {
    /// In a file, read when it is taken.
    File(Entry),
    /// In memory already.
    Memory(Tensor),
}

impl Stored {
    fn dims(&self) -> &[usize] {
        match self {
            Self::File(entry) => &entry.shape,
            Self::Memory(tensor) => tensor.dims(),
        }
    }

    /// Part `at` of `parts` equal ones of its rows; there is one part of anything, and else as many as divide the rows.
    fn rows(&self, at: usize, parts: usize) -> candle_core::Result<Self> {
        Ok(match self {
            Self::File(entry) => Self::File(entry.rows(at, parts)),
            Self::Memory(tensor) if parts == 1 => Self::Memory(tensor.clone()),
            Self::Memory(tensor) => {
                let rows = tensor.dim(0)? / parts;
                Self::Memory(tensor.narrow(0, at * rows, rows)?.contiguous()?)
            }
        })
    }
}

#[derive(Debug, Default)]
struct Ledger {
    used: BTreeSet<String>,
    missing: BTreeMap<String, Shape>,
    /// Why tensors that are there do not fit, and which.
    unfit: BTreeMap<&'static str, BTreeSet<String>>,
}

/// What a name leads to.
enum Found {
    Fits(Tensor),
    Missing,
    /// Why it does not fit, and the name with what was found and expected.
    Unfit(&'static str, String),
}

impl Weights {
    /// Opens a safetensors file, or the shards that a `model.safetensors.index.json` names. Floating-point tensors
    /// arrive on `device`, as f32 unless they are of half precision and the device computes in it; what no model takes is
    /// never read.
    ///
    /// # Errors
    /// A missing, unreadable or damaged file.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let entries = shards::open(path)?.into_iter().map(|(name, entry)| (name, Stored::File(entry)));
        Ok(Self::new(path.display().to_string(), entries.collect(), device))
    }

    /// Takes tensors that are in memory, such as trainable variables, as they are. `origin` is named in errors.
    #[must_use]
    pub fn from_tensors(origin: String, tensors: HashMap<String, Tensor>, device: &Device) -> Self {
        Self::new(origin, tensors.into_iter().map(|(name, tensor)| (name, Stored::Memory(tensor))).collect(), device)
    }

    /// Tensors that `make` makes as they are asked for, whatever their name and shape.
    #[must_use]
    pub fn made(origin: String, device: &Device, make: Make) -> Self {
        let (device, tensors) = (device.clone(), BTreeMap::new());
        let inner = Inner { origin, tensors, device, map: None, make: Some(make), ledger: Mutex::default() };
        Self { inner: Arc::new(inner), prefix: String::new(), single: false }
    }

    fn new(origin: String, tensors: BTreeMap<String, Stored>, device: &Device) -> Self {
        let inner = Inner { origin, tensors, device: device.clone(), map: None, make: None, ledger: Mutex::default() };
        Self { inner: Arc::new(inner), prefix: String::new(), single: false }
    }

    /// The same tensors under the names that `map` gives them. One that the map does not know keeps its own, so that
    /// [`Weights::finish`] tells of it.
    ///
    /// # Errors
    /// [`RetrieverError::Weights`]: rows that cannot be cut as the map says, or two tensors of one name.
    pub fn renamed(&self, map: &NameMap) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        let mut problems = BTreeSet::new();
        for (name, stored) in &self.inner.tensors {
            let names = match map.apply(name) {
                Renamed::LeftOut => continue,
                Renamed::Unknown => vec![name.clone()],
                Renamed::To(one) => vec![one],
                Renamed::Rows(parts) => parts,
            };
            let parts = names.len();
            if parts > 1 && !stored.dims().first().is_some_and(|rows| rows.is_multiple_of(parts)) {
                problems.insert(format!("{name} {:?}: its rows cannot be cut into {parts}", stored.dims()));
                continue;
            }
            for (at, to) in names.into_iter().enumerate() {
                if tensors.insert(to.clone(), stored.rows(at, parts)?).is_some() {
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
        let inner = Inner { origin, tensors, device, map: Some(map.clone()), make: None, ledger: Mutex::default() };
        Ok(Self { inner: Arc::new(inner), prefix: String::new(), single: false })
    }

    /// The part of the names below `name`.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: self.full(&name.to_string()), ..self.clone() }
    }

    /// The same tensors, in f32 wherever they are: what stands above the towers computes in that.
    #[must_use]
    pub fn in_single_precision(&self) -> Self {
        Self { single: true, ..self.clone() }
    }

    /// The part below `name` if any tensor is there, and the same part otherwise: some checkpoints keep a model below
    /// a larger one's name.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        let start = format!("{}.", self.full(name));
        let first = self.inner.tensors.range(start.clone()..).next();
        if first.is_some_and(|(found, _)| found.starts_with(&start)) { self.pp(name) } else { self.clone() }
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// Whether the tensor is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.inner.tensors.contains_key(&self.full(name))
    }

    /// Takes a tensor of a given shape. One that is missing, of another shape or type, or holds a value that is no
    /// number is noted for [`Weights::finish`] and stands in as zeros until then.
    ///
    /// # Errors
    /// Only if the device cannot allocate.
    pub fn get(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        let name = self.full(name);
        let shape = shape.into();
        let found = self.find(&name, &shape)?;
        let mut ledger = self.inner.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.used.insert(name.clone());
        match found {
            Found::Fits(tensor) => return Ok(tensor),
            Found::Missing => drop(ledger.missing.insert(name, shape.clone())),
            Found::Unfit(why, what) => drop(ledger.unfit.entry(why).or_default().insert(what)),
        }
        // An absurd configuration must end in the message, not in an allocation.
        let stand_in = Tensor::zeros((), DType::F32, &self.inner.device)?;
        Ok(stand_in.broadcast_as(shape)?)
    }

    fn find(&self, name: &str, shape: &Shape) -> Result<Found> {
        let Some(stored) = self.inner.tensors.get(name) else {
            return Ok(match self.inner.make {
                Some(make) => Found::Fits(make(name, shape, &self.inner.device)?),
                None => Found::Missing,
            });
        };
        let told = || match self.inner.in_file(name) {
            own if own == name => own,
            own => format!("{own} (read as {name})"),
        };
        let dims = stored.dims();
        if dims != shape.dims() {
            return Ok(Found::Unfit("of another shape", format!("{} {dims:?}, expected {:?}", told(), shape.dims())));
        }
        let entry = match stored {
            Stored::File(entry) => entry,
            Stored::Memory(tensor) => return Ok(Found::Fits(tensor.clone())),
        };
        let Some(dtype) = entry.dtype.and_then(|dtype| kept(dtype, self.single || self.inner.device.is_cpu())) else {
            return Ok(Found::Unfit("not of a floating-point type", told()));
        };
        let tensor = entry.read()?.to_dtype(DType::F32)?;
        // A sum is finite only if every part is (or overflows, which weights never do).
        if !tensor.sum_all()?.to_scalar::<f32>()?.is_finite() {
            return Ok(Found::Unfit("with values that are not finite", told()));
        }
        Ok(Found::Fits(tensor.to_dtype(dtype)?.to_device(&self.inner.device)?))
    }

    /// The tensors that a model has taken, by their names below this part.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn taken(&self) -> Result<HashMap<String, Tensor>> {
        let used = self.inner.ledger.lock().unwrap_or_else(PoisonError::into_inner).used.clone();
        let start = self.full("");
        let mut taken = HashMap::new();
        for (name, own) in used.iter().filter_map(|name| Some((name, name.strip_prefix(&start)?))) {
            let Some(stored) = self.inner.tensors.get(name) else { continue };
            if let Found::Fits(tensor) = self.find(name, &stored.dims().into())? {
                taken.insert(own.to_owned(), tensor);
            }
        }
        Ok(taken)
    }

    /// Names and shapes that were asked for and are not there: what a new model needs to be initialised.
    #[must_use]
    pub fn missing(&self) -> BTreeMap<String, Shape> {
        self.inner.ledger.lock().unwrap_or_else(PoisonError::into_inner).missing.clone()
    }

    /// Ends loading: anything missing, unfit or left over is one error that lists the names.
    ///
    /// `known_unused` are names, or their ends after a dot, of tensors that may be there and are not read; `x.*` is
    /// everything below `x`.
    ///
    /// # Errors
    /// [`RetrieverError::Weights`].
    pub fn finish(&self, known_unused: &[&str]) -> Result<()> {
        let ledger = self.inner.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let unused = self
            .inner
            .tensors
            .keys()
            .filter(|name| !ledger.used.contains(*name))
            .filter(|name| !known_unused.iter().any(|known| is_known(name, known)))
            .map(|name| self.inner.in_file(name))
            .collect();
        let missing = ledger.missing.keys().map(|name| self.inner.in_file(name)).collect();
        let unfit = ledger.unfit.iter().map(|(why, names)| (*why, names));
        let details: Vec<_> = [("missing", &missing)]
            .into_iter()
            .chain(unfit)
            .chain([("not used", &unused)])
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what}: {}", names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")))
            .collect();
        if details.is_empty() {
            return Ok(());
        }
        Err(RetrieverError::Weights { origin: self.inner.origin.clone(), details: details.join("; ") })
    }
}

/// The type in which weights of a file's type are held: half precision where it is computed in, which a CPU does not, and
/// `single` precision elsewhere. `None` for what is no floating-point number.
fn kept(dtype: DType, single: bool) -> Option<DType> {
    match dtype {
        DType::F32 | DType::F64 => Some(DType::F32),
        DType::F16 | DType::BF16 if single => Some(DType::F32),
        DType::F16 | DType::BF16 => Some(dtype),
        _ => None,
    }
}

fn is_known(name: &str, known: &str) -> bool {
    match known.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    }
}

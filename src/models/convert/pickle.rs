//! A reader of the pickles that PyTorch writes, which runs nothing.
//!
//! It knows the opcodes of a state dict and no others, and the globals of [`Global`] and no others: anything else is
//! an error that names it. Values live in an arena and refer to each other by index, so that neither depth, nor
//! sharing, nor cycles cost more than the bytes that were read. Opcodes: CPython, Lib/pickletools.py.

use std::collections::HashMap;
use std::io::BufRead;

use safetensors::Dtype;

/// Most bytes of one pickle. A state dict takes about 150 a tensor; its numbers lie outside.
const MAX_BYTES: u64 = 16 << 20;

/// Index of a value.
pub(super) type Id = u32;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian two's complement.
    Long(Box<[u8]>),
    Float(f64),
    Text(Box<str>),
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<Storage>),
    Tensor(Box<Tensor>),
}

/// The globals that may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    StorageType(Dtype),
}

/// A storage, named by a persistent id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    pub dtype: Dtype,
    pub key: String,
    /// Elements.
    pub len: u64,
}

/// A view of a storage; offset and strides count elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub storage: Id,
    pub offset: u64,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle {
    nodes: Vec<Node>,
    root: Id,
}

impl Pickle {
    /// Reads one pickle, up to and with its STOP.
    pub(super) fn read(reader: &mut impl BufRead) -> Result<Self, String> {
        let mut machine = Machine {
            input: Input { reader, read: 0 },
            nodes: vec![Node::None, Node::Bool(false), Node::Bool(true)],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        while !machine.step()? {}
        let root = machine.pop()?;
        Ok(Self { nodes: machine.nodes, root })
    }

    pub(super) fn root(&self) -> &Node {
        self.get(self.root)
    }

    pub(super) fn get(&self, id: Id) -> &Node {
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        if let Node::Text(text) = self.get(id) { Some(text) } else { None }
    }

    /// Every storage that is named.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.nodes.iter().filter_map(|node| if let Node::Storage(storage) = node { Some(&**storage) } else { None })
    }
}

struct Input<'a, R> {
    reader: &'a mut R,
    read: u64,
}

impl<R: BufRead> Input<'_, R> {
    fn count(&mut self, n: u64) -> Result<(), String> {
        self.read = self.read.saturating_add(n);
        if self.read > MAX_BYTES {
            return Err(format!("its pickle is longer than {MAX_BYTES} bytes"));
        }
        Ok(())
    }

    fn bytes(&mut self, n: u64) -> Result<Vec<u8>, String> {
        // The bound comes before the memory.
        self.count(n)?;
        let mut bytes = vec![0; n as usize];
        self.reader.read_exact(&mut bytes).map_err(|e| format!("its pickle ends early: {e}"))?;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.count(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|e| format!("its pickle ends early: {e}"))?;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, String> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn text(&mut self, n: u64) -> Result<Box<str>, String> {
        let text = String::from_utf8(self.bytes(n)?).map_err(|_| "its pickle has a text that is not UTF-8")?;
        Ok(text.into_boxed_str())
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        loop {
            match self.u8()? {
                b'\n' => break,
                byte if line.len() < 256 => line.push(byte),
                _ => return Err("its pickle has a name of more than 256 bytes".into()),
            }
        }
        String::from_utf8(line).map_err(|_| "its pickle has a name that is not UTF-8".into())
    }
}

struct Machine<'a, R> {
    input: Input<'a, R>,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack at each MARK.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<R: BufRead> Machine<'_, R> {
    /// One opcode; true at STOP.
    fn step(&mut self) -> Result<bool, String> {
        let op = self.input.u8()?;
        match op {
            0x80 => {
                let version = self.input.u8()?;
                if !(2..=5).contains(&version) {
                    return Err(format!("its pickle has protocol {version}, expected 2 to 5"));
                }
            }
            // FRAME
            0x95 => drop(self.input.array::<8>()?),
            b'.' => return Ok(true),
            b'N' => self.stack.push(0),
            0x89 => self.stack.push(1),
            0x88 => self.stack.push(2),
            b'K' => {
                let n = self.input.u8()?;
                self.push(Node::Int(n.into()));
            }
            b'M' => {
                let n = u16::from_le_bytes(self.input.array()?);
                self.push(Node::Int(n.into()));
            }
            b'J' => {
                let n = i32::from_le_bytes(self.input.array()?);
                self.push(Node::Int(n.into()));
            }
            // LONG1
            0x8a => {
                let n = self.input.u8()?;
                let bytes = self.input.bytes(n.into())?;
                self.push(long(&bytes));
            }
            b'G' => {
                let x = f64::from_be_bytes(self.input.array()?);
                self.push(Node::Float(x));
            }
            // BINUNICODE, SHORT_BINUNICODE; BINSTRING, SHORT_BINSTRING from Python 2
            b'X' | 0x8c | b'T' | b'U' => {
                let long = matches!(op, b'X' | b'T');
                let n = if long { self.input.u32()? } else { self.input.u8()?.into() };
                let text = self.input.text(n.into())?;
                self.push(Node::Text(text));
            }
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Node::Tuple(Box::default())),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items.into()));
            }
            // TUPLE1, TUPLE2, TUPLE3
            0x85..=0x87 => {
                let n = usize::from(op - 0x84);
                let at = self.stack.len().checked_sub(n).filter(|at| self.floor() <= *at).ok_or(UNDERFLOW)?;
                let items = self.stack.split_off(at);
                self.push(Node::Tuple(items.into()));
            }
            b']' => self.push(Node::List(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            b'q' | b'r' | 0x94 => {
                let at = match op {
                    b'q' => self.input.u8()?.into(),
                    b'r' => self.input.u32()?,
                    // MEMOIZE
                    _ => u32::try_from(self.memo.len()).map_err(|_| UNDERFLOW)?,
                };
                let top = self.top()?;
                self.memo.insert(at, top);
            }
            b'h' | b'j' => {
                let at = if op == b'h' { self.input.u8()?.into() } else { self.input.u32()? };
                let id = *self.memo.get(&at).ok_or("its pickle recalls a value that it never noted")?;
                self.stack.push(id);
            }
            b'c' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                self.push(Node::Global(global(&module, &name)?));
            }
            // STACK_GLOBAL
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let found = match (self.node(module), self.node(name)) {
                    (Node::Text(module), Node::Text(name)) => global(module, name)?,
                    _ => return Err("its pickle names a global by something that is no text".into()),
                };
                self.push(Node::Global(found));
            }
            b'R' => {
                let (args, callable) = (self.pop()?, self.pop()?);
                let made = self.call(callable, args)?;
                self.push(made);
            }
            // BUILD: attributes of an OrderedDict (`_metadata`) carry no weights.
            b'b' => {
                self.pop()?;
                if !matches!(self.node(self.top()?), Node::Dict(_)) {
                    return Err("its pickle sets attributes of something that is no dict; only weights are read".into());
                }
            }
            b'Q' => {
                let args = self.pop()?;
                let storage = self.storage(args)?;
                self.push(Node::Storage(Box::new(storage)));
            }
            other => {
                return Err(format!(
                    "its pickle has opcode {other:#04x}, which no state dict needs; save `model.state_dict()` instead"
                ));
            }
        }
        Ok(false)
    }

    fn call(&mut self, callable: Id, args: Id) -> Result<Node, String> {
        let Node::Global(callable) = self.node(callable) else {
            return Err("its pickle calls something that is no known function".into());
        };
        let Node::Tuple(args) = self.node(args) else {
            return Err("its pickle calls a function without a tuple of arguments".into());
        };
        match (callable, &**args) {
            (Global::OrderedDict, []) => Ok(Node::Dict(Vec::new())),
            // Python 2 gives the items as a list of pairs.
            (Global::OrderedDict, [items]) => {
                let pairs = self.pairs(*items)?;
                // The same list can be named again and again: each copy counts as if it had been read.
                self.input.count(pairs.len() as u64 * 8)?;
                Ok(Node::Dict(pairs))
            }
            (Global::RebuildTensor, [storage, offset, shape, strides, ..]) => {
                let tensor = Tensor {
                    storage: *storage,
                    offset: self.number(*offset)?,
                    shape: self.numbers(*shape)?,
                    strides: self.numbers(*strides)?,
                };
                if !matches!(self.node(*storage), Node::Storage(_)) || tensor.shape.len() != tensor.strides.len() {
                    return Err("its pickle has a tensor without a storage, or with other strides than sizes".into());
                }
                Ok(Node::Tensor(Box::new(tensor)))
            }
            (Global::RebuildParameter, [tensor, ..]) => match self.node(*tensor) {
                Node::Tensor(tensor) => Ok(Node::Tensor(tensor.clone())),
                _ => Err("its pickle has a parameter that is no tensor".into()),
            },
            (callable, args) => Err(format!("its pickle calls {callable:?} with {} arguments", args.len())),
        }
    }

    fn pairs(&self, items: Id) -> Result<Vec<(Id, Id)>, String> {
        let Node::List(items) = self.node(items) else {
            return Err("its pickle makes a dict of something that is no list".into());
        };
        let pair = |item: &Id| match self.node(*item) {
            Node::List(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            Node::Tuple(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => Err("its pickle makes a dict of something that is no pair".into()),
        };
        items.iter().map(pair).collect()
    }

    /// `("storage", type, key, location, elements[, view])`
    fn storage(&self, args: Id) -> Result<Storage, String> {
        let Node::Tuple(args) = self.node(args) else {
            return Err("its pickle has a persistent id that is no tuple".into());
        };
        let (kind, dtype, key, len, view) = match **args {
            [kind, dtype, key, _, len] => (kind, dtype, key, len, None),
            [kind, dtype, key, _, len, view] => (kind, dtype, key, len, Some(view)),
            _ => return Err(format!("its pickle has a persistent id of {} parts, expected 5 or 6", args.len())),
        };
        match (self.node(kind), self.node(dtype), self.node(key), view.map(|v| self.node(v))) {
            (Node::Text(kind), Node::Global(Global::StorageType(dtype)), Node::Text(key), None | Some(Node::None))
                if &**kind == "storage" && key.len() <= 256 =>
            {
                Ok(Storage { dtype: *dtype, key: key.to_string(), len: self.number(len)? })
            }
            _ => Err("its pickle has a persistent id that is no plain storage".into()),
        }
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        let top = self.top()? as usize;
        match self.nodes.get_mut(top) {
            Some(Node::List(list)) => list.extend(items),
            _ => return Err("its pickle appends to something that is no list".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()? as usize;
        let (pairs, rest) = items.as_chunks::<2>();
        match self.nodes.get_mut(top) {
            Some(Node::Dict(dict)) if rest.is_empty() => dict.extend(pairs.iter().map(|[k, v]| (*k, *v))),
            _ => return Err("its pickle sets items of something that is no dict, or a key without a value".into()),
        }
        Ok(())
    }

    fn number<T: TryFrom<i64>>(&self, id: Id) -> Result<T, String> {
        match self.node(id) {
            Node::Int(n) => T::try_from(*n).map_err(|_| format!("its pickle has the size or offset {n}")),
            other => Err(format!("its pickle has {other:?} in the place of a size or offset")),
        }
    }

    fn numbers(&self, id: Id) -> Result<Vec<usize>, String> {
        match self.node(id) {
            Node::Tuple(ids) if ids.len() <= 16 => ids.iter().map(|id| self.number(*id)).collect(),
            _ => Err("its pickle has sizes or strides that are no short tuple".into()),
        }
    }

    fn node(&self, id: Id) -> &Node {
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }

    fn push(&mut self, node: Node) {
        // Fewer nodes than bytes were read, so the index fits.
        self.stack.push(self.nodes.len() as Id);
        self.nodes.push(node);
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, String> {
        if self.stack.len() <= self.floor() {
            return Err(UNDERFLOW.into());
        }
        self.stack.last().copied().ok_or_else(|| UNDERFLOW.into())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("its pickle closes a group that it never opened")?;
        Ok(self.stack.split_off(mark))
    }
}

const UNDERFLOW: &str = "its pickle takes a value that it never put";

fn long(bytes: &[u8]) -> Node {
    match bytes.last() {
        None => Node::Int(0),
        Some(last) if bytes.len() <= 8 => {
            let mut wide = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
            wide[..bytes.len()].copy_from_slice(bytes);
            Node::Int(i64::from_le_bytes(wide))
        }
        Some(_) => Node::Long(bytes.into()),
    }
}

fn global(module: &str, name: &str) -> Result<Global, String> {
    let dtype = match (module, name) {
        ("collections", "OrderedDict") => return Ok(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => return Ok(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => return Ok(Global::RebuildParameter),
        ("torch", "FloatStorage") => Dtype::F32,
        ("torch", "HalfStorage") => Dtype::F16,
        ("torch", "BFloat16Storage") => Dtype::BF16,
        ("torch", "DoubleStorage") => Dtype::F64,
        ("torch", "LongStorage") => Dtype::I64,
        ("torch", "IntStorage") => Dtype::I32,
        ("torch", "ShortStorage") => Dtype::I16,
        ("torch", "CharStorage") => Dtype::I8,
        ("torch", "ByteStorage") => Dtype::U8,
        ("torch", "BoolStorage") => Dtype::BOOL,
        _ => {
            return Err(format!(
                "its pickle names `{module}.{name}`, which a state dict has no need of; nothing was run. \
                 Save `model.state_dict()` instead, and do not trust this file"
            ));
        }
    };
    Ok(Global::StorageType(dtype))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Pickle, String> {
        Pickle::read(&mut std::io::BufReader::new(bytes))
    }

    #[test]
    fn code_is_named_and_not_run() {
        for bytes in [
            b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00exit\x85R.".as_slice(),
            b"\x80\x02cposix\nsystem\n.",
            b"\x80\x02c__builtin__\neval\n.",
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04exit\x85R.",
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.contains("system`") || error.contains("eval`"), "{error}");
            assert!(error.contains("nothing was run"), "{error}");
        }
        // INST and OBJ are other ways to call.
        assert!(read(b"(S'exit'\nios\nsystem\n.").unwrap_err().contains("0x53"));
        assert!(read(b"(U\x04exitios\nsystem\n.").unwrap_err().contains("0x69"));
        assert!(read(b"(ios\nsystem\n.").unwrap_err().contains("0x69"));
        assert!(read(b"(cos\nsystem\no.").unwrap_err().contains("os.system"));
    }

    #[test]
    fn a_length_beyond_the_bound_takes_no_memory() {
        assert!(read(b"\x80\x02X\xff\xff\xff\xffabc.").unwrap_err().contains("longer than"));
    }

    #[test]
    fn sharing_and_cycles_are_cheap() {
        // A list that holds itself, and tuples that double thirty times.
        let mut bytes = b"\x80\x02]q\x00h\x00a".to_vec();
        for _ in 0..30 {
            bytes.extend(b"q\x01h\x01\x86");
        }
        bytes.push(b'.');
        assert!(matches!(read(&bytes).unwrap().root(), Node::Tuple(_)));
    }

    #[test]
    fn a_list_made_a_dict_again_and_again_is_stopped() {
        let mut bytes = b"\x80\x02ccollections\nOrderedDict\nq\x00](".to_vec();
        bytes.extend(b"NN\x86".repeat(10_000));
        bytes.extend(b"eq\x01");
        bytes.extend(b"h\x00h\x01\x85R".repeat(1_000));
        bytes.push(b'.');
        assert!(read(&bytes).unwrap_err().contains("longer than"));
    }

    #[test]
    fn long_integers_keep_their_sign() {
        assert_eq!(long(&[0xff]), Node::Int(-1));
        assert_eq!(long(&[0xff, 0x00]), Node::Int(255));
        assert_eq!(long(&[]), Node::Int(0));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(
            prop_oneof![proptest::sample::select(b"(.KMJXGNtq)h]}aesucRbQ\x80\x85\x86\x87\x88\x89\x8a\x93\x94".to_vec()), 0u8..4],
            0..64))
        {
            let _ = read(&bytes);
        }
    }
}

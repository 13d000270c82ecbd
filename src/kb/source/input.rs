//! The bytes of a source: a file as it is, compressed with gzip or Zstandard, or one member of a zip archive.
//!
//! Which of them a file is, its first bytes say; its name counts for nothing. Nothing is unpacked to disk, and memory
//! is bounded by the decompressor's window. The sizes and the check sum that an archive gives for a member are
//! compared at its end, since a deflate stream that is cut off would otherwise look like a short file.
//! Formats: gzip RFC 1952 (several members one after another are one stream), Zstandard RFC 8878, zip APPNOTE 6.3
//! (stored and deflated members, zip64).

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::io::hash::{blake3_bytes, blake3_file};

/// Bytes read at once.
const PIECE: usize = 1 << 17;

/// Most members of an archive that an error lists.
const LISTED: usize = 8;

/// What a directory entry says of a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let meta = fs_err::metadata(path)?;
        Ok(Self { size: meta.len(), modified: meta.modified().ok() })
    }
}

/// How the bytes lie in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
    Zip(Member),
}

/// Where a member of an archive lies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    name: String,
    /// Offset of its first byte in the archive.
    start: u64,
    compressed: u64,
    size: u64,
    crc: u32,
    deflated: bool,
    /// Whether no other member could have been meant.
    only: bool,
}

/// A file's content as a stream of bytes.
pub(super) struct Input {
    file: PathBuf,
    packing: Packing,
    stamp: Stamp,
    reader: Box<dyn BufRead + Send>,
    /// Offset in the content.
    offset: u64,
    /// Offset in the file.
    consumed: Arc<AtomicU64>,
    ended: bool,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("file", &self.file)
            .field("packing", &self.packing)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl Input {
    /// Opens `path`: a file, or `ARCHIVE.zip!MEMBER` (`#` serves as well).
    ///
    /// # Errors
    /// The system's reason, or why no member of an archive can be taken.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (file, member) = split_member(path);
        let file = fs_err::canonicalize(&file)?;
        if file.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory; expected a file"));
        }
        let stamp = Stamp::of(&file)?;
        let mut magic = Vec::new();
        fs_err::File::open(&file)?.take(4).read_to_end(&mut magic)?;
        let packing = match magic.as_slice() {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            // A frame, or one that is to be skipped before it (parallel compressors write those).
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Packing::Zstd,
            [b'P', b'K', 3, 4] | [b'P', b'K', 5, 6] => Packing::Zip(find_member(&file, member.as_deref())?),
            _ => Packing::Plain,
        };
        if let (Some(member), false) = (member, matches!(packing, Packing::Zip(_))) {
            let reason = format!("{member:?} is asked for, but {} is not a zip archive", file.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let reader: Box<dyn BufRead + Send> = Box::new(io::empty());
        let mut input =
            Self { file, packing, stamp, reader, offset: 0, consumed: Arc::new(AtomicU64::new(0)), ended: false };
        input.rewind()?;
        Ok(input)
    }

    /// The file, with the member that was asked for behind a `!`.
    pub(super) fn path(&self) -> PathBuf {
        match &self.packing {
            Packing::Zip(member) if !member.only => {
                let mut path = self.file.clone().into_os_string();
                path.push("!");
                path.push(&member.name);
                path.into()
            }
            _ => self.file.clone(),
        }
    }

    /// Directory that the file lies in.
    pub(super) fn parent(&self) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("/")).to_owned()
    }

    /// BLAKE3 of the file's bytes, compressed as they are; of an archive with several members, mixed with the name of
    /// the one that is read. Reads the file once.
    pub(super) fn hash(&self) -> io::Result<String> {
        let hash = blake3_file(&self.file)?;
        Ok(match &self.packing {
            Packing::Zip(member) if !member.only => blake3_bytes(format!("{hash}!{}", member.name).as_bytes()),
            _ => hash,
        })
    }

    /// The directory entry's stamp when the file was opened.
    pub(super) fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Whether the file is still what it was when it was opened, by size and time.
    pub(super) fn is_unchanged(&self) -> io::Result<bool> {
        Ok(Stamp::of(&self.file)? == self.stamp)
    }

    /// Offset in the content of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the file that were read, of the size in [`Input::stamp`].
    pub(super) fn consumed(&self) -> u64 {
        match self.packing {
            Packing::Plain => self.offset.min(self.stamp.size),
            _ if self.ended => self.stamp.size,
            _ => self.consumed.load(Ordering::Relaxed).min(self.stamp.size),
        }
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// The system's or the decompressor's reason with the place.
    pub(super) fn fill(&mut self) -> io::Result<&[u8]> {
        loop {
            match self.reader.fill_buf() {
                // A second call gives what the first one has read.
                Ok(piece) => {
                    self.ended = piece.is_empty();
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.at(&e)),
            }
        }
        if self.ended { Ok(&[]) } else { self.reader.fill_buf() }
    }

    /// Steps over `bytes` of what [`Input::fill`] gave.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.offset += bytes as u64;
    }

    /// Goes on at `offset` of the content: a jump in a plain file; a compressed one is read up to there.
    ///
    /// # Errors
    /// As [`Input::fill`], and where the content is shorter than that.
    pub(super) fn go_to(&mut self, offset: u64) -> io::Result<()> {
        if self.packing == Packing::Plain {
            self.rewind_to(offset)?;
            self.offset = offset;
            return Ok(());
        }
        if offset < self.offset {
            self.rewind()?;
        }
        while self.offset < offset {
            let wanted = offset - self.offset;
            let piece = self.fill()?.len();
            if piece == 0 {
                let reason = format!("it ends at byte {} of its content, before {offset}", self.offset);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
            }
            self.consume(piece.min(usize::try_from(wanted).unwrap_or(piece)));
        }
        Ok(())
    }

    fn rewind(&mut self) -> io::Result<()> {
        self.rewind_to(0)
    }

    /// Opens the file again; at `start` if it is plain.
    fn rewind_to(&mut self, start: u64) -> io::Result<()> {
        let start = if let Packing::Zip(member) = &self.packing { member.start } else { start };
        let mut file = fs_err::File::open(&self.file)?;
        file.seek(SeekFrom::Start(start))?;
        self.consumed.store(start, Ordering::Relaxed);
        let file = Counted { file, count: Arc::clone(&self.consumed) };
        self.reader = match &self.packing {
            Packing::Plain => Box::new(BufReader::with_capacity(PIECE, file)),
            Packing::Gzip => buffered(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(PIECE, file))),
            Packing::Zstd => buffered(zstd::Decoder::with_buffer(BufReader::with_capacity(PIECE, file))?),
            Packing::Zip(member) => {
                let range = BufReader::with_capacity(PIECE, file).take(member.compressed);
                let whole = (member.size, member.crc);
                if member.deflated {
                    buffered(Checked::new(flate2::bufread::DeflateDecoder::new(range), whole))
                } else {
                    buffered(Checked::new(range, whole))
                }
            }
        };
        self.offset = 0;
        self.ended = false;
        Ok(())
    }

    /// An error with the place where it happened.
    fn at(&self, error: &io::Error) -> io::Error {
        let offset = self.offset;
        let reason = match &self.packing {
            Packing::Plain => format!("byte {offset}: {error}"),
            packing => {
                let what = match packing {
                    Packing::Gzip => "gzip".to_owned(),
                    Packing::Zstd => "Zstandard".to_owned(),
                    Packing::Zip(member) => format!("zip (member {:?})", member.name),
                    Packing::Plain => String::new(),
                };
                let read = self.consumed.load(Ordering::Relaxed);
                format!(
                    "its {what} data break off or are damaged behind byte {offset} of the content, within the first \
                     {read} bytes of the file: {error}; download it again"
                )
            }
        };
        io::Error::new(error.kind(), reason)
    }
}

fn buffered(reader: impl Read + Send + 'static) -> Box<dyn BufRead + Send> {
    Box::new(BufReader::with_capacity(PIECE, reader))
}

/// A file that counts what is read of it.
struct Counted {
    file: fs_err::File,
    count: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A member's content, whose length and check sum are compared at its end.
struct Checked<R> {
    reader: R,
    read: u64,
    crc: flate2::Crc,
    expected: (u64, u32),
}

impl<R> Checked<R> {
    fn new(reader: R, expected: (u64, u32)) -> Self {
        Self { reader, read: 0, crc: flate2::Crc::new(), expected }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.crc.update(&buffer[..read]);
        self.read += read as u64;
        if read == 0 && !buffer.is_empty() {
            let (size, crc) = self.expected;
            if self.read != size {
                let reason = format!("{} bytes of {size}", self.read);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
            }
            if self.crc.sum() != crc {
                let reason = format!("its check sum is {:08x}, expected {crc:08x}", self.crc.sum());
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        }
        Ok(read)
    }
}

/// Takes `ARCHIVE!MEMBER` apart, where only the part before the mark is a file.
fn split_member(path: &Path) -> (PathBuf, Option<String>) {
    if let (false, Some(text)) = (path.exists(), path.to_str()) {
        for (at, _) in text.match_indices(['!', '#']) {
            let (file, member) = (Path::new(&text[..at]), &text[at + 1..]);
            if file.is_file() && !member.is_empty() {
                return (file.to_owned(), Some(member.to_owned()));
            }
        }
    }
    (path.to_owned(), None)
}

fn find_member(path: &Path, wanted: Option<&str>) -> io::Result<Member> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let damaged =
        |e| invalid(format!("it begins like a zip archive, but cannot be read as one: {e}; download it again"));
    let file = BufReader::new(fs_err::File::open(path)?);
    let mut archive = zip::ZipArchive::new(file).map_err(damaged)?;
    let names: Vec<(usize, String)> = (0..archive.len())
        .filter_map(|n| Some((n, archive.name_for_index(n)?.to_owned())))
        .filter(|(_, name)| !name.ends_with('/'))
        .collect();
    // What archivers of some systems add is not data.
    let hidden = |name: &str| name.starts_with("__MACOSX/") || name.split('/').any(|part| part.starts_with('.'));
    let data: Vec<&(usize, String)> = names.iter().filter(|(_, name)| !hidden(name)).collect();
    let listed = || {
        let mut list: Vec<&str> = data.iter().take(LISTED).map(|(_, name)| name.as_str()).collect();
        if data.len() > LISTED {
            list.push("…");
        }
        list.join(", ")
    };
    let (index, name) = match (wanted, data.as_slice()) {
        (Some(wanted), _) => names
            .iter()
            .find(|(_, name)| name == wanted)
            .ok_or_else(|| invalid(format!("the archive has no member {wanted:?}; it has {}", listed())))?,
        (None, [only]) => only,
        (None, []) => return Err(invalid("the archive is empty; expected one file in it".to_owned())),
        (None, _) => {
            let (count, list, path) = (data.len(), listed(), path.display());
            return Err(invalid(format!("the archive has {count} members ({list}); name one as {path}!MEMBER")));
        }
    };
    let member = archive.by_index_raw(*index).map_err(damaged)?;
    let deflated = match member.compression() {
        zip::CompressionMethod::Stored => false,
        zip::CompressionMethod::Deflated => true,
        other => return Err(invalid(format!("its member {name:?} is packed as {other}; expected deflated or stored"))),
    };
    if member.encrypted() {
        return Err(invalid(format!("its member {name:?} is encrypted; expected one that is not")));
    }
    let start = member.data_start().ok_or_else(|| invalid(format!("its member {name:?} has no place in it")))?;
    Ok(Member {
        name: name.clone(),
        start,
        compressed: member.compressed_size(),
        size: member.size(),
        crc: member.crc32(),
        deflated,
        only: data.len() == 1 && data[0].0 == *index,
    })
}

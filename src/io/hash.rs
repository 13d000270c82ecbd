//! Hashes of files, read in pieces.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

const PIECE: usize = 1 << 17;

/// BLAKE3 of a file's content, 64 hex digits.
///
/// # Errors
/// The system's reason with the path.
pub fn blake3_file(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    each_piece(path, |piece| {
        hasher.update(piece);
    })?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// SHA-256 of a file's content, 64 hex digits in lower case.
///
/// # Errors
/// The system's reason with the path.
pub fn sha256_file(path: &Path) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    each_piece(path, |piece| hasher.update(piece))?;
    Ok(hex(&hasher.finalize()))
}

/// BLAKE3 of bytes, 64 hex digits.
#[must_use]
pub fn blake3_bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Bytes as lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn each_piece(path: &Path, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut file = fs_err::File::open(path)?;
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => take(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs_err::write(&path, b"abc").unwrap();
        assert_eq!(sha256_file(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(blake3_file(&path).unwrap(), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
    }

    #[test]
    fn a_file_of_several_pieces_is_hashed_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        let mut bytes = vec![7; 3 * PIECE + 5];
        fs_err::write(&path, &bytes).unwrap();
        assert_eq!(blake3_file(&path).unwrap(), blake3_bytes(&bytes));
        let before = sha256_file(&path).unwrap();
        *bytes.last_mut().unwrap() = 8;
        fs_err::write(&path, &bytes).unwrap();
        assert_ne!(sha256_file(&path).unwrap(), before);
    }
}

//! SHA-256, as the hexadecimal text that manifests hold.

use ring::digest::{Context, SHA256};

/// A digest that grows with what goes by.
#[derive(Clone)]
pub(crate) struct Digest(Context);

impl Digest {
    pub(crate) fn new() -> Digest {
        Digest(Context::new(&SHA256))
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// 64 hexadecimal digits.
    pub(crate) fn text(self) -> String {
        hex(self.0.finish().as_ref())
    }
}

/// The digest of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut digest = Digest::new();
    digest.add(bytes);
    digest.text()
}

/// The crc32c of some bytes, as 8 hexadecimal digits.
pub(crate) fn crc(bytes: &[u8]) -> String {
    format!("{:08x}", crc32c::crc32c(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_that_other_programs_compute() {
        // Goal: whoever has `sha256sum` can check a backup without us.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), known);
        assert_eq!(crc(b"123456789"), "e3069283");
    }
}

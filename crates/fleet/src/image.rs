//! Names of images, as an operator may choose them, and their tags.

use std::fmt;
use std::str::FromStr;

/// Longest name, as registries have it.
const LONGEST: usize = 255;
/// Longest tag.
const LONGEST_TAG: usize = 128;
/// Fewest digits of a digest.
const SHORTEST_DIGEST: usize = 32;

/// The reference of an image: `ghcr.io/owner/name:tag`, `name`, `localhost:5000/name@sha256:…`. Never an option, a URL or
/// two words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef(String);

/// The tag of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(String);

/// Not the reference of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an image's name is expected, like ghcr.io/owner/name:tag, in lower case and without a scheme")]
pub struct InvalidImage;

/// Not a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tag has 1 to {LONGEST_TAG} letters, digits, dots, dashes and underscores, no dot or dash first")]
pub struct InvalidTag;

impl ImageRef {
    /// One of the images that engines are known to run in.
    pub(crate) fn known(repository: &'static str, tag: &Tag) -> Self {
        Self(format!("{repository}:{tag}"))
    }

    /// As Docker takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it says neither a registry nor an owner: an image of this machine alone, or one of Docker's own.
    pub fn is_bare(&self) -> bool {
        !self.0.contains('/')
    }
}

impl Tag {
    /// Of one of the known images.
    pub(crate) fn known(tag: &'static str) -> Self {
        Self(tag.to_owned())
    }
}

impl FromStr for ImageRef {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash is the registry's port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        let is_fine = text.len() <= LONGEST + LONGEST_TAG
            && is_name(name)
            && tag.is_none_or(|tag| tag.parse::<Tag>().is_ok())
            && digest.is_none_or(is_digest);
        if is_fine { Ok(Self(text.to_owned())) } else { Err(InvalidImage) }
    }
}

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let fits = (1..=LONGEST_TAG).contains(&text.len()) && !text.starts_with(['.', '-']);
        if fits && text.chars().all(is_plain) { Ok(Self(text.to_owned())) } else { Err(InvalidTag) }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `registry/path/path`, the registry only where the first part looks like one.
fn is_name(name: &str) -> bool {
    let path = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            if !is_registry(first) {
                return false;
            }
            rest
        }
        _ => name,
    };
    name.len() <= LONGEST && path.split('/').all(is_part)
}

fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let is_number = port.bytes().all(|digit| digit.is_ascii_digit());
    !host.is_empty() && host.bytes().all(is_host) && is_number && port.parse::<u16>().is_ok()
}

fn is_part(part: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_plain = |c: char| is_inner(c) || matches!(c, '.' | '_' | '-');
    part.starts_with(is_inner)
        && part.ends_with(is_inner)
        && part.chars().all(is_plain)
        && !part.contains("..")
}

fn is_digest(digest: &str) -> bool {
    let is_hash =
        |hash: &str| hash.len() >= SHORTEST_DIGEST && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    digest.strip_prefix("sha256:").or_else(|| digest.strip_prefix("sha512:")).is_some_and(is_hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_images_are_accepted_and_nothing_else() {
        let digest = "0".repeat(64);
        for (text, is_bare) in [
            ("ghcr.io/krinkuto11/acestream:latest-amd64", false),
            ("jopsis/acestream", false),
            ("localhost:5000/engine", false),
            ("Registry.Example:443/a/b_c.d-e:1", false),
            ("acemux-sim:fast", true),
            ("engine", true),
            (&format!("ghcr.io/a/b:1@sha256:{digest}"), false),
        ] {
            assert_eq!(text.parse::<ImageRef>().map(|image| image.is_bare()), Ok(is_bare), "{text}");
        }
        for text in [
            "",
            " ",
            "a b",
            "https://ghcr.io/a/b",
            "http://user:pass@host/a",
            "docker://a/b",
            "Jopsis/acestream",
            "jopsis/AceStream",
            "--privileged",
            "-v",
            "a/../b",
            "/a",
            "a/",
            "a//b",
            "a:",
            "a:b:c",
            "a:.b",
            "a@sha256:abc",
            "a@latest",
            "a\n",
            "$(id)",
            "a;id",
            "host:99999/a",
            "ghcr.io/",
            "é",
            &"a".repeat(500),
        ] {
            assert_eq!(text.parse::<ImageRef>(), Err(InvalidImage), "{text:?}");
        }
    }

    #[test]
    fn a_tag_is_one_plain_word() {
        assert!("arm64-v3.2.13".parse::<Tag>().is_ok());
        for wrong in ["", "a b", "a/b", "a:b", "a@b", ".a", "-a", "é", "a\n", &"a".repeat(129)] {
            assert_eq!(wrong.parse::<Tag>(), Err(InvalidTag), "{wrong:?}");
        }
    }
}

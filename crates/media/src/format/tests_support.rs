//! How tests write bytes and read pictures.

use super::{Picture, Scan};

pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hexadecimal");
    digits.chunks(2).map(byte).collect()
}

pub(super) fn shown(picture: Picture) -> String {
    let scan = if picture.scan == Scan::Progressive { 'p' } else { 'i' };
    let rate = picture.rate.map_or_else(|| "?".to_owned(), |rate| rate.to_string());
    format!("{}x{}{scan} {rate}", picture.width, picture.height)
}

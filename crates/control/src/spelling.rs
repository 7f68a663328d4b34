//! A key has two spellings of the same random bits: ours, and the one that clients of the E2B protocol take for a key.

use std::borrow::Cow;

use skerry_types::id::{base62_decode, base62_encode};

/// What our spelling begins with; two times 22 base62 digits follow.
pub(crate) const OURS: &str = "sk_";
/// What the other begins with; 64 lower-case hexadecimal digits follow.
const OTHER: &str = "e2b_";
/// Digits of half a key.
const HALF: [usize; 2] = [22, 32];

/// Our spelling of a key in either one; `None`: it is neither.
pub(crate) fn ours(secret: &str) -> Option<Cow<'_, str>> {
    if secret.starts_with(OURS) {
        return Some(secret.into());
    }
    let digits = secret.strip_prefix(OTHER)?;
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() != 2 * HALF[1] || !digits.bytes().all(is_hex) {
        return None;
    }
    let half = |text| u128::from_str_radix(text, 16).ok().map(base62_encode);
    let (first, second) = digits.split_at(HALF[1]);
    Some(format!("{OURS}{}{}", half(first)?, half(second)?).into())
}

/// Whether this looks like a key of ours, in either spelling.
pub fn is_key(secret: &str) -> bool {
    ours(secret).is_some()
}

/// The same key as clients of the E2B protocol take it; `None` for what is no key of ours.
pub fn e2b_key(secret: &str) -> Option<String> {
    let digits = secret.strip_prefix(OURS)?;
    let (first, second) = digits.split_at_checked(HALF[0])?;
    let (first, second) = (base62_decode(first)?, base62_decode(second)?);
    Some(format!("{OTHER}{first:032x}{second:032x}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_two_spellings_are_the_same_key(first: u128, second: u128) {
            let secret = format!("{OURS}{}{}", base62_encode(first), base62_encode(second));
            let other = e2b_key(&secret).unwrap();
            prop_assert_eq!(other.len(), OTHER.len() + 64);
            prop_assert_eq!(ours(&other).unwrap(), &*secret);
            prop_assert_eq!(ours(&secret).unwrap(), &*secret);
            // One spelling each, or a key could be shown in more ways than anyone looks for.
            prop_assert!(ours(&other.to_uppercase()).is_none());
        }

        #[test]
        fn nothing_makes_it_panic(text in "(sk_|e2b_|)[0-9a-zé]{0,80}") {
            let _either = (ours(&text), e2b_key(&text));
        }
    }
}

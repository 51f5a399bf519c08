//! The names of tags in the names of files: `shop/Kitchen:RC` is `shop%kitchen:rc+6020`.
//!
//! Some file systems ignore the case of letters, so two tags that differ only in case would be one file there. A name has
//! small letters only. Behind a `+` is the number whose bits say which characters of the tag are capital letters. `%` stands for
//! the `/` after a namespace. No tag contains `+` or `%`.

use crate::Tag;

/// The tag as a part of a file name. Each tag has a name of its own, whatever the file system does with letters.
pub(super) fn of(tag: &Tag) -> String {
    let name = tag.as_str().replace('/', "%").to_ascii_lowercase();
    // A tag has at most a hundred characters.
    let capitals = tag.as_str().bytes().enumerate().filter(|(_, byte)| byte.is_ascii_uppercase());
    match capitals.fold(0_u128, |bits, (index, _)| bits | 1 << index) {
        0 => name,
        bits => format!("{name}+{bits:x}"),
    }
}

/// The tag with a name; `None` for a name of something else.
pub(super) fn parse(name: &str) -> Option<Tag> {
    let (small, bits) = match name.split_once('+') {
        Some((small, bits)) => (small, u128::from_str_radix(bits, 16).ok()?),
        None => (name, 0),
    };
    let letters = small.bytes().enumerate().map(|(index, byte)| match byte {
        b'%' => b'/',
        byte if is_set(bits, index) => byte.to_ascii_uppercase(),
        byte => byte,
    });
    let tag: Tag = String::from_utf8(letters.collect()).ok()?.parse().ok()?;
    // A name that this waft would not write is of something else.
    (of(&tag) == name).then_some(tag)
}

fn is_set(bits: u128, index: usize) -> bool {
    u32::try_from(index).ok().and_then(|index| bits.checked_shr(index)).is_some_and(|bits| bits & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_differ_in_case_have_names_that_differ_without_it() {
        let longest = format!("Shop/{}", "X".repeat(95));
        let tags = [
            "kitchen",
            "Kitchen",
            "KITCHEN",
            "kitcheN",
            "shop/kitchen:rc",
            "shop/kitchen:RC",
            "Shop/kitchen:rc",
            &longest,
        ];
        let names: Vec<String> = tags.iter().map(|tag| of(&tag.parse().unwrap())).collect();
        for (tag, name) in tags.iter().zip(&names) {
            assert_eq!(parse(name).map(|tag| tag.as_str().to_owned()).as_deref(), Some(*tag));
            assert_eq!(name.to_ascii_lowercase(), *name, "no letter of it is a capital");
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1);
            // A signature has it behind a key, which has 64 digits.
            assert!(name.len() + "k".repeat(64).len() + "..minisig".len() <= 255, "{name}");
        }
        assert_eq!((names[0].as_str(), names[1].as_str()), ("kitchen", "kitchen+1"));
        assert_eq!(of(&"shop/Kitchen:RC".parse().unwrap()), "shop%kitchen:rc+6020");
    }

    #[test]
    fn a_name_that_no_tag_has_is_of_something_else() {
        for other in [
            "Kitchen",
            "kitchen+",
            "kitchen+0",
            "kitchen+01",
            "kitchen+80",
            "9+1",
            "kitchen+G",
            ".hidden",
            "a%b%c",
            "k+1+1",
        ] {
            assert!(parse(other).is_none(), "{other}");
        }
        assert!(parse(&format!("k+{}", "f".repeat(40))).is_none());
    }
}

//! Durations and sizes, written as in a flow file.

use syn::LitStr;

/// `200ms 30s 5m 2h 7d`, in milliseconds.
pub(crate) fn milliseconds(literal: &LitStr) -> syn::Result<u64> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    amount(&literal.value(), &units).ok_or_else(|| {
        wrong(
            literal,
            "is not a duration: write a whole number and its unit, such as \"200ms\" \"30s\" \"5m\" \"2h\" or \"7d\"",
        )
    })
}

/// `64KiB 32MiB 1GiB`, in bytes.
pub(crate) fn bytes(literal: &LitStr) -> syn::Result<u64> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    amount(&literal.value(), &units).ok_or_else(|| {
        wrong(literal, "is not a size: write a whole number and its unit, such as \"64KiB\" \"32MiB\" or \"1GiB\"")
    })
}

fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(known, _)| *known == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor).filter(|amount| *amount > 0)
}

fn wrong(literal: &LitStr, what: &str) -> syn::Error {
    syn::Error::new_spanned(literal, format!("{:?} {what}", literal.value()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> LitStr {
        LitStr::new(text, proc_macro2::Span::call_site())
    }

    #[test]
    fn a_duration_is_a_whole_number_and_its_unit() {
        for (text, expected) in
            [("200ms", 200), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("1d", 86_400_000)]
        {
            assert_eq!(milliseconds(&literal(text)).unwrap(), expected, "{text}");
        }
        for text in ["", "30", "s", "1.5s", "-1s", "30 s", "0s", "30S", "99999999999999999999s", "9999999999999999d"] {
            assert!(milliseconds(&literal(text)).is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn a_size_is_a_whole_number_and_its_binary_unit() {
        for (text, expected) in [("64KiB", 65_536), ("32MiB", 33_554_432), ("1GiB", 1_073_741_824)] {
            assert_eq!(bytes(&literal(text)).unwrap(), expected, "{text}");
        }
        for text in ["", "64", "64KB", "64kib", "0MiB"] {
            assert!(bytes(&literal(text)).is_err(), "{text:?} passed");
        }
    }
}

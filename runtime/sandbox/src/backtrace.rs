//! The functions on the stack of a guest that trapped. The module chooses their names, so each name costs little, whatever it is.

use std::fmt::{self, Write as _};

use wasmtime::{FrameInfo, FrameSymbol, WasmBacktrace};

use crate::call::Frame;

/// The longest name that is demangled, in bytes. Those of generic Rust functions have some thousand.
const MAX_MANGLED_BYTES: usize = 4 << 10;

/// The most that is shown of a name or a path, in bytes: a mangled name may stand for a thousand times its size.
const MAX_SHOWN_BYTES: usize = 1 << 10;

/// What may follow a name or a path, in bytes: the mark of a text that is cut, a line and a column.
const MAX_SUFFIX_BYTES: usize = 32;

/// The maximum number of functions in the backtrace of a report.
const MAX_FRAMES: usize = 64;

/// The largest backtrace in JSON, which needs up to six bytes for one.
pub(crate) const MAX_JSON_BYTES: usize = MAX_FRAMES * (6 * 2 * (MAX_SHOWN_BYTES + MAX_SUFFIX_BYTES) + 64);

/// The name of a function as its source code has it, or as it is if it is very long. A long text is cut.
pub(crate) fn demangled(name: &str) -> String {
    if name.len() > MAX_MANGLED_BYTES {
        return shortened(name);
    }
    let mut shown = Shortened::default();
    // An error means that the text is long enough.
    let _ = write!(shown, "{:#}", rustc_demangle::demangle(name));
    shown.text
}

fn shortened(text: &str) -> String {
    let mut shown = Shortened::default();
    // As above.
    let _ = shown.write_str(text);
    shown.text
}

/// The functions on a trap's stack, innermost first, with files and lines where the module has them. A function that the compiler
/// of the module has put into another one is in the list too.
pub(crate) fn frames(error: &wasmtime::Error) -> Vec<Frame> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    // No more are demangled than are shown: a module may say that thousands of functions are in one.
    backtrace.frames().iter().flat_map(functions).take(MAX_FRAMES).collect()
}

/// The functions of one frame.
fn functions(frame: &FrameInfo) -> impl Iterator<Item = Frame> {
    let name = frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), demangled);
    let alone = frame.symbols().is_empty().then(|| Frame { function: name.clone(), place: None });
    let with_symbol = move |symbol: &FrameSymbol| {
        let line = |file: &str| match (symbol.line(), symbol.column()) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", shortened(file)),
            (Some(line), None) => format!("{}:{line}", shortened(file)),
            (None, _) => shortened(file),
        };
        Frame { function: symbol.name().map_or_else(|| name.clone(), demangled), place: symbol.file().map(line) }
    };
    alone.into_iter().chain(frame.symbols().iter().map(with_symbol))
}

/// Whether [`frames`] can have made these. Another process has sent them.
pub(crate) fn is_possible(frames: &[Frame]) -> bool {
    let fits = |text: &str| text.len() <= MAX_SHOWN_BYTES + MAX_SUFFIX_BYTES;
    frames.len() <= MAX_FRAMES
        && frames.iter().all(|Frame { function, place }| fits(function) && place.as_deref().is_none_or(fits))
}

/// A text that takes no more once it is cut.
#[derive(Default)]
struct Shortened {
    text: String,
    is_cut: bool,
}

impl fmt::Write for Shortened {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.is_cut {
            return Err(fmt::Error);
        }
        let room = MAX_SHOWN_BYTES - self.text.len();
        if more.len() <= room {
            self.text.push_str(more);
            return Ok(());
        }
        self.text.push_str(&more[..more.floor_char_boundary(room)]);
        self.text.push('…');
        self.is_cut = true;
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mangled name whose types have each twice the length of the one before.
    fn doubling(types: usize) -> String {
        let mut name = "INvC1a1fThhE".to_owned();
        let mut last = name.len() - "ThhE".len();
        for _ in 0..types {
            let at = name.len();
            let earlier = reference(last);
            name += &format!("T{earlier}{earlier}E");
            last = at;
        }
        format!("_R{name}E")
    }

    /// A reference to what is at a position above 0, as names have it.
    fn reference(at: usize) -> String {
        const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let (mut left, mut digits) = (at - 1, Vec::new());
        loop {
            digits.push(char::from(DIGITS[left % 62]));
            left /= 62;
            if left == 0 {
                break;
            }
        }
        let digits: String = digits.iter().rev().collect();
        format!("B{digits}_")
    }

    #[test]
    fn a_name_is_demangled() {
        assert_eq!(demangled("_ZN6greedy5panic17h0123456789abcdefE"), "greedy::panic");
        assert_eq!(demangled(&doubling(1)), "a::f::<(u8, u8), ((u8, u8), (u8, u8))>");
        assert_eq!(demangled("malloc"), "malloc");
    }

    #[test]
    fn a_name_that_stands_for_a_long_one_is_cut() {
        let name = doubling(20);
        assert!(name.len() < MAX_SHOWN_BYTES, "{}", name.len());
        let shown = demangled(&name);
        assert!(shown.starts_with("a::f::<(u8, u8), ") && shown.ends_with('…'), "{shown}");
        assert!(shown.len() <= MAX_SHOWN_BYTES + '…'.len_utf8(), "{}", shown.len());
        // It is not demangled either.
        let long = demangled(&format!("_ZN6greedy{}E", "5panic".repeat(1_000)));
        assert!(long.starts_with("_ZN6greedy5panic") && long.len() <= MAX_SHOWN_BYTES + '…'.len_utf8(), "{long}");
        assert_eq!(demangled(&"ä".repeat(MAX_SHOWN_BYTES)).chars().filter(|letter| *letter == 'ä').count(), 512);
    }

    #[test]
    fn the_backtrace_of_another_process_is_no_larger_than_one_of_this_process() {
        let frame = |bytes: usize| Frame { function: "f".repeat(bytes), place: Some("p".repeat(bytes)) };
        let largest = vec![frame(MAX_SHOWN_BYTES); MAX_FRAMES];
        assert!(is_possible(&[]) && is_possible(&largest));
        assert!(!is_possible(&[frame(2 * MAX_SHOWN_BYTES)]) && !is_possible(&vec![frame(1); MAX_FRAMES + 1]));
        let control = Frame { function: "\0".repeat(MAX_SHOWN_BYTES), place: Some("\0".repeat(MAX_SHOWN_BYTES)) };
        let json = serde_json::to_vec(&vec![control; MAX_FRAMES]).unwrap();
        assert!(json.len() <= MAX_JSON_BYTES, "{}", json.len());
    }
}

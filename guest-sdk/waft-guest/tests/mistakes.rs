//! What a mistake in a macro's use tells: each file in `ui/` with the exact words of the compiler.

#[test]
fn a_mistake_tells_what_is_wrong_and_what_to_write_instead() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

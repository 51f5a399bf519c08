//! The compiler's exact messages for wrong uses of the macros: one file in `ui/` each.

#[test]
fn wrong_uses_get_helpful_messages() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

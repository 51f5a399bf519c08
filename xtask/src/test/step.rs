//! The steps that the tests consist of.

/// One step, in the order in which they are carried out: the quick ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Format,
    Clippy,
    Docs,
    Guests,
    GuestTests,
    Build,
    Tests,
    Doctests,
}

impl Step {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 8] = [
        Self::Format,
        Self::Clippy,
        Self::Docs,
        Self::Guests,
        Self::GuestTests,
        Self::Build,
        Self::Tests,
        Self::Doctests,
    ];

    /// As `--only` takes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Format => "fmt",
            Self::Clippy => "clippy",
            Self::Docs => "doc",
            Self::Guests => "guests",
            Self::GuestTests => "guest-tests",
            Self::Build => "build",
            Self::Tests => "tests",
            Self::Doctests => "doctests",
        }
    }

    /// The step of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }

    /// Whether the steps after it have nothing to work on when it fails. Elsewhere the more is found out at once, the
    /// better.
    pub(crate) const fn is_needed_by_the_rest(self) -> bool {
        match self {
            Self::Guests | Self::Build => true,
            Self::Format | Self::Clippy | Self::Docs | Self::GuestTests | Self::Tests | Self::Doctests => false,
        }
    }
}

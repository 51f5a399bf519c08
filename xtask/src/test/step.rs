//! The steps of the tests.

/// One step, in execution order: the quick ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Format,
    Clippy,
    Docs,
    Dashboard,
    Guests,
    GuestTests,
    Build,
    Tests,
    Browser,
    Doctests,
}

impl Step {
    /// All steps, in order.
    pub(crate) const ALL: [Self; 10] = [
        Self::Format,
        Self::Clippy,
        Self::Docs,
        Self::Dashboard,
        Self::Guests,
        Self::GuestTests,
        Self::Build,
        Self::Tests,
        Self::Browser,
        Self::Doctests,
    ];

    /// The step's name for `--only`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Format => "fmt",
            Self::Clippy => "clippy",
            Self::Docs => "doc",
            Self::Dashboard => "dashboard",
            Self::Guests => "guests",
            Self::GuestTests => "guest-tests",
            Self::Build => "build",
            Self::Tests => "tests",
            Self::Browser => "browser",
            Self::Doctests => "doctests",
        }
    }

    /// The step with a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }

    /// Whether later steps cannot work if this one fails. After other failures the rest still runs, to find as much as
    /// possible at once.
    pub(crate) const fn is_required_by_later_steps(self) -> bool {
        match self {
            Self::Guests | Self::Build => true,
            Self::Format
            | Self::Clippy
            | Self::Docs
            | Self::Dashboard
            | Self::GuestTests
            | Self::Tests
            | Self::Browser
            | Self::Doctests => false,
        }
    }
}

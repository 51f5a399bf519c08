//! Tasks that are called for each element of a list.

use std::num::NonZeroU32;

use super::{TaskBuilder, parse_name};
use crate::{
    Json,
    draft::{DraftForEach, DraftList},
};

impl TaskBuilder {
    /// Calls the task for each element of the list in a value; `element` is the flow's name for the element.
    #[must_use]
    pub fn for_each(mut self, list: impl AsRef<str>, element: impl AsRef<str>) -> Self {
        let list = parse_name(list.as_ref(), &self.owner, &mut self.diagnostics);
        let element = parse_name(element.as_ref(), &self.owner, &mut self.diagnostics);
        if let Some(list) = list {
            self.for_each = Some(DraftForEach { list: DraftList::Value(list), element, max_parallel: None });
        }
        self
    }

    /// Calls the task for each of these values; `element` is the flow's name for the value of a call.
    #[must_use]
    pub fn for_each_of(mut self, list: impl IntoIterator<Item = Json>, element: impl AsRef<str>) -> Self {
        let element = parse_name(element.as_ref(), &self.owner, &mut self.diagnostics);
        let list = DraftList::Literal(list.into_iter().collect());
        self.for_each = Some(DraftForEach { list, element, max_parallel: None });
        self
    }

    /// Sets the maximum number of parallel calls, from 1 to [`DraftForEach::MAX_PARALLEL`].
    #[must_use]
    pub fn max_parallel(mut self, max: u32) -> Self {
        let max = self.count("max_parallel", max, DraftForEach::MAX_PARALLEL);
        self.for_each.iter_mut().for_each(|each| each.max_parallel = max.map(NonZeroU32::get));
        self
    }
}

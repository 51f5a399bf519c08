//! The elements of a JSON list.

use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Json;

impl Json {
    /// The elements, when the text is a list; each keeps its digits.
    #[must_use]
    pub fn elements(&self) -> Option<Vec<Json>> {
        self.elements_up_to(usize::MAX).map(|(elements, _)| elements)
    }

    /// The elements and their number, when the text is a list. The elements of a list with more than `most` are only counted:
    /// then none is returned.
    #[must_use]
    pub fn elements_up_to(&self, most: usize) -> Option<(Vec<Json>, usize)> {
        serde_json::Deserializer::from_str(self.as_str()).deserialize_seq(ElementVisitor { most }).ok()
    }
}

struct ElementVisitor {
    most: usize,
}

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = (Vec<Json>, usize);

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list")
    }

    fn visit_seq<Elements: SeqAccess<'de>>(self, mut list: Elements) -> Result<Self::Value, Elements::Error> {
        let (mut elements, mut count) = (Vec::new(), 0);
        while let Some(element) = list.next_element::<&RawValue>()? {
            count += 1;
            if count <= self.most {
                elements.push(Json(element.get().into()));
            } else {
                elements = Vec::new();
            }
        }
        Ok((elements, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_too_long_is_only_counted() {
        let list = Json::parse("[1.50, [2, 3], \"]\"]").unwrap();
        let elements = ["1.50", "[2, 3]", "\"]\""].map(|text| Json::parse(text).unwrap());
        assert_eq!(list.elements_up_to(3), Some((elements.to_vec(), 3)));
        assert_eq!(list.elements_up_to(2), Some((Vec::new(), 3)));
        assert_eq!(list.elements(), Some(elements.to_vec()));
        for other in ["{\"a\":1}", "7", "\"[]\""] {
            assert_eq!(Json::parse(other).unwrap().elements_up_to(2), None, "{other}");
        }
    }
}

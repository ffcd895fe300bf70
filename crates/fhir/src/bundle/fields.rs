//! The members of an object and the items of a list, as raw text. Only members that somebody here asks for are kept, and of a
//! list no more than will do: an answer of 16 MiB may hold millions of either.

use super::ENTRIES_MAX;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Every member that is read of a Bundle, its entries, and the heads of their resources.
const NAMES: [&str; 23] = [
    "entry",
    "etag",
    "fullUrl",
    "id",
    "lastModified",
    "lastUpdated",
    "link",
    "location",
    "meta",
    "method",
    "mode",
    "outcome",
    "relation",
    "request",
    "resource",
    "resourceType",
    "response",
    "search",
    "status",
    "total",
    "type",
    "url",
    "versionId",
];

/// Members by name; of a name that stands twice the last.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>(Vec<(&'static str, &'a RawValue)>);

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        debug_assert!(NAMES.contains(&name), "{name} is not kept");
        self.0.iter().find(|(kept, _)| *kept == name).map(|(_, raw)| *raw)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(Name(name)) = map.next_key()? {
                    let Some(name) = name else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    let raw = map.next_value()?;
                    match fields.0.iter_mut().find(|(kept, _)| *kept == name) {
                        Some(slot) => slot.1 = raw,
                        None => fields.0.push((name, raw)),
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A name that is kept, or none.
struct Name(Option<&'static str>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self(NAMES.into_iter().find(|kept| *kept == name)))
    }
}

/// The items of a list, up to one more than [`ENTRIES_MAX`].
#[derive(Debug, Default)]
pub(super) struct RawList<'a>(pub(super) Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for RawList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = RawList<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawList<'de>, A::Error> {
                let mut items = Vec::new();
                while items.len() <= ENTRIES_MAX {
                    match seq.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(RawList(items)),
                    }
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(RawList(items))
            }
        }
        deserializer.deserialize_seq(Items)
    }
}

//! JSON text kept digit for digit: building, reading and editing of the values that the sandbox stores.
//!
//! serde_json rewrites `1e3` as `1e+3` even with `arbitrary_precision`; a FHIR decimal has to come back as it was sent
//! (datatypes.html#decimal), so what is stored is fhirkit's JSON, which keeps each number's text.

pub(crate) use fhirkit::Json;

/// An object of these members.
pub(crate) fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A JSON string.
pub(crate) fn string(text: impl Into<String>) -> Json {
    Json::String(text.into())
}

/// A JSON number from a whole number.
pub(crate) fn whole(number: impl Into<i128>) -> Json {
    Json::Number(number.into().to_string())
}

/// The same value as fhirkit's JSON.
pub(crate) fn from_serde(value: &serde_json::Value) -> Json {
    use serde_json::Value;
    match value {
        Value::Null => Json::Null,
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Number(number) => Json::Number(number.to_string()),
        Value::String(text) => Json::String(text.clone()),
        Value::Array(items) => Json::Array(items.iter().map(from_serde).collect()),
        Value::Object(members) => Json::Object(members.iter().map(|(key, value)| (key.clone(), from_serde(value))).collect()),
    }
}

/// The string at `key`.
pub(crate) fn str_at<'a>(value: &'a Json, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Json::as_str)
}

/// The items of the array at `key`; a lone value counts as one item, absence as none.
pub(crate) fn items<'a>(value: &'a Json, key: &str) -> &'a [Json] {
    match value.get(key) {
        Some(Json::Array(items)) => items,
        Some(one) => std::slice::from_ref(one),
        None => &[],
    }
}

/// Sets `key`, in its place if it is there, else at `place` (or at the end).
pub(crate) fn set_at(value: &mut Json, key: &str, new: Json, place: usize) {
    if let Json::Object(members) = value {
        match members.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = new,
            None => members.insert(place.min(members.len()), (key.to_owned(), new)),
        }
    }
}

/// Sets `key`, in its place if it is there, else at the end.
pub(crate) fn set(value: &mut Json, key: &str, new: Json) {
    set_at(value, key, new, usize::MAX);
}

/// Takes `key` out.
pub(crate) fn remove(value: &mut Json, key: &str) -> Option<Json> {
    let Json::Object(members) = value else {
        return None;
    };
    let place = members.iter().position(|(name, _)| name == key)?;
    Some(members.remove(place).1)
}

/// The value at `key`, to change.
pub(crate) fn get_mut<'a>(value: &'a mut Json, key: &str) -> Option<&'a mut Json> {
    match value {
        Json::Object(members) => members.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value),
        _ => None,
    }
}

/// Shows every value below (and including) `value` with the key it stands under; parents before children.
pub(crate) fn walk_mut(value: &mut Json, key: &str, visit: &mut impl FnMut(&str, &mut Json)) {
    visit(key, value);
    match value {
        Json::Array(items) => {
            for item in items {
                walk_mut(item, key, visit);
            }
        }
        Json::Object(members) => {
            for (name, member) in members {
                walk_mut(member, name, visit);
            }
        }
        _ => {}
    }
}

/// The first member name that stands twice in one object: JSON for FHIR has unique names (json.html).
pub(crate) fn repeated_name(value: &Json) -> Option<&str> {
    match value {
        Json::Array(items) => items.iter().find_map(repeated_name),
        Json::Object(members) => {
            for (place, (name, member)) in members.iter().enumerate() {
                if members[..place].iter().any(|(earlier, _)| earlier == name) {
                    return Some(name);
                }
                if let Some(found) = repeated_name(member) {
                    return Some(found);
                }
            }
            None
        }
        _ => None,
    }
}

/// Rewrites every decimal as a server does that keeps binary doubles (1.10 → 1.1, 1e3 → 1000); says whether any changed.
pub(crate) fn round_decimals(value: &mut Json) -> bool {
    let mut changed = false;
    walk_mut(value, "", &mut |_, value| {
        if let Json::Number(text) = value {
            let rounded =
                text.parse::<f64>().ok().filter(|number| number.is_finite() && number.abs() < 1e21).map(|number| number.to_string());
            if let Some(rounded) = rounded
                && rounded != *text
            {
                *text = rounded;
                changed = true;
            }
        }
    });
    changed
}

/// Takes out all extensions, those of primitives (`_birthDate`) too; says whether there were any.
pub(crate) fn drop_extensions(value: &mut Json) -> bool {
    let mut changed = false;
    walk_mut(value, "", &mut |_, value| {
        if let Json::Object(members) = value {
            let before = members.len();
            members.retain(|(name, _)| name != "extension" && !name.starts_with('_'));
            changed |= members.len() != before;
        }
    });
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit_and_their_exponent() {
        let text = r#"{"a":1.10,"b":1e3,"c":0.1000000000000000000000000001,"d":[-0.0,100.00]}"#;
        assert_eq!(Json::parse(text).unwrap().to_compact(), text);
    }

    #[test]
    fn rounding_is_what_binary_doubles_do() {
        let mut value = Json::parse(r#"{"v":[1.10,0.10,1e3,100.00,5]}"#).unwrap();
        assert!(round_decimals(&mut value));
        assert_eq!(value.to_compact(), r#"{"v":[1.1,0.1,1000,100,5]}"#);
        assert!(!round_decimals(&mut value));
    }

    #[test]
    fn a_repeated_member_name_is_found_at_any_depth() {
        let value = Json::parse(r#"{"a":{"b":1,"b":2}}"#).unwrap();
        assert_eq!(repeated_name(&value), Some("b"));
        assert_eq!(repeated_name(&Json::parse(r#"{"a":[{"b":1},{"b":2}]}"#).unwrap()), None);
    }

    #[test]
    fn setting_a_member_keeps_the_order_of_the_others() {
        let mut value = Json::parse(r#"{"resourceType":"Patient","active":true}"#).unwrap();
        set_at(&mut value, "id", string("1"), 1);
        set(&mut value, "active", Json::Bool(false));
        assert_eq!(value.to_compact(), r#"{"resourceType":"Patient","id":"1","active":false}"#);
    }
}

//! One text for each meaning of a configuration, for its digest: comments, layout and the order of keys don't count.

use std::collections::BTreeMap;

use ambit_core::digest::Digest;
use toml::de::{DeArray, DeTable, DeValue};

/// The digest of a parsed file, of the contents of the files it names, and of what holds where it says nothing.
///
/// Secrets are not in it: the file names where they are.
pub(super) fn digest(document: &DeTable<'_>, named: &[Digest], defaults: &str) -> Digest {
    let mut text = String::new();
    table(document, &mut text);
    let mut parts = vec![text.as_bytes(), defaults.as_bytes()];
    parts.extend(named.iter().map(|digest| digest.as_bytes().as_slice()));
    Digest::domain("ambit/config/v1", &parts)
}

/// The digests of a file's parts: of each `[section]`, or, where a section has named parts alone, of each of these.
pub(super) fn sections(document: &DeTable<'_>) -> BTreeMap<String, Digest> {
    let of = |item: &DeValue<'_>| {
        let mut text = String::new();
        value(item, &mut text);
        Digest::domain("ambit/config-section/v1", &[text.as_bytes()])
    };
    let mut sections = BTreeMap::new();
    for (key, item) in document {
        let name = key.get_ref();
        let parts = match item.get_ref() {
            DeValue::Table(inner) if inner.values().all(|part| matches!(part.get_ref(), DeValue::Table(_))) => inner,
            other => {
                sections.insert(name.to_string(), of(other));
                continue;
            }
        };
        for (part, item) in parts {
            sections.insert(format!("{name}.{}", part.get_ref()), of(item.get_ref()));
        }
    }
    sections
}

/// As JSON. Tables are sorted already; strings cannot be mistaken for other values.
fn table(table: &DeTable<'_>, text: &mut String) {
    text.push('{');
    for (at, (key, item)) in table.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        string(key.get_ref(), text);
        text.push(':');
        value(item.get_ref(), text);
    }
    text.push('}');
}

fn array(items: &DeArray<'_>, text: &mut String) {
    text.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        value(item.get_ref(), text);
    }
    text.push(']');
}

fn value(item: &DeValue<'_>, text: &mut String) {
    match item {
        DeValue::String(inner) => string(inner, text),
        // `1_000`, `0x3e8` and `1000` are one number.
        DeValue::Integer(digits) => match i128::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => text.push_str(&number.to_string()),
            Err(_) => string(digits.as_str(), text),
        },
        DeValue::Float(digits) => text.push_str(digits.as_str()),
        DeValue::Boolean(flag) => text.push_str(if *flag { "true" } else { "false" }),
        DeValue::Datetime(time) => string(&format!("datetime {time}"), text),
        DeValue::Array(items) => array(items, text),
        DeValue::Table(inner) => table(inner, text),
    }
}

fn string(inner: &str, text: &mut String) {
    text.push_str(&serde_json::Value::from(inner).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Digest {
        digest(DeTable::parse(text).unwrap().get_ref(), &[], "")
    }

    #[test]
    fn layout_does_not_count_and_meaning_does() {
        let one = of("[connection.a]\norigin = \"https://a.example\"\n[limits]\nfuel = 1000\n");
        let same = of("# hello\nlimits = { fuel = 0x3e8 } \nconnection.a.origin = 'https://a.example'");
        assert_eq!(one, same);
        for other in [
            "[connection.a]\norigin = \"https://b.example\"\n[limits]\nfuel = 1000\n",
            "[connection.b]\norigin = \"https://a.example\"\n[limits]\nfuel = 1000\n",
            "[connection.a]\norigin = \"https://a.example\"\n[limits]\nfuel = \"1000\"\n",
        ] {
            assert_ne!(one, of(other));
        }
        let empty = DeTable::parse("").unwrap();
        assert_ne!(
            digest(empty.get_ref(), &[Digest::of(b"ca")], ""),
            digest(empty.get_ref(), &[Digest::of(b"another")], "")
        );
        assert_ne!(
            digest(empty.get_ref(), &[], "fuel=1"),
            digest(empty.get_ref(), &[], "fuel=2")
        );
    }
}

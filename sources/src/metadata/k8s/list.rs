//! Reads what `kubectl get … -o json` prints: a `List`, a list of one kind (`PodList`), or a single
//! object. Kinds that nothing is read of are left out.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::objects::Object;

/// What is wrong, and in which line (from 1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ListError {
    pub line: usize,
    pub message: String,
}

impl From<serde_json::Error> for ListError {
    fn from(error: serde_json::Error) -> ListError {
        ListError { line: error.line(), message: message_of(&error) }
    }
}

/// The error's text without its place in the text that was read.
pub(crate) fn message_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((message, _)) => message.to_string(),
        None => text,
    }
}

/// The objects of the text, in its order.
pub fn read(text: &str) -> Result<Vec<Object>, ListError> {
    let root: Json = serde_json::from_str(text)?;
    if !root.is_object() {
        return Err(ListError { line: 1, message: "not a Kubernetes object".to_string() });
    }
    let (api_version, kind) = type_of(&root);
    let Some(items) = root.get("items").and_then(Json::as_array) else {
        let found = Object::read(api_version, kind, &root);
        return found
            .map(|object| object.into_iter().collect())
            .map_err(|error| located(text, Place { item: None, api_version, kind }, &error));
    };
    let mut objects = Vec::with_capacity(items.len());
    // Items of a list of one kind need not repeat it.
    let kind_of_all = kind.strip_suffix("List").unwrap_or_default();
    for (idx, item) in items.iter().enumerate() {
        let (api_version, kind) = match type_of(item) {
            (_, "") => (api_version, kind_of_all),
            own => own,
        };
        let place = Place { item: Some(idx), api_version, kind };
        let object = Object::read(api_version, kind, item)
            .map_err(|error| named(item, kind, located(text, place, &error)))?;
        objects.extend(object);
    }
    Ok(objects)
}

/// `apiVersion` and `kind`
fn type_of(object: &Json) -> (&str, &str) {
    let text = |key: &str| object.get(key).and_then(Json::as_str).unwrap_or_default();
    (text("apiVersion"), text("kind"))
}

fn named(item: &Json, kind: &str, error: ListError) -> ListError {
    let name = item.pointer("/metadata/name").and_then(Json::as_str).unwrap_or_default();
    ListError { message: format!("{kind} {name}: {}", error.message), ..error }
}

/// The place of an error that was found without one: the text is read again up to there.
fn located(text: &str, place: Place<'_>, error: &serde_json::Error) -> ListError {
    let again = place.deserialize(&mut serde_json::Deserializer::from_str(text));
    let line = again.err().map_or(0, |found| found.line());
    ListError { line, message: message_of(error) }
}

/// Reads only the object that stands there: the whole, or one of `items`.
#[derive(Clone, Copy)]
struct Place<'a> {
    item: Option<usize>,
    api_version: &'a str,
    kind: &'a str,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.item {
            None => Object::read(self.api_version, self.kind, deserializer).map(drop),
            Some(_) => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();
    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "items" => map.next_value_seed(Items(self))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Items<'a>(Place<'a>);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();
    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array of objects")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for _ in 0..self.0.item.unwrap_or(0) {
            seq.next_element::<IgnoredAny>()?;
        }
        seq.next_element_seed(Place { item: None, ..self.0 })?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists of all forms, single objects, other kinds and `null` fields are read; a namesake of
    /// another API group is not taken for the real one.
    #[test]
    fn reads_every_form() {
        let kinds = |text: &str| -> Vec<String> {
            let names = read(text).unwrap().into_iter().map(|object| match object {
                Object::Pod(pod) => format!("pod {}", pod.metadata.name),
                Object::Service(service) => format!("service {}", service.metadata.name),
                Object::Deployment(workload) => format!("deployment {}", workload.metadata.name),
                other => format!("{other:?}"),
            });
            names.collect()
        };
        let list = r#"{"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":""},"items":[
            {"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":null,"uid":null}},
            {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"},"spec":7},
            {"apiVersion":"serving.knative.dev/v1","kind":"Service","metadata":{"name":"c"}},
            {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"}}]}"#;
        assert_eq!(kinds(list), ["pod a", "deployment d"]);
        let pods = r#"{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"name":"a"}}]}"#;
        assert_eq!(kinds(pods), ["pod a"]);
        let one = r#"{"kind":"Service","apiVersion":"v1","metadata":{"name":"s"}}"#;
        assert_eq!(kinds(one), ["service s"]);
        assert!(read(r#"{"kind":"List","items":[]}"#).unwrap().is_empty());
    }

    /// An error names the line and the object: catches the line of a copy, which says nothing.
    #[test]
    fn names_the_line() {
        let wrong = read(
            "{\"kind\":\"List\",\"items\":[\n{\"kind\":\"Pod\",\"metadata\":null},\n\
             {\"kind\":\"Pod\",\"metadata\":{\n\"name\":\"p\",\n\"uid\":5}}]}",
        );
        let error = wrong.unwrap_err();
        assert_eq!(error.line, 5);
        assert_eq!(error.message, "Pod p: invalid type: integer `5`, expected a string");
        assert_eq!(read("{\n\"kind\":\n").unwrap_err().line, 3);
        assert_eq!(read("[]").unwrap_err().message, "not a Kubernetes object");
        let time = "{\"kind\":\"Pod\",\"metadata\":{\n\"creationTimestamp\":\"soon\"}}";
        let error = read(time).unwrap_err();
        assert_eq!(
            error,
            ListError { line: 2, message: "`soon` is not an RFC 3339 time".to_string() }
        );
    }
}

//! `--set a.b=c,d[0]=e,f={x,y}` as helm reads it. A backslash takes its meaning from what follows; `null` takes away what
//! the chart has.

use serde_json::{Map, Value as Json};

/// Helm's own bounds are larger, and no value of the chart is near these.
const INDEX_MAX: usize = 1_024;
const DEPTH_MAX: usize = 30;

enum Step {
    Name(String),
    Index(usize),
}

/// Puts what the text says into the values. Without `is_typed` all values are text.
pub(super) fn into(values: &mut Json, text: &str, is_typed: bool) -> Result<(), String> {
    for part in parts(text, ',')? {
        let Some((path, value)) = halves(&part) else {
            return Err(format!("write KEY=VALUE, not {:?}", plain(&part)));
        };
        let path = steps(path)?;
        put(values, &path, valued(value, is_typed)?)?;
    }
    Ok(())
}

/// A character, and whether a backslash stands before it.
type Char = (char, bool);

fn chars(text: &str) -> Result<Vec<Char>, String> {
    let (mut found, mut chars) = (Vec::new(), text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => found.push((chars.next().ok_or("it ends with a backslash")?, true)),
            c => found.push((c, false)),
        }
    }
    Ok(found)
}

fn plain(chars: &[Char]) -> String {
    chars.iter().map(|(c, _)| *c).collect()
}

/// What stands between the separators that are in no braces.
fn parts(text: &str, separator: char) -> Result<Vec<Vec<Char>>, String> {
    let (mut found, mut depth) = (vec![Vec::new()], 0usize);
    for (c, is_meant) in chars(text)? {
        match c {
            '{' if !is_meant => depth += 1,
            '}' if !is_meant => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c == separator && !is_meant && depth == 0 {
            found.push(Vec::new());
        } else if let Some(last) = found.last_mut() {
            last.push((c, is_meant));
        }
    }
    Ok(found)
}

fn halves(part: &[Char]) -> Option<(&[Char], &[Char])> {
    let at = part.iter().position(|(c, is_meant)| *c == '=' && !is_meant)?;
    Some((&part[..at], &part[at + 1..]))
}

fn steps(path: &[Char]) -> Result<Vec<Step>, String> {
    let mut found = Vec::new();
    for name in path.split(|(c, is_meant)| *c == '.' && !is_meant) {
        let from = name.iter().position(|(c, is_meant)| *c == '[' && !is_meant);
        let (name, indexes) = name.split_at(from.unwrap_or(name.len()));
        let name = plain(name);
        if name.is_empty() {
            return Err(format!("{:?} has an empty name", plain(path)));
        }
        found.push(Step::Name(name));
        let indexes = plain(indexes);
        for index in indexes.split_inclusive(']').filter(|index| !index.is_empty()) {
            let number = index.strip_prefix('[').and_then(|index| index.strip_suffix(']'));
            let number = number.and_then(|number| number.parse().ok());
            match number.filter(|number| *number <= INDEX_MAX) {
                Some(number) => found.push(Step::Index(number)),
                None => return Err(format!("{index:?} is no index up to {INDEX_MAX}")),
            }
        }
    }
    if found.len() > DEPTH_MAX {
        return Err(format!("it is deeper than {DEPTH_MAX}"));
    }
    Ok(found)
}

fn valued(value: &[Char], is_typed: bool) -> Result<Json, String> {
    let is = |char: Option<&Char>, wanted| char == Some(&(wanted, false));
    if !is(value.first(), '{') {
        return Ok(scalar(&plain(value), is_typed));
    }
    if !is(value.last(), '}') || value.len() < 2 {
        return Err("a list ends with }".to_string());
    }
    let inside = &value[1..value.len() - 1];
    if inside.is_empty() {
        return Ok(Json::Array(Vec::new()));
    }
    let items = inside.split(|(c, is_meant)| *c == ',' && !is_meant);
    Ok(Json::Array(items.map(|item| scalar(&plain(item), is_typed)).collect()))
}

/// `0` and numbers without leading zeros are numbers, as in helm.
fn scalar(text: &str, is_typed: bool) -> Json {
    if !is_typed {
        return text.into();
    }
    match text {
        "true" => true.into(),
        "false" => false.into(),
        "null" => Json::Null,
        "0" => 0.into(),
        text if text.starts_with('0') => text.into(),
        text => text.parse::<i64>().map_or_else(|_| text.into(), Json::from),
    }
}

fn put(at: &mut Json, path: &[Step], value: Json) -> Result<(), String> {
    let mut at = at;
    for step in path {
        at = match step {
            Step::Name(name) => {
                if at.is_null() {
                    *at = Json::Object(Map::new());
                }
                let Json::Object(members) = at else {
                    return Err(format!("{name:?} is put into what is no mapping"));
                };
                members.entry(name.as_str()).or_insert(Json::Null)
            }
            Step::Index(index) => {
                if at.is_null() {
                    *at = Json::Array(Vec::new());
                }
                let Json::Array(items) = at else {
                    return Err(format!("[{index}] is put into what is no list"));
                };
                if items.len() <= *index {
                    items.resize(index + 1, Json::Null);
                }
                &mut items[*index]
            }
        };
    }
    *at = value;
    Ok(())
}

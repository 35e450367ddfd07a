//! `docs/pxl/vis.md`: what stands in a vis.json.

use std::fmt::Write;

use super::{code, table};
use crate::vis::VariableType;
use crate::vis::specs::{Field, KINDS, Shape};

/// The page's example, which a test compiles.
pub(crate) const EXAMPLE_SCRIPT: &str = "\
import px

def latency(start_time: str, service: px.Service):
    df = px.DataFrame('http_events', start_time=start_time)
    df.service = df.ctx['service']
    df = df[service == '' or df.service == service]
    df.time_ = px.bin(df.time_, px.seconds(10))
    df = df.groupby(['time_', 'service']).agg(p99=('latency', px.quantiles), n=('latency', px.count))
    df.p99 = px.DurationNanos(px.floor(px.pluck_float64(df.p99, 'p99')))
    return df
";

pub(crate) const EXAMPLE_VIS: &str = r#"{
  "variables": [
    {"name": "start_time", "type": "PX_STRING", "description": "How far back.", "defaultValue": "-5m"},
    {"name": "service", "type": "PX_SERVICE", "description": "Only this one.", "defaultValue": ""}
  ],
  "globalFuncs": [
    {"outputName": "Latency", "func": {"name": "latency", "args": [
      {"name": "start_time", "variable": "start_time"},
      {"name": "service", "variable": "service"}
    ]}}
  ],
  "widgets": [
    {"name": "Slowest 1 %", "globalFuncOutputName": "Latency",
     "position": {"x": 0, "y": 0, "w": 12, "h": 3},
     "displaySpec": {"@type": "types.px.dev/px.vispb.TimeseriesChart",
       "timeseries": [{"value": "p99", "series": "service", "mode": "MODE_LINE"}]}},
    {"name": "All", "globalFuncOutputName": "Latency",
     "position": {"x": 0, "y": 3, "w": 12, "h": 4},
     "displaySpec": {"@type": "types.px.dev/px.vispb.Table"}}
  ]
}
"#;

const HEAD: &str = "\
# vis.json: a script's arguments and widgets

A `vis.json` beside a script says which arguments it takes, which of its functions are called with
them, and how the page shows the outputs. Without one the module's own `px.display` makes the outputs,
and each is a table. The format is Pixie's; unknown fields are ignored with a warning.
`weir check FOLDER` checks script and vis.json together.
";

const PARTS: &str = "\
## Parts

| field | what it holds |
| --- | --- |
| `variables[]` | the arguments: `name`, `type`, `description`, `defaultValue`, `validValues[]` |
| `globalFuncs[]` | calls whose output several widgets may show: `outputName`, `func` |
| `widgets[]` | what is shown: `name`, `position`, `func` or `globalFuncOutputName`, `displaySpec` |

**Variables** come from the command line after `--` (`weir run SCRIPT -- --service ns/cart`), from the
page's bar, or from `args` of the API. One without `defaultValue` is required; `\"\"` is a value. Where
there are `validValues`, others are refused.

**A func** has the `name` of a function of the script and `args[]`: each a `name` with either a
`variable`, whose value is passed, or a `value`. Values are text, read by the type that the function
declares. A call that two widgets make is computed once.

**A widget** shows the output of its own `func`, or of the `globalFuncs` entry that it names. Its
output is called after the `globalFuncs` entry, else after the widget, else `widget_N`. `position` has
`x`, `y`, `w` and `h` in cells of a grid 12 wide. `displaySpec` has the kind of widget as its `@type`,
with or without `types.px.dev/px.vispb.` before it, and the fields below. Names of columns are checked:
one that the output does not have is the warning `vis_column`.

## Types of variables
";

/// The page.
#[must_use]
pub fn page() -> String {
    let mut out = format!(
        "{HEAD}\n## An example\n\n```python\n{EXAMPLE_SCRIPT}```\n\n```json\n{EXAMPLE_VIS}```\n\n{PARTS}\n"
    );
    let types = VariableType::ALL.iter().map(|(kind, name, number)| {
        vec![code(name), number.to_string(), kind.meaning().to_string(), code(kind.placeholder())]
    });
    let head = ["type", "number", "what is passed", "placeholder of `weir check`"];
    out.push_str(&table(&head, types));
    out.push_str("\n## Widgets\n");
    for (kind, doc, fields) in KINDS {
        // Writing to a String cannot fail.
        let _ = write!(out, "\n### {kind}\n\n{doc}\n\n");
        let mut rows = Vec::new();
        add_rows(&mut rows, "", fields);
        out.push_str(&table(&["field", "holds", "meaning"], rows));
    }
    out
}

/// A row for each field, those within objects by their path.
fn add_rows(rows: &mut Vec<Vec<String>>, path: &str, fields: &[Field]) {
    for field in fields {
        let (inner, mark) = match field.shape {
            Shape::Object(inner) => (inner, ""),
            Shape::List(inner) => (inner, "[]"),
            _ => (&[][..], ""),
        };
        let name = format!("{path}{}{mark}", field.name);
        let needed = if field.required { " Needed." } else { "" };
        rows.push(vec![code(&name), field.shape.words(), format!("{}{needed}", field.doc)]);
        add_rows(rows, &format!("{name}."), inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{CompileOptions, Script, compile};

    /// The example is a script that works as it stands: no error, and no warning either.
    #[test]
    fn example_compiles() {
        let script = Script { name: "example", text: EXAMPLE_SCRIPT, vis: Some(EXAMPLE_VIS) };
        let compiled = compile(&script, &CompileOptions::default());
        let compiled = compiled.unwrap_or_else(|found| panic!("{found:?}"));
        assert!(compiled.warnings.is_empty(), "{:?}", compiled.warnings);
        assert_eq!(compiled.plan.outputs.len(), 1);
    }
}

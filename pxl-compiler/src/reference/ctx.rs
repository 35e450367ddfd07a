//! `docs/pxl/ctx.md`: the keys of `df.ctx[...]`.

use weir_functions::describe::{FunctionDoc, describe};
use weir_types::SemanticType;

use super::{code, codes, table};
use crate::passes::metadata_keys::{PROPERTIES, Property};

const HEAD: &str = "\
# `ctx`: who is behind a row

`df.ctx['key']` is a column that the server finds out: which pod, service or process a row belongs to.
It can stand wherever a column can:

```python
import px
df = px.DataFrame('http_events', start_time='-5m')
df.service = df.ctx['service']
df = df[df.ctx['namespace'] != 'kube-system']
px.display(df.groupby('service').agg(n=('latency', px.count)))
```

A key is answered from a *key column*: the first of the listed ones that the frame has, by exactly that
name. A column that is called `pod` or `service` is none; call it `pod_name` or `service_name`. Without
any of them the script does not compile, and the error names those that would do. Take `ctx` before the
column is dropped, or aggregated away; a key that is answered by the row's process (`upid`) has to be
taken before any `agg`, `merge`, `append` or `head`.

The key may be a script's argument or a variable of the module: `df.ctx[group_by]`.

A miss is `\"\"` or 0, never an error.

## Keys
";

const TAIL: &str = "
`pod` of a frame that also has `local_addr` and `time_` falls back on the address: a process that is
not known is then the pod that had this address at the row's time.

## Without Kubernetes

A running server that knows no Kubernetes gives honest local values instead of nothing. `service` is the
first that there is of `OTEL_SERVICE_NAME` in the process's environment, the compose service of its
container, its systemd unit, and its program; `namespace` the compose project, the slice of the systemd
unit, or `local`; `pod` is `namespace/executable-pid`. Rows offline (`--rows`) take what the files
beside them say, and nothing else.

## See also

`weir funcs upid_to_service_name` and the like show the functions behind the keys, `weir schema TABLE`
which tables have `upid`.
";

/// The page.
#[must_use]
pub fn page() -> String {
    let functions = describe();
    let rows = PROPERTIES.iter().map(|property| row(property, &functions));
    let head = ["key", "gives", "type", "key columns, in order"];
    format!("{HEAD}\n{}{TAIL}", table(&head, rows))
}

fn row(property: &Property, functions: &[FunctionDoc]) -> Vec<String> {
    let behind = |column: &str| {
        let name = format!("{column}_to_{}", property.property);
        functions.iter().find(|function| function.name == name)
    };
    let first = property.columns.first().and_then(|column| behind(column));
    let result = first.and_then(|function| function.overloads.first()).map(|o| o.result);
    let semantic = match property.semantic {
        SemanticType::None => String::new(),
        semantic => format!(" ({})", semantic.name()),
    };
    vec![
        codes(property.keys.iter().copied()),
        first.map(|function| function.doc.to_string()).unwrap_or_default(),
        format!("{}{semantic}", code(result.unwrap_or_default())),
        codes(property.columns.iter().copied()),
    ]
}

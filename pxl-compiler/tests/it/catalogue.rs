//! The error catalogue of the language (reference, 1.17): what Pixie's users know as the text of an
//! error is part of ours, with the code of its golden and the place in the script.

use weir_pxl::{CompileOptions, Script, compile};
use weir_types::Diagnostic;

fn errors(text: &str, options: &CompileOptions) -> Vec<Diagnostic> {
    match compile(&Script { name: "t.pxl", text, vis: None }, options) {
        Ok(_) => Vec::new(),
        Err(found) => found,
    }
}

/// Situation, script, text in the message, code. `df` and `other` are frames of http_events.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("unknown name", "x = dff", "name 'dff' is not defined", "name_not_defined"),
    ("unknown table", "px.DataFrame('http')", "Table 'http' not found.", "table_not_found"),
    (
        "unknown column",
        "df.x = df.y",
        "Column 'y' not found in parent dataframe",
        "column_not_found",
    ),
    (
        "column dropped",
        "df = df.drop('latency')\ndf.x = df.latency",
        "Column 'latency' not found in parent dataframe",
        "column_not_found",
    ),
    (
        "other frame",
        "df.x = other['latency']",
        "name 'other' is not available in this context",
        "column_of_other_frame",
    ),
    (
        "other frame's metadata",
        "df.x = other.ctx['pod']",
        "name 'other' is not available in this context",
        "column_of_other_frame",
    ),
    ("attribute of px", "px.mena(1)", "'px' object has no attribute 'mena'", "attribute_not_found"),
    (
        "attribute of a list",
        "x = [1].first",
        "'List' object has no attribute 'first'",
        "attribute_not_found",
    ),
    ("method of a frame", "df.tail(5)", "dataframe has no method 'tail'", "method_not_found"),
    ("map is no method", "df.map(5)", "dataframe has no method 'map'", "method_not_found"),
    (
        "module",
        "import pandas",
        "ModuleNotFoundError: No module named 'pandas'",
        "module_not_found",
    ),
    (
        "member",
        "from px import DataFrma",
        "cannot import name 'DataFrma' from 'px'",
        "import_not_found",
    ),
    (
        "overload",
        "df.x = df.latency + 'a'",
        "Could not find UDF 'add' with arguments [INT64, STRING].",
        "no_overload",
    ),
    (
        "overload of a function",
        "df.x = px.contains(df.latency, 'a')",
        "Could not find UDF 'contains' with arguments [INT64, STRING].",
        "no_overload",
    ),
    (
        "time with an integer",
        "df.x = df.time_ < df.latency",
        "Could not find UDF 'lessThan' with arguments [TIME64NS, INT64].",
        "no_overload",
    ),
    (
        "booleans compared",
        "df.x = df.encrypted < df.encrypted",
        "Could not find UDF 'lessThan' with arguments [BOOLEAN, BOOLEAN].",
        "no_overload",
    ),
    (
        "folded overload",
        "x = 'a' + 1",
        "Could not find UDF 'add' with arguments [STRING, INT64].",
        "no_overload",
    ),
    (
        "aggregate overload",
        "df.agg(x=('req_path', px.sum))",
        "Could not find UDA 'sum' with update arg types [STRING].",
        "no_aggregate_overload",
    ),
    ("metadata key", "df.x = df.ctx['pd']", "'pd' unavailable metadata key.", "metadata_key"),
    (
        "metadata key column",
        "df = df.drop('upid')\ndf.x = df.ctx['container']",
        "[upid]",
        "metadata_key_column",
    ),
    (
        "placement",
        "df = df.head(5)\ndf.x = df.ctx['pod']\npx.display(df)",
        "must execute before blocking nodes such as limit, agg, and join.",
        "placement",
    ),
    (
        "expression",
        "x = [y for y in df]",
        "Can't parse expression of type ListComp",
        "expression_not_supported",
    ),
    (
        "lambda",
        "x = lambda y: y",
        "Can't parse expression of type Lambda",
        "expression_not_supported",
    ),
    (
        "f-string",
        "x = f'{df}'",
        "Can't parse expression of type FString",
        "expression_not_supported",
    ),
    ("set", "x = {1, 2}", "Can't parse expression of type Set", "expression_not_supported"),
    (
        "conditional",
        "x = 1 if True else 2",
        "Can't parse expression of type IfExpr",
        "expression_not_supported",
    ),
    ("operator //", "x = 7 // 2", "Operator '//' not handled", "operator_not_handled"),
    ("operator **", "x = 7 ** 2", "Operator '**' not handled", "operator_not_handled"),
    ("operator &", "x = 7 & 2", "Operator '&' not handled", "operator_not_handled"),
    ("operator |", "x = 7 | 2", "Operator '|' not handled", "operator_not_handled"),
    ("operator ^", "x = 7 ^ 2", "Operator '^' not handled", "operator_not_handled"),
    ("operator <<", "x = 7 << 2", "Operator '<<' not handled", "operator_not_handled"),
    ("operator in", "x = 7 in [2]", "Operator 'in' not handled", "operator_not_handled"),
    ("operator is", "x = 7 is 2", "Operator 'is' not handled", "operator_not_handled"),
    (
        "three operands",
        "x = True and True and True",
        "Expected two arguments to 'and'.",
        "boolean_operands",
    ),
    (
        "chained",
        "x = 1 < 2 < 3",
        "Only expected one argument to the right of '<'.",
        "chained_comparison",
    ),
    ("slice", "x = [1, 2][0:1]", "Only index slices are supported", "slice_not_supported"),
    ("two targets", "x = y = 1", "We only support single target assignment.", "single_target"),
    ("unpacking", "x, y = [1, 2]", "We only support single target assignment.", "single_target"),
    (
        "target",
        "df.head(5).x = 1",
        "Assignment target must be a Name or Subscript",
        "assignment_target",
    ),
    (
        "subscript target",
        "df.head(5)['x'] = 1",
        "Can only assign to Dataframe by subscript from Name, received Call",
        "assignment_target",
    ),
    (
        "subscript of a list",
        "x = [1]\nx['a'] = 1",
        "Can only assign to Dataframe by subscript from Name, received List",
        "assignment_target",
    ),
    (
        "attribute of nothing",
        "x = None\nx.a = 1",
        "Cannot assign attribute a to object of type None",
        "assign_attribute",
    ),
    (
        "too many arguments",
        "def f(a):\n    return a\nf(1, 2)",
        "f() takes 1 arguments but 2 were given.",
        "argument_count",
    ),
    (
        "too few arguments",
        "def f(a, b):\n    return a\nf()",
        "missing 2 required positional arguments",
        "argument_count",
    ),
    (
        "default",
        "def f(a=1):\n    return a",
        "default values not supported in function definitions",
        "default_value",
    ),
    (
        "*args",
        "def f(*a):\n    return a",
        "variable length args/kwargs are not supported",
        "variable_arguments",
    ),
    (
        "**kwargs",
        "def f(**a):\n    return a",
        "variable length args/kwargs are not supported",
        "variable_arguments",
    ),
    (
        "call with *",
        "px.display(*[df])",
        "variable length args/kwargs are not supported",
        "variable_arguments",
    ),
    ("return", "return df", "'return' outside function", "return_outside_function"),
    ("index type", "x = [1]['a']", "List indices must be integers, not String", "index_type"),
    ("index range", "x = (1, 2)[2]", "Tuple index out of range", "index_range"),
    (
        "columns twice",
        "x = df['upid', 'upid']",
        "cannot specify the same column name more than once when filtering by cols.",
        "column_twice",
    ),
    (
        "agg without tuple",
        "df.agg(x=px.sum)",
        "Expected tuple for x but received Func",
        "aggregate_form",
    ),
    (
        "agg without function",
        "df.agg(x=('latency', 5))",
        "Expected second tuple argument to be type Func",
        "aggregate_form",
    ),
    (
        "agg of an expression",
        "df.agg(x=(df.latency + 1, px.sum))",
        "all elements of the agg tuple must be column names",
        "aggregate_form",
    ),
    (
        "agg of a scalar function",
        "df.agg(x=('latency', px.bin))",
        "bin is an invalid aggregate value",
        "aggregate_form",
    ),
    ("agg of nothing", "df.agg()", "at least one aggregate", "aggregate_form"),
    ("agg by position", "df.agg(('latency', px.sum))", "keyword arguments only", "aggregate_form"),
    (
        "agg output twice",
        "df.groupby('upid').agg(upid=('latency', px.sum))",
        "'upid' is already a column",
        "aggregate_form",
    ),
    (
        "join kind",
        "df.merge(other, 'cross', 'upid', 'upid')",
        "'cross' join type not supported. Only {inner,left,outer,right} are available.",
        "join_kind",
    ),
    (
        "join keys",
        "df.merge(other, 'inner', ['upid'], [])",
        "'left_on' and 'right_on' must contain the same number of elements.",
        "join_keys",
    ),
    (
        "join key types",
        "px.display(df.merge(other, 'inner', 'upid', 'latency'))",
        "same datatype",
        "join_keys",
    ),
    (
        "suffixes",
        "df.merge(other, 'inner', 'upid', 'upid', ['_x'])",
        "'suffixes' must be a list with 2",
        "join_suffixes",
    ),
    (
        "colliding suffixes",
        "px.display(df.merge(other, 'inner', 'upid', 'upid', ['', '']))",
        "duplicate column",
        "join_suffixes",
    ),
    (
        "append",
        "px.display(df.append(df[['upid']]))",
        "Table schema disagreement between parent ops",
        "append_schema",
    ),
    (
        "rolling on",
        "df.rolling('1m', on='latency')",
        "Windowing is only supported on time_ at the moment",
        "argument_value",
    ),
    ("rolling", "df.head(5).rolling('1m')", "Rolling operator not yet implemented", "not_yet"),
    (
        "stream behind an agg",
        "df.agg(n=('latency', px.count)).stream()",
        "df.stream() not yet supported with the operator Agg",
        "stream_use",
    ),
    (
        "stream in the middle",
        "px.display(df.stream().drop('upid'))",
        "in the middle of a query is not yet implemented",
        "stream_use",
    ),
    (
        "cast",
        "df.x = px.Percent(df.latency)",
        "Cannot cast from 'INT64' to 'Percent'. Only semantic type casts are allowed.",
        "cast",
    ),
    ("cast to str", "df.x = str(df.latency)", "Only semantic type casts are allowed.", "cast"),
    (
        "annotation",
        "def f(a: int):\n    return a\nf('x')",
        "Expected 'INT64', received 'String'",
        "argument_type",
    ),
    (
        "annotation by base type",
        "def f(a: px.Pod):\n    return a\nf(5)",
        "Expected 'STRING', received 'Int'",
        "argument_type",
    ),
    (
        "script_reference label",
        "df.x = px.script_reference(5, 'px/pod')",
        "'label' must be a string",
        "script_reference",
    ),
    (
        "script_reference args",
        "df.x = px.script_reference('a', 'px/pod', ['x'])",
        "args must be a dictionary",
        "script_reference",
    ),
    (
        "docstring",
        "x = 1\n'text'",
        "Doc strings are only allowed at the start of a module or function.",
        "docstring_place",
    ),
    ("filter type", "px.display(df[df.latency])", "Expected 'BOOLEAN'", "filter_type"),
    ("groupby alone", "px.display(df.groupby('upid'))", "received 'GroupBy'", "argument_type"),
    (
        "groupby and head",
        "df.groupby('upid').head()",
        "'GroupBy' object has no attribute 'head'",
        "groupby_use",
    ),
    (
        "mixed groups",
        "df.groupby(['upid', 5])",
        "groupby(): Expected 'STRING' in arg 'by', received 'Int'",
        "argument_type",
    ),
    ("negative head", "df.head(-1)", "must not be negative", "argument_value"),
    ("head of a column", "df.head(df.latency)", "must be a constant", "not_constant"),
    ("call of a frame", "df(5)", "'DataFrame' object is not callable", "not_callable"),
    (
        "aggregate called",
        "df.x = px.sum(df.latency)",
        "'sum' is an aggregate and cannot be called",
        "not_callable",
    ),
    (
        "keyword of a function",
        "df.x = px.bin(df.latency, size=5)",
        "takes positional arguments only",
        "argument_unknown",
    ),
    (
        "statement",
        "if True:\n    x = 1",
        "'if' statements are not part of PxL",
        "statement_not_supported",
    ),
    (
        "class",
        "class A:\n    x = 1",
        "'class' statements are not part of PxL",
        "statement_not_supported",
    ),
    ("del", "del df", "'del' statements are not part of PxL", "statement_not_supported"),
    ("augmented", "x = 1\nx += 1", "statements are not part of PxL", "statement_not_supported"),
    (
        "two decorators",
        "@px.vis.vega('')\n@px.vis.vega('')\ndef f():\n    return 1",
        "at most one decorator",
        "function_form",
    ),
    ("decorator", "@px.sum\ndef f():\n    return 1", "'Func' is not a decorator", "function_form"),
    (
        "positional-only",
        "def f(a, /, b):\n    return 1",
        "between parameters are not supported",
        "function_form",
    ),
    (
        "keyword-only",
        "def f(a, *, b):\n    return 1",
        "between parameters are not supported",
        "function_form",
    ),
    (
        "constant pattern",
        "df.x = px.regex_match(df.req_path, df.req_path)",
        "must be a constant",
        "not_constant",
    ),
    ("uuid", "x = px.uint128('no')", "is not a UUID", "argument_value"),
    ("strptime", "x = px.strptime('no', '%Y')", "does not fit the format", "time_format"),
    ("duration", "x = px.parse_duration('5 minutes')", "'5 minutes' is not a time", "time_format"),
    (
        "time",
        "px.DataFrame('http_events', start_time='soon')",
        "'soon' is not a time",
        "time_format",
    ),
    (
        "table function argument",
        "px.GetAgentStatus(include_kelvin=5)",
        "Expected 'BOOLEAN' in arg 'include_kelvin', received 'Int'",
        "argument_type",
    ),
    (
        "table function keyword",
        "px.GetAgentStatus(kelvin=True)",
        "unexpected keyword argument 'kelvin'",
        "argument_unknown",
    ),
];

const HEAD: &str = "import px\ndf = px.DataFrame('http_events', start_time='-5m')\n\
                    other = px.DataFrame('http_events', start_time='-5m')\n\
                    px.display(other, 'other')\n";

/// Every case of the catalogue has its text, its code and a place behind the script's head: catches a
/// reworded message, and a finding that points nowhere.
#[test]
fn messages_have_pixies_texts() {
    for (situation, body, fragment, code) in CASES {
        let found =
            errors(&format!("{HEAD}{body}\npx.display(df, 'df')\n"), &CompileOptions::default());
        let hit = found.iter().find(|found| found.message.contains(fragment));
        let hit = hit.unwrap_or_else(|| panic!("{situation}: no '{fragment}' in {found:?}"));
        assert_eq!(hit.code, *code, "{situation}");
        assert!(hit.line > 4 && hit.column > 0 && hit.end_line >= hit.line, "{situation}: {hit:?}");
    }
}

type Call = (&'static str, &'static [(&'static str, &'static str)], &'static str, &'static str);

/// Function, arguments, text in the message, code: functions called from outside.
const CALLS: &[Call] = &[
    ("missing", &[], "Function to execute, 'missing', not found.", "exec_function"),
    ("value", &[], "Function to execute, 'value', is not a function", "exec_function"),
    ("", &[], "Must specify func_name", "exec_function"),
    (
        "plain",
        &[("a", "1")],
        "Arg type annotation required. Function: 'plain', arg: 'a'",
        "exec_argument",
    ),
    (
        "typed",
        &[("b", "1"), ("z", "1")],
        "Function 'typed' does not have an argument called 'z'",
        "exec_argument",
    ),
    ("typed", &[("i", "1.5")], "Failed to parse arg with value '1.5' as int64.", "exec_argument"),
    ("typed", &[("f", "x")], "Failed to parse arg with value 'x' as float64.", "exec_argument"),
    (
        "typed",
        &[("b", "maybe")],
        "Failed to parse arg with value 'maybe' as bool.",
        "exec_argument",
    ),
    ("typed", &[("t", "now")], "Failed to parse arg with value 'now' as time.", "exec_argument"),
    (
        "typed",
        &[("u", "1")],
        "Passing arg of type UINT128 is currently unsupported.",
        "exec_argument",
    ),
    ("typed", &[("i", "1")], "missing 5 required positional arguments", "argument_count"),
    (
        "number",
        &[],
        "Function 'number' returns 'Int' but should return a DataFrame.",
        "exec_result",
    ),
    (
        "nothing",
        &[],
        "Function 'nothing' returns 'None' but should return a DataFrame.",
        "exec_result",
    ),
    (
        "numbers",
        &[],
        "Function 'numbers' returns 'Int' but should return a DataFrame.",
        "exec_result",
    ),
];

/// The same for functions that a client calls.
#[test]
fn calls_have_pixies_texts() {
    let text = format!(
        "{HEAD}value = 1\n\
         def plain(a):\n    return df\n\
         def typed(i: int, f: float, b: bool, t: px.Time, u: px.UPID, p: px.Pod):\n    return df\n\
         def number():\n    return 5\n\
         def numbers():\n    return [5]\n\
         def nothing():\n    x = 1\n"
    );
    for (func, args, fragment, code) in CALLS {
        let args = args.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let options =
            CompileOptions { func: Some(func.to_string()), args, ..CompileOptions::default() };
        let found = errors(&text, &options);
        let hit = found.iter().find(|found| found.message.contains(fragment));
        let hit = hit.unwrap_or_else(|| panic!("{func}: no '{fragment}' in {found:?}"));
        assert_eq!(hit.code, *code, "{func}");
    }
}

/// What is wrong with the whole text, and several mistakes in one run.
#[test]
fn whole_texts() {
    let messages = |text: &str| -> Vec<String> {
        errors(text, &CompileOptions::default()).into_iter().map(|found| found.message).collect()
    };
    assert_eq!(messages(""), ["Query should not be empty."]);
    assert_eq!(messages(" \n\t\n"), ["Query should not be empty."]);
    assert_eq!(messages("# only a comment\n"), ["No runnable code found"]);
    let no_output = "query does not output a result, please add a px.display() call";
    assert_eq!(messages("import px\ndf = px.DataFrame('jvm_stats')\n"), [no_output]);
    let three = format!("{HEAD}x = dff\ndf.y = df.nope\nz = px.mena(1)\npx.display(df)\n");
    assert_eq!(messages(&three).len(), 3, "{:?}", messages(&three));
    let vis = Some(r#"{"widgets": [{"name": "", "func": {"name": "f"}}]}"#);
    let script = Script { name: "t.pxl", text: "import px\ndef f():\n    return 1\n", vis };
    assert_eq!(compile(&script, &CompileOptions::default()).unwrap_err()[0].code, "exec_result");
}

/// Habits from pandas and Python, and a part of what is told to write instead.
const HABITS: &[(&str, &str)] = &[
    ("df = df.sort_values('latency')", "df.head(n)"),
    ("df = df.tail(5)", "df.head(n)"),
    ("df = df.loc[0]", "rows have no positions"),
    ("x = df.iloc[0:5]", ""),
    ("df.x = df.columns", "weir schema"),
    ("x = df.value_counts()", "px.count"),
    ("x = df.mean()", "df.agg("),
    ("x = df['latency'].sum()", "df.agg("),
    ("x = df.latency.mean()", "df.agg("),
    ("df = df.fillna(0)", "px.select"),
    ("df.x = df.req_path.fillna('')", "px.select"),
    ("df = df.apply(px.length)", "processed as a whole"),
    ("df = df.iterrows()", "processed as a whole"),
    ("df = df.rename('a', 'b')", "df.new = df.old"),
    ("df = df[df.req_path.isin(['a'])]", "px.equals_any"),
    ("df = df.query('latency > 1')", "df[df.column"),
    ("df = df.reset_index()", "leave it out"),
    ("df = df.drop_duplicates()", "groupby"),
    ("df.to_csv('x')", "-o csv"),
    ("print(df)", "px.display"),
    ("x = len(df)", "px.count"),
    ("import pandas as pd", "px.DataFrame"),
    ("import numpy", "weir funcs"),
    ("df = pd.concat([df, df])", "px.DataFrame"),
    ("df = df.assign(5)", "df.column = expression"),
    ("df = df.pivot('a', 'b')", "group by both"),
    ("df = df.concat(df)", "df.append"),
    ("df = df.join(df)", "df.merge"),
    ("x = df.groupby('upid').mean()", ".agg(out="),
    ("x = df.groupby('upid')['latency'].mean()", ".agg(out="),
    ("x = df.groupby('upid').size()", ".agg(out="),
    ("df.x = df.req_path.str.contains('a')", "px.contains"),
    ("df.x = df.latency.astype('str')", "px.itoa"),
    ("df = df.agg(p=('latency', px.p95))", "'p95'"),
    ("df = df.agg(p=('latency', px.median))", "px.quantiles"),
    ("df = df.describe()", "px.quantiles"),
    ("df = df.shift(1)", "time bin"),
    ("df = df.resample('1m')", "px.bin"),
    ("df = df.head('5')", "Expected 'INT64'"),
];

/// Each habit is an error with a hint of what to write: catches one that is answered with nothing, or
/// with a name that merely looks like it.
#[test]
fn habits_have_hints() {
    for (line, wanted) in HABITS {
        let found =
            errors(&format!("{HEAD}{line}\npx.display(df, 'df')\n"), &CompileOptions::default());
        let first = found.first().unwrap_or_else(|| panic!("{line} compiles"));
        assert!(first.line > 4, "{line}: {first:?}");
        let told = format!("{} {}", first.message, first.hint);
        assert!(!first.hint.is_empty() || told.contains("Expected"), "{line}: {first:?}");
        assert!(told.contains(wanted), "{line}: {told}");
    }
}

/// The quantile that people ask for most is there.
#[test]
fn p95_is_a_quantile() {
    let body = "df = df.agg(q=('latency', px.quantiles))\ndf.p95 = px.pluck_float64(df.q, 'p95')";
    assert!(
        errors(&format!("{HEAD}{body}\npx.display(df)\n"), &CompileOptions::default()).is_empty()
    );
    let described = weir_pxl::describe::describe();
    let quantiles = described.iter().find(|one| one.name == "quantiles").unwrap();
    assert!(serde_json::to_string(quantiles).unwrap().contains("p95"));
}

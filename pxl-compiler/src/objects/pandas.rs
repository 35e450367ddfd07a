//! What people write out of habit from pandas and Python, and what to write instead. Frames look like
//! pandas', so most first scripts hold some of these; a table a place where such a name may stand.

type Habits = &'static [(&'static str, &'static str)];

/// What takes the place of a name, if it is a habit.
fn find(habits: Habits, name: &str) -> Option<&'static str> {
    habits.iter().find(|(have, _)| *have == name).map(|(_, hint)| *hint)
}

const LIST_COLUMNS: &str =
    "select columns with `df[['a', 'b']]`; `weir schema TABLE` lists a table's";
const AGGREGATE: &str = "write `df.agg(out=('column', px.sum))`, or with groups \
                         `df.groupby('key').agg(out=('column', px.sum))`";
const ROWS: &str = "frames are processed as a whole: write an expression over columns, for example \
                    `df.ms = df.latency / 1000000`";
const SORTED: &str = "rows have no order in a view; `df.head(n)` keeps the newest n, and clients sort \
                      what they show";
const NO_NULLS: &str = "columns hold no nulls: choose with `px.select(df.a == '', 'none', df.a)`";
const COUNTED: &str = "write `df.groupby('column').agg(count=('column', px.count))`";
const DISTINCT: &str = "write `df.groupby(['a', 'b']).agg()`: one row a group";
const JOINED: &str = "write `df.merge(other, how='inner', left_on='a', right_on='b')`";
const UNITED: &str = "write `df.append([other, another])`";
const SHOWN: &str = "write `px.display(df, 'name')`";
const EXPORTED: &str = "write `px.display(df)` and ask for another form: `weir run SCRIPT -o csv`";
const FILTERED: &str =
    "write `df = df[df.column == 'x']`; join conditions with `and` in parentheses";
const PLACED: &str = "rows have no positions: filter with `df[df.a > 1]`, take columns with \
                      `df[['a', 'b']]`, and the newest rows with `df.head(n)`";
const RENAMED: &str = "write `df.new = df.old` and `df = df.drop('old')`";
const ASSIGNED: &str = "write `df.column = expression`";
const TYPED: &str = "there are no conversions: `px.atoi(text, 0)`, `px.itoa(number)`, \
                     `px.Bytes(number)` for the meaning";
const IS_IN: &str = "write `px.equals_any(df.column, ['a', 'b'])`";
const TEXT: &str = "write `px.contains(df.column, 'part')`, `px.replace`, `px.tolower`, \
                    `px.substring`, `px.regex_match`";
const QUANTILES: &str = "write `df.agg(q=('column', px.quantiles))`, then \
                         `px.pluck_float64(df.q, 'p95')`; it has p01, p10, p25, p50, p75, p90, p95, p99";
const WINDOWED: &str = "group by a time bin: `df.t = px.bin(df.time_, px.seconds(10))`, then \
                        `df.groupby('t').agg(...)`";
const NEIGHBOURS: &str = "rows do not see their neighbours; group by a time bin instead";

/// After `df.`, called or not.
const OF_FRAMES: Habits = &[
    ("sort_values", SORTED),
    ("sort_index", SORTED),
    ("sort", SORTED),
    ("orderby", SORTED),
    ("order_by", SORTED),
    ("nlargest", SORTED),
    ("nsmallest", SORTED),
    ("tail", SORTED),
    ("limit", "write `df.head(n)`"),
    ("sample", "write `df.head(n)`"),
    ("take", PLACED),
    ("loc", PLACED),
    ("iloc", PLACED),
    ("at", PLACED),
    ("iat", PLACED),
    ("query", FILTERED),
    ("where", FILTERED),
    ("mask", FILTERED),
    ("select", "write `df[['a', 'b']]`"),
    ("columns", LIST_COLUMNS),
    ("shape", "the number of rows is `df.agg(rows=('time_', px.count))`"),
    ("size", "the number of rows is `df.agg(rows=('time_', px.count))`"),
    ("dtypes", LIST_COLUMNS),
    ("info", LIST_COLUMNS),
    ("index", PLACED),
    ("values", PLACED),
    ("T", "frames cannot be transposed"),
    ("value_counts", COUNTED),
    ("count", AGGREGATE),
    ("sum", AGGREGATE),
    ("mean", AGGREGATE),
    ("avg", AGGREGATE),
    ("min", AGGREGATE),
    ("max", AGGREGATE),
    ("std", "there is no deviation; `px.quantiles` tells how values are spread"),
    ("var", "there is no variance; `px.quantiles` tells how values are spread"),
    ("median", QUANTILES),
    ("quantile", QUANTILES),
    ("describe", QUANTILES),
    ("aggregate", AGGREGATE),
    ("group_by", "write `df.groupby('key').agg(out=('column', px.count))`"),
    ("groupBy", "write `df.groupby('key').agg(out=('column', px.count))`"),
    ("pivot", "frames cannot be pivoted: group by both columns, and let the chart make the series"),
    (
        "pivot_table",
        "frames cannot be pivoted: group by both columns, and let the chart make series",
    ),
    ("unstack", "frames cannot be pivoted: group by both columns"),
    ("stack", "frames cannot be pivoted: group by both columns"),
    ("melt", "append a frame for each column: `a.append([b, c])`"),
    ("explode", "take elements out one by one: `px.pluck_array(df.list, 0)`"),
    ("crosstab", "group by both columns: `df.groupby(['a', 'b']).agg(n=('a', px.count))`"),
    ("join", JOINED),
    ("concat", UNITED),
    ("union", UNITED),
    ("rename", RENAMED),
    ("rename_axis", RENAMED),
    ("assign", ASSIGNED),
    ("insert", ASSIGNED),
    ("withColumn", ASSIGNED),
    ("with_columns", ASSIGNED),
    ("eval", ASSIGNED),
    ("apply", ROWS),
    ("applymap", ROWS),
    ("map", ROWS),
    ("transform", ROWS),
    ("pipe", "call the function: `df = f(df)`"),
    ("iterrows", ROWS),
    ("itertuples", ROWS),
    ("items", ROWS),
    ("fillna", NO_NULLS),
    ("dropna", NO_NULLS),
    ("isna", NO_NULLS),
    ("isnull", NO_NULLS),
    ("notna", NO_NULLS),
    ("notnull", NO_NULLS),
    ("replace", TEXT),
    ("isin", IS_IN),
    ("astype", TYPED),
    ("drop_duplicates", DISTINCT),
    ("duplicated", DISTINCT),
    ("distinct", DISTINCT),
    ("unique", DISTINCT),
    ("nunique", DISTINCT),
    ("reset_index", "there is no index: what was grouped by is a column; leave it out"),
    ("set_index", "there is no index; leave it out"),
    ("reindex", "there is no index; leave it out"),
    ("copy", "frames never change: `other = df` is a copy"),
    ("to_csv", EXPORTED),
    ("to_json", EXPORTED),
    ("to_dict", EXPORTED),
    ("to_parquet", EXPORTED),
    ("to_string", EXPORTED),
    ("plot", "a vis.json beside the script says how outputs are drawn"),
    ("hist", "a vis.json beside the script says how outputs are drawn"),
    ("show", SHOWN),
    ("display", SHOWN),
    ("print", SHOWN),
    ("collect", SHOWN),
    ("resample", WINDOWED),
    ("shift", NEIGHBOURS),
    ("diff", NEIGHBOURS),
    ("cumsum", NEIGHBOURS),
    ("rank", NEIGHBOURS),
    ("pct_change", NEIGHBOURS),
    ("expanding", NEIGHBOURS),
    ("ewm", NEIGHBOURS),
];

/// After `df.column.` or another expression.
const OF_EXPRESSIONS: Habits = &[
    ("str", TEXT),
    ("lower", "write `px.tolower(df.column)`"),
    ("upper", "write `px.toupper(df.column)`"),
    ("strip", "write `px.trim(df.column)`"),
    ("split", "write `px.split(df.column, '/')`, and `px.pluck_array` for a part"),
    ("startswith", "write `px.find(df.column, 'part') == 0`"),
    ("endswith", "write `px.regex_match('.*part', df.column)`"),
    ("contains", "write `px.contains(df.column, 'part')`"),
    ("match", "write `px.regex_match('pattern', df.column)`"),
    ("format", "join texts with `+`; numbers become text with `px.itoa`"),
    ("join", "join texts with `+`"),
    ("replace", "write `px.replace('pattern', df.column, 'new')`"),
    ("dt", WINDOWED),
    ("abs", "write `px.abs(df.column)`"),
    ("round", "write `px.round(df.column, 2)`"),
    ("between", "write `(df.a > 1) and (df.a < 9)`"),
    ("clip", "write `px.select(df.a > 9, 9, df.a)`"),
    ("append", "lists cannot change: write all elements out"),
    ("get", "write `px.pluck(df.column, 'key')`"),
];

/// After `df.groupby(...)`.
pub(crate) const OF_GROUPS: &str =
    "only `.agg(...)` can follow `.groupby(...)`: `.agg(out=('column', px.mean))`";

/// Names that Python has everywhere.
const OF_PYTHON: Habits = &[
    ("print", SHOWN),
    ("display", SHOWN),
    ("len", "rows are counted by `df.agg(n=('time_', px.count))`; bytes of a text by `px.length`"),
    ("sum", AGGREGATE),
    ("min", AGGREGATE),
    ("max", AGGREGATE),
    ("abs", "write `px.abs(df.column)`"),
    ("round", "write `px.round(df.column, 2)`"),
    ("pow", "write `px.pow(a, b)`"),
    ("sorted", SORTED),
    ("range", "there are no loops; write the elements out"),
    ("enumerate", "there are no loops; write the elements out"),
    ("zip", "there are no loops; write the elements out"),
    ("map", ROWS),
    ("filter", FILTERED),
    ("any", "write `px.equals_any(df.column, ['a', 'b'])`"),
    ("all", "join conditions with `and` in parentheses"),
    ("set", "write a list: `['a', 'b']`"),
    ("dict", "write `{'key': value}`"),
    ("tuple", "write `(a, b)`"),
    ("type", "`weir explain` shows the types of columns"),
    ("isinstance", "`weir explain` shows the types of columns"),
    ("open", "scripts read tables only: `px.DataFrame('http_events', start_time='-5m')`"),
    (
        "pd",
        "there is no pandas here: frames come from `px.DataFrame('http_events', start_time='-5m')`",
    ),
    ("np", "there is no numpy here: use functions of `px`, see `weir funcs`"),
    ("datetime", "write times as texts: `start_time='-5m'`, or `px.now() - px.minutes(5)`"),
    ("time", "write times as texts: `start_time='-5m'`, or `px.now() - px.minutes(5)`"),
    ("re", "write `px.regex_match('pattern', df.column)` or `px.replace`"),
    ("json", "write `px.pluck(df.column, 'key')`"),
    ("math", "use `px.floor`, `px.ceil`, `px.sqrt`, `px.log` and the like"),
];

/// After `px.`.
const OF_PX: Habits = &[
    ("p50", QUANTILES),
    ("p90", QUANTILES),
    ("p95", QUANTILES),
    ("p99", QUANTILES),
    ("median", QUANTILES),
    ("quantile", QUANTILES),
    ("percentile", QUANTILES),
    ("percentiles", QUANTILES),
    ("avg", "write `px.mean`"),
    ("average", "write `px.mean`"),
    ("len", "rows are counted by `px.count`; bytes of a text by `px.length`"),
    ("size", "rows are counted by `px.count`"),
    ("nunique", DISTINCT),
    ("count_distinct", DISTINCT),
    ("first", "write `px.any`: the earliest row's value"),
    ("std", "there is no deviation; `px.quantiles` tells how values are spread"),
    ("stddev", "there is no deviation; `px.quantiles` tells how values are spread"),
    ("concat", UNITED),
    ("print", SHOWN),
    ("show", SHOWN),
    ("str", "write `px.itoa(number)`"),
    ("to_string", "write `px.itoa(number)`"),
    ("int", "write `px.atoi(text, 0)`"),
    ("float", "write `px.pluck_float64`, or divide by 1.0"),
    ("lower", "write `px.tolower`"),
    ("upper", "write `px.toupper`"),
    ("startswith", "write `px.find(df.column, 'part') == 0`"),
    ("match", "write `px.regex_match('pattern', df.column)`"),
    ("isin", IS_IN),
    ("where", "write `px.select(condition, a, b)`"),
    ("if_else", "write `px.select(condition, a, b)`"),
    ("coalesce", NO_NULLS),
    ("read_csv", "`weir run --rows FILE` gives a script rows from files"),
    ("merge", JOINED),
];

pub(crate) fn of_frame(name: &str) -> Option<&'static str> {
    find(OF_FRAMES, name)
}

pub(crate) fn of_expression(name: &str) -> Option<&'static str> {
    find(OF_EXPRESSIONS, name).or_else(|| find(OF_FRAMES, name))
}

/// A name that is not defined, or a module that is not there.
pub(crate) fn of_python(name: &str) -> Option<&'static str> {
    let alias = match name {
        "pandas" | "polars" | "pyspark" => "pd",
        "numpy" => "np",
        other => other,
    };
    find(OF_PYTHON, alias)
}

pub(crate) fn of_px(name: &str) -> Option<&'static str> {
    find(OF_PX, name)
}

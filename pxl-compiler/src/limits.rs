//! Every bound of the compiler, by name and with its reason. What exceeds one is a diagnostic.

/// Longest script text in bytes. Pixie's longest shipped script has 20 KB.
pub const SCRIPT_BYTES_MAX: usize = 512 * 1024;
/// Longest vis.json in bytes.
pub const VIS_BYTES_MAX: usize = 512 * 1024;
/// Stack that a compile runs on, reserved as addresses and touched only as far as it is used: every
/// depth below fits many times over, in builds without optimisation, too.
pub const STACK_BYTES: usize = 64 << 20;
/// Deepest syntax tree that is parsed, counted on tokens: brackets and operators above each other. A
/// sum of n terms is a tree n deep, so this bounds chains as well.
pub const SYNTAX_DEPTH_MAX: usize = 4000;
/// Text behind an f-string that is still parsed: what the parser takes for an f-string's end depends
/// on errors in it, so that nothing behind it can be counted beforehand. f-strings are refused anyway.
pub const BEHIND_FSTRING_BYTES_MAX: usize = 16 * 1024;
/// Longest text of an argument that is read as an expression.
pub const ARGUMENT_BYTES_MAX: usize = 64 * 1024;
/// Calls of the script's functions within each other. Scripts need about 10.
pub const CALL_DEPTH_MAX: usize = 150;
/// Levels of expressions and calls that are evaluated within each other, at up
/// to 8 KB of stack a level.
pub const EVAL_DEPTH_MAX: usize = 3000;
/// Evaluated expressions per compile: stops call trees that double at each level.
pub const EVAL_STEPS_MAX: usize = 500_000;
/// Lists, tuples and dictionaries within each other: they are dropped recursively.
pub const OBJECT_DEPTH_MAX: usize = 500;
/// Units of work of one compile, of about 10 ns: half a second of evaluating, typing and passes. The
/// largest script of the bundle takes 2 % of it. Unlike a time it is the same on every machine.
pub const WORK_MAX: u64 = 50_000_000;
/// Longest time of one compile, for callers that hand in a clock: what machines under load, or work
/// that is not counted well, may take.
pub const COMPILE_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(5);
/// Longest constant text. The longest of the bundle has 3 KB.
pub const VALUE_BYTES_MAX: usize = 128 * 1024;
/// Longest text of a time. It stands in the description of each output.
pub const TIME_BYTES_MAX: usize = 256;
/// Constants that a compile computes, in all.
pub const FOLDED_BYTES_MAX: usize = 16 << 20;
/// Constants in the expressions of a plan, each as often as it stands there.
pub const PLAN_VALUE_BYTES_MAX: usize = 8 << 20;
/// Longest name of a column, a table or an output.
pub const NAME_BYTES_MAX: usize = 1024;
/// Names of all columns of all operators of a plan.
pub const PLAN_NAME_BYTES_MAX: usize = 16 << 20;
/// Frames that one `append` takes.
pub const APPEND_FRAMES_MAX: usize = 500;
/// How often one row may stand in a frame because frames were appended to themselves. Counts stay far
/// from 64 bits then, whatever the number of rows.
pub const COPIES_MAX: u64 = 1 << 32;
/// The same for a frame that is shown or exported: clients may write its copies out one by one.
pub const COPIES_SHOWN_MAX: u64 = 1 << 16;
/// Calls with a regular expression in a plan: each is compiled, and takes up to 2 MiB then.
pub const PATTERNS_MAX: usize = 64;
/// Text of all patterns of a plan.
pub const PATTERN_BYTES_MAX: usize = 256 * 1024;
/// Operators in the graph. The largest shipped script makes about 300.
pub const GRAPH_OPS_MAX: usize = 5_000;
/// Nodes of one symbolic expression, counted as a tree.
pub const EXPR_NODES_MAX: usize = 20_000;
/// Depth of one symbolic expression: a sum of a thousand terms fits. The engine takes 1,024.
pub const EXPR_DEPTH_MAX: usize = 1000;
/// A fused expression may not grow beyond this many nodes.
pub const FUSED_NODES_MAX: usize = 200;
/// Columns of all operators of a plan.
pub const PLAN_COLUMNS_MAX: usize = 200_000;
/// The same while a pass builds a plan, with copies that it leaves behind.
pub const PASS_COLUMNS_MAX: usize = 1_000_000;
/// Columns of one frame.
pub const FRAME_COLUMNS_MAX: usize = 500;
/// Errors reported per compile; at this many it ends.
pub const ERRORS_MAX: usize = 50;
/// Warnings reported per compile.
pub const WARNINGS_MAX: usize = 50;
/// Longest message, label or hint of a finding.
pub const MESSAGE_BYTES_MAX: usize = 2000;
/// Missing commas that are forgiven: each is looked for among all calls.
pub const FORGIVEN_COMMAS_MAX: usize = 50;
/// Exports, tracepoints and settings of agents of one script.
pub const DECLARATIONS_MAX: usize = 100;
/// Metrics and spans of one export.
pub const EXPORT_ITEMS_MAX: usize = 200;
/// Variables, global functions and widgets of a vis.json, each. The largest shipped has 20 of one.
pub const VIS_ITEMS_MAX: usize = 500;
/// Text that `explain` writes for one stage.
pub const EXPLAIN_BYTES_MAX: usize = 8 << 20;
/// Argument pairs of `px.script_reference`.
pub const SCRIPT_REFERENCE_ARGS_MAX: usize = 8;
/// Outputs of one script.
pub const OUTPUTS_MAX: usize = 500;
/// Expression nodes that are typed per compile, over all operators.
pub const TYPED_NODES_MAX: usize = 300_000;

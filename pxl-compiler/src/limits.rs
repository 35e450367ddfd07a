//! Every bound of the compiler, by name and with its reason. What exceeds one is a diagnostic.

/// Longest script text in bytes. Pixie's longest shipped script has 20 KB.
pub const SCRIPT_BYTES_MAX: usize = 512 * 1024;
/// Longest vis.json in bytes.
pub const VIS_BYTES_MAX: usize = 512 * 1024;
/// Deepest syntax tree that is parsed at all: the parser grows its stack, but a tree is dropped
/// and checked recursively, at up to 2 KB of stack a level.
pub const SYNTAX_DEPTH_MAX: usize = 500;
/// Deepest nesting of expressions and calls that is evaluated. Scripts need about 30; one level
/// takes up to 4 KB of stack and a test thread has 2 MB.
pub const EVAL_DEPTH_MAX: usize = 150;
/// Evaluated expressions per compile: stops call trees that double at each level.
pub const EVAL_STEPS_MAX: usize = 500_000;
/// Operators in the graph. The largest shipped script makes about 300.
pub const GRAPH_OPS_MAX: usize = 5_000;
/// Nodes of one symbolic expression, counted as a tree.
pub const EXPR_NODES_MAX: usize = 20_000;
/// Depth of one symbolic expression.
pub const EXPR_DEPTH_MAX: usize = 200;
/// A fused expression may not grow beyond this many nodes.
pub const FUSED_NODES_MAX: usize = 200;
/// Columns of all operators of a plan.
pub const PLAN_COLUMNS_MAX: usize = 500_000;
/// Columns of one frame.
pub const FRAME_COLUMNS_MAX: usize = 500;
/// Errors reported per compile.
pub const ERRORS_MAX: usize = 50;
/// Argument pairs of `px.script_reference`.
pub const SCRIPT_REFERENCE_ARGS_MAX: usize = 8;
/// Outputs of one script.
pub const OUTPUTS_MAX: usize = 500;
/// Expression nodes that are typed per compile, over all operators.
pub const TYPED_NODES_MAX: usize = 1_000_000;

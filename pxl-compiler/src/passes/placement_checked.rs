//! Afterwards every function stands where it can run: functions of the node before any blocking
//! operator. The plan does not change; what does not fit is reported.

use weir_functions::Placement;
use weir_types::{Expr, Plan};

use super::{is_blocking, is_late, op_is_late};
use crate::codes::Code;
use crate::diag::{Diag, Findings, Span};
use crate::registry;

/// Where the script uses a function that needs its node.
pub(crate) struct Site {
    pub(crate) func: String,
    pub(crate) span: Span,
    /// Behind a blocking operator, as the script has it.
    pub(crate) blocked: bool,
}

pub(crate) fn run(plan: &Plan, sites: &[Site], findings: &Findings) {
    let mut late = vec![false; plan.ops.len()];
    for (id, op) in plan.ops.iter().enumerate() {
        let behind = op.inputs.iter().any(|&input| late[input]);
        let cluster = op_is_late(op);
        late[id] = behind || cluster || is_blocking(&op.kind);
        if behind || cluster {
            for expr in op.kind.expressions() {
                check(expr, behind, sites, findings);
            }
        }
    }
}

fn check(expr: &Expr, behind: bool, sites: &[Site], findings: &Findings) {
    expr.walk(&mut |part| {
        let Expr::Call { func, args, .. } = part else { return };
        if registry::placement(func) != Placement::Node {
            return;
        }
        let nested = args.iter().any(is_late);
        if !behind && !nested {
            return;
        }
        let mine = || sites.iter().filter(|site| site.func == *func);
        let site = mine().find(|site| site.blocked).or_else(|| mine().next());
        let span = site.map_or(Span::NONE, |site| site.span);
        let message = format!(
            "UDF '{func}' must execute before blocking nodes such as limit, agg, and join."
        );
        let hint = "it reads what only the row's own node knows: assign it to a column before the \
                    aggregate, merge, append or head";
        let diag = Diag::error(Code::Placement, span, message)
            .label("the row's node is no longer known here")
            .hint(hint);
        findings.push(diag);
    });
}

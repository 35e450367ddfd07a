//! Row expressions over the columns of one input relation. Fully typed by the compiler: each call
//! names the exact overload by its argument types. Evaluation is `weir-functions`.

use serde::{Deserialize, Serialize};

use crate::value::{DataType, Value};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Expr {
    /// A column of the input relation, by position.
    Column {
        idx: usize,
        data_type: DataType,
    },
    Literal(Value),
    /// A scalar function of the registry. Operators are functions too (`add`, `equal`, …).
    Call {
        func: String,
        args: Vec<Expr>,
        data_type: DataType,
    },
    /// The tick's time in Unix ns times `factor`, plus `offset_ns`: what `px.now()` is in a row
    /// expression. INT64.
    Now {
        factor: i64,
        offset_ns: i64,
    },
}

impl Expr {
    #[must_use]
    pub fn data_type(&self) -> DataType {
        match self {
            Expr::Column { data_type, .. } | Expr::Call { data_type, .. } => *data_type,
            Expr::Literal(value) => value.data_type(),
            Expr::Now { .. } => DataType::Int64,
        }
    }

    /// Calls `visit` on this expression and all below it.
    pub fn walk(&self, visit: &mut dyn FnMut(&Expr)) {
        visit(self);
        if let Expr::Call { args, .. } = self {
            for arg in args {
                arg.walk(visit);
            }
        }
    }

    /// True if some part of it reads the clock.
    #[must_use]
    pub fn reads_now(&self) -> bool {
        let mut found = false;
        self.walk(&mut |expr| found |= matches!(expr, Expr::Now { .. }));
        found
    }

    /// The positions of all columns that it reads, in order, without repeats.
    #[must_use]
    pub fn columns(&self) -> Vec<usize> {
        let mut found = Vec::new();
        self.walk(&mut |expr| {
            if let Expr::Column { idx, .. } = expr
                && !found.contains(idx)
            {
                found.push(*idx);
            }
        });
        found.sort_unstable();
        found
    }

    /// The same expression with every column position replaced by `map(idx)`.
    #[must_use]
    pub fn with_columns(&self, map: &dyn Fn(usize) -> usize) -> Expr {
        match self {
            Expr::Column { idx, data_type } => {
                Expr::Column { idx: map(*idx), data_type: *data_type }
            }
            Expr::Call { func, args, data_type } => Expr::Call {
                func: func.clone(),
                args: args.iter().map(|arg| arg.with_columns(map)).collect(),
                data_type: *data_type,
            },
            other => other.clone(),
        }
    }
}

//! Logic and choice. Both sides are always computed.

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::BooleanBuffer;
use weir_types::Value;

use super::{ScalarDef, def, overloads};
use crate::operand::{BoolCol, Call, Operand, Prim};
use crate::output;
use crate::semantic::SemanticRule;

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "logicalAnd",
        overloads![B B => B, and_bb; I I => B, and_ii],
        &["a", "b"],
        "True if both are true (not 0); operator `and`",
        "df = df[df.failed and df.slow]",
    ),
    def(
        "logicalOr",
        overloads![B B => B, or_bb; I I => B, or_ii],
        &["a", "b"],
        "True if either is true (not 0); operator `or`",
        "df = df[df.failed or df.slow]",
    ),
    def(
        "logicalNot",
        overloads![B => B, not_b; I => B, not_i],
        &["a"],
        "True if the argument is false (0); operator `not`",
        "df = df[not px.contains(df.req_path, '/healthz')]",
    ),
    def(
        "select",
        overloads![
            B B B => B, select_b; B I I => I, select_i; B F F => F, select_f; B S S => S, select_s;
            B T T => T, select_t
        ],
        &["condition", "x", "y"],
        "x where the condition is true, else y",
        "df.name = px.select(df.pod != '', df.pod, df.remote_addr)",
    )
    .semantic(SemanticRule::Branches),
];

fn and_bb(call: &Call<'_>) -> ArrayRef {
    output::bits(&call.bool(0).to_buffer(call.rows) & &call.bool(1).to_buffer(call.rows))
}
fn or_bb(call: &Call<'_>) -> ArrayRef {
    output::bits(&call.bool(0).to_buffer(call.rows) | &call.bool(1).to_buffer(call.rows))
}
fn not_b(call: &Call<'_>) -> ArrayRef {
    output::bits(!&call.bool(0).to_buffer(call.rows))
}
fn and_ii(call: &Call<'_>) -> ArrayRef {
    let both = |a, b| a != 0 && b != 0;
    output::bits(output::zip2_bits(call.int(0), call.int(1), call.rows, both))
}
fn or_ii(call: &Call<'_>) -> ArrayRef {
    let either = |a, b| a != 0 || b != 0;
    output::bits(output::zip2_bits(call.int(0), call.int(1), call.rows, either))
}
fn not_i(call: &Call<'_>) -> ArrayRef {
    let a = call.int(0);
    output::bits(output::zip2_bits(a, Prim::Const(0), call.rows, |a, zero| a == zero))
}

fn select_i(call: &Call<'_>) -> ArrayRef {
    output::ints(choose(&call.bool(0).to_buffer(call.rows), call.int(1), call.int(2)))
}
fn select_t(call: &Call<'_>) -> ArrayRef {
    output::times(choose(&call.bool(0).to_buffer(call.rows), call.int(1), call.int(2)))
}
fn select_f(call: &Call<'_>) -> ArrayRef {
    output::floats(choose(&call.bool(0).to_buffer(call.rows), call.float(1), call.float(2)))
}

/// Loops per shape of the branches, so that each is without a branch on the shape.
fn choose<T: Copy>(condition: &BooleanBuffer, x: Prim<'_, T>, y: Prim<'_, T>) -> Vec<T> {
    let bits = condition.iter();
    match (x, y) {
        (Prim::Slice(x), Prim::Slice(y)) => {
            bits.zip(x.iter().zip(y)).map(|(bit, (&x, &y))| if bit { x } else { y }).collect()
        }
        (Prim::Slice(x), Prim::Const(y)) => {
            bits.zip(x).map(|(bit, &x)| if bit { x } else { y }).collect()
        }
        (Prim::Const(x), Prim::Slice(y)) => {
            bits.zip(y).map(|(bit, &y)| if bit { x } else { y }).collect()
        }
        (Prim::Const(x), Prim::Const(y)) => bits.map(|bit| if bit { x } else { y }).collect(),
    }
}

fn select_b(call: &Call<'_>) -> ArrayRef {
    let condition = call.bool(0).to_buffer(call.rows);
    let x = &condition & &call.bool(1).to_buffer(call.rows);
    let y = &!&condition & &call.bool(2).to_buffer(call.rows);
    output::bits(&x | &y)
}

/// A STRING argument that has few values, as keys into them.
struct Coded<'a> {
    keys: Prim<'a, i32>,
    values: ArrayRef,
}

fn coded(operand: &Operand) -> Option<Coded<'_>> {
    match operand {
        Operand::Scalar(Value::String(text)) => {
            let values = output::strings(1, |_, out| out.extend_from_slice(text));
            Some(Coded { keys: Prim::Const(0), values })
        }
        Operand::Scalar(_) => None,
        Operand::Array(array) => {
            let dictionary = array.as_dictionary_opt::<Int32Type>()?;
            let keys = Prim::Slice(&dictionary.keys().values()[..]);
            Some(Coded { keys, values: dictionary.values().clone() })
        }
    }
}

fn select_s(call: &Call<'_>) -> ArrayRef {
    let condition = call.bool(0);
    if let (Some(x), Some(y)) = (coded(&call.args[1]), coded(&call.args[2]))
        && x.values.len() + y.values.len() <= call.rows.max(2)
    {
        return select_coded(condition, &x, &y, call.rows);
    }
    let (x, y) = (call.str(1), call.str(2));
    output::strings(call.rows, |row, out| {
        out.extend_from_slice(if condition.get(row) { x.get(row) } else { y.get(row) });
    })
}

/// Keys are chosen instead of texts; the values of both sides stand one after the other.
fn select_coded(condition: BoolCol<'_>, x: &Coded<'_>, y: &Coded<'_>, rows: usize) -> ArrayRef {
    let (x_values, y_values) = (x.values.as_binary::<i32>(), y.values.as_binary::<i32>());
    let x_count = x_values.len();
    let values = output::strings(x_count + y_values.len(), |idx, out| {
        out.extend_from_slice(if idx < x_count {
            x_values.value(idx)
        } else {
            y_values.value(idx - x_count)
        });
    });
    let shift = x_count as i32;
    let keys = (0..rows)
        .map(|row| if condition.get(row) { x.keys.get(row) } else { y.keys.get(row) + shift })
        .collect();
    output::dictionary(keys, values)
}

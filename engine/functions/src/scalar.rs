//! The registry of scalar functions: one definition per name, in a module per domain.
//!
//! A kernel computes a whole column from its arguments ([`Call`]). Kernels are pure per row: the
//! evaluator calls them on a dictionary's values in place of rows, and once for constants.

mod arithmetic;
mod compare;
mod learned;
mod logic;
mod metadata;
mod network;
pub mod pii;
mod pluck;
mod protocol_names;
mod regex;
pub(crate) mod request_path;
mod sql;
mod strings;
mod time;
mod uri;

use std::sync::LazyLock;

use arrow_array::ArrayRef;
use hashbrown::HashMap;
use weir_types::{DataType, SemanticType, Value};

use crate::Placement;
use crate::operand::{Call, Constants};
use crate::semantic::SemanticRule;

pub(crate) type Kernel = fn(&Call<'_>) -> ArrayRef;
/// Makes what a kernel needs of its literal arguments; the others are `None`.
pub(crate) type Prepare = fn(&[Option<&Value>]) -> Constants;

/// One exact signature.
#[derive(Clone, Copy, Debug)]
pub struct Overload {
    pub args: &'static [DataType],
    pub result: DataType,
    pub(crate) kernel: Kernel,
}

/// One function.
#[derive(Clone, Copy, Debug)]
pub struct ScalarDef {
    pub name: &'static str,
    pub overloads: &'static [Overload],
    pub placement: Placement,
    /// Positions of arguments that must be literals.
    pub const_args: &'static [usize],
    /// Names of the arguments of the longest overload; the last two repeat in `_script_reference`.
    pub arg_names: &'static [&'static str],
    /// One line.
    pub doc: &'static str,
    pub example: &'static str,
    pub semantic: SemanticRule,
    /// The result depends on the arguments only, not on metadata: it may be folded.
    pub pure: bool,
    /// Why calling it is refused, if it is: the name is known, but it cannot be computed here.
    pub refusal: Option<&'static str>,
    pub(crate) prepare: Option<Prepare>,
    /// How many times slower than reading each byte of its texts it is, where that is much
    /// ([`crate::work::Work::read_bytes`]).
    pub(crate) reads: u64,
}

impl ScalarDef {
    /// The overload with exactly these argument types.
    #[must_use]
    pub fn overload(&self, args: &[DataType]) -> Option<&'static Overload> {
        self.overloads.iter().find(|overload| overload.args == args)
    }
    /// Names beginning with `_` are callable but not listed.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.name.starts_with('_')
    }

    pub(crate) const fn semantic(mut self, rule: SemanticRule) -> ScalarDef {
        self.semantic = rule;
        self
    }
    pub(crate) const fn tag(self, tag: SemanticType) -> ScalarDef {
        self.semantic(SemanticRule::Fixed(tag))
    }
    pub(crate) const fn placed(mut self, placement: Placement) -> ScalarDef {
        self.placement = placement;
        self
    }
    /// Reads the context: not folded.
    pub(crate) const fn reads_context(mut self) -> ScalarDef {
        self.pure = false;
        self
    }
    pub(crate) const fn prepared(
        mut self,
        const_args: &'static [usize],
        prepare: Prepare,
    ) -> ScalarDef {
        self.const_args = const_args;
        self.prepare = Some(prepare);
        self
    }
    pub(crate) const fn reads(mut self, times: u64) -> ScalarDef {
        self.reads = times;
        self
    }
    pub(crate) const fn refused(mut self, reason: &'static str) -> ScalarDef {
        self.refusal = Some(reason);
        self
    }
}

/// A pure function that runs anywhere; the methods above say otherwise.
pub(crate) const fn def(
    name: &'static str,
    overloads: &'static [Overload],
    arg_names: &'static [&'static str],
    doc: &'static str,
    example: &'static str,
) -> ScalarDef {
    ScalarDef {
        name,
        overloads,
        placement: Placement::Anywhere,
        const_args: &[],
        arg_names,
        doc,
        example,
        semantic: SemanticRule::None,
        pure: true,
        refusal: None,
        prepare: None,
        reads: 1,
    }
}

/// The letters of the reference for the data types.
macro_rules! ty {
    (B) => {
        weir_types::DataType::Boolean
    };
    (I) => {
        weir_types::DataType::Int64
    };
    (F) => {
        weir_types::DataType::Float64
    };
    (S) => {
        weir_types::DataType::String
    };
    (T) => {
        weir_types::DataType::Time64Ns
    };
    (U) => {
        weir_types::DataType::Uint128
    };
}

/// `overloads![I I => I, add_ii; S S => S, concat]`
macro_rules! overloads {
    ($($($arg:ident)* => $result:ident, $kernel:expr);* $(;)?) => {
        &[$($crate::scalar::Overload {
            args: &[$($crate::scalar::ty!($arg)),*],
            result: $crate::scalar::ty!($result),
            kernel: $kernel,
        }),*]
    };
}

/// Kernels over numbers: `name: int, float => floats |a, b| a as f64 + b;`. Arguments are named by
/// the method of `Call` that reads them, the result by the function of `output` that builds it.
macro_rules! number_kernels {
    ($($name:ident: $a:ident, $b:ident => $out:ident |$x:ident, $y:ident| $body:expr;)*) => {
        $(fn $name(call: &$crate::operand::Call<'_>) -> arrow_array::ArrayRef {
            $crate::output::$out($crate::output::zip2(
                call.$a(0), call.$b(1), call.rows, |$x, $y| $body,
            ))
        })*
    };
}
macro_rules! number_kernels1 {
    ($($name:ident: $a:ident => $out:ident |$x:ident| $body:expr;)*) => {
        $(fn $name(call: &$crate::operand::Call<'_>) -> arrow_array::ArrayRef {
            $crate::output::$out($crate::output::map1(call.$a(0), call.rows, |$x| $body))
        })*
    };
}

pub(crate) use metadata::put_for_codes;
pub(crate) use {number_kernels, number_kernels1, overloads, ty};

static REGISTRY: LazyLock<HashMap<&'static str, &'static ScalarDef>> = LazyLock::new(|| {
    let mut registry = HashMap::new();
    for def in all() {
        let before = registry.insert(def.name, def);
        debug_assert!(before.is_none(), "function `{}` is defined twice", def.name);
    }
    registry
});

/// The domains, in the order in which documentation lists them.
const DOMAINS: &[&[ScalarDef]] = &[
    arithmetic::DEFS,
    compare::DEFS,
    logic::DEFS,
    time::DEFS,
    strings::DEFS,
    regex::DEFS,
    uri::DEFS,
    pii::DEFS,
    sql::DEFS,
    pluck::DEFS,
    protocol_names::DEFS,
    request_path::DEFS,
    network::DEFS,
    learned::DEFS,
];

/// The function of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static ScalarDef> {
    REGISTRY.get(name).copied()
}

/// All functions, domain by domain.
pub fn all() -> impl Iterator<Item = &'static ScalarDef> {
    DOMAINS.iter().chain(metadata::DOMAINS).copied().flatten()
}

/// Whether a call's result depends on what is known of processes, connections and addresses.
#[must_use]
pub fn reads_names(name: &str) -> bool {
    find(name).is_some_and(|function| !function.pure)
}

/// The result type of the overload with exactly these argument types.
#[must_use]
pub fn resolve(name: &str, args: &[DataType]) -> Option<DataType> {
    find(name)?.overload(args).map(|overload| overload.result)
}

/// The result's tag. `arg_types` must be those of an overload; no rule depends on them today.
#[must_use]
pub fn semantic(name: &str, args: &[SemanticType], _arg_types: &[DataType]) -> SemanticType {
    find(name).map_or(SemanticType::None, |def| def.semantic.apply(args))
}

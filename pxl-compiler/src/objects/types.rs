//! Type objects: parameter annotations and semantic casts. A cast sets the tag of an expression; it
//! never changes a value.

use weir_types::{DataType, SemanticType};

use super::Object;
use super::args::CallArgs;
use crate::codes::Code;
use crate::diag::{Res, Span, Stop, fail};
use crate::ir::SymKind;
use crate::ir::sym::CastTo;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Base {
    Data(DataType),
    Frame,
    List,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TypeObject {
    pub(crate) name: &'static str,
    pub(crate) base: Base,
    pub(crate) semantic: SemanticType,
}

const fn data(name: &'static str, data_type: DataType, semantic: SemanticType) -> TypeObject {
    TypeObject { name, base: Base::Data(data_type), semantic }
}

/// Types that are attributes of `px`.
pub(crate) const PX_TYPES: [TypeObject; 10] = [
    data("Time", DataType::Time64Ns, SemanticType::None),
    data("Service", DataType::String, SemanticType::ServiceName),
    data("Pod", DataType::String, SemanticType::PodName),
    data("Node", DataType::String, SemanticType::NodeName),
    data("Namespace", DataType::String, SemanticType::NamespaceName),
    data("Container", DataType::String, SemanticType::ContainerName),
    data("UPID", DataType::Uint128, SemanticType::Upid),
    data("Bytes", DataType::Int64, SemanticType::Bytes),
    data("DurationNanos", DataType::Int64, SemanticType::DurationNs),
    data("Percent", DataType::Float64, SemanticType::Percent),
];

/// Types that are names in every script.
pub(crate) const BUILTIN_TYPES: [TypeObject; 5] = [
    data("str", DataType::String, SemanticType::None),
    data("int", DataType::Int64, SemanticType::None),
    data("float", DataType::Float64, SemanticType::None),
    data("bool", DataType::Boolean, SemanticType::None),
    TypeObject { name: "list", base: Base::List, semantic: SemanticType::None },
];

pub(crate) const FRAME_TYPE: TypeObject =
    TypeObject { name: "DataFrame", base: Base::Frame, semantic: SemanticType::None };

impl TypeObject {
    /// What messages call it.
    pub(crate) fn describe(self) -> String {
        match self.base {
            Base::Data(data_type) => data_type.name().to_string(),
            Base::Frame => "DataFrame".to_string(),
            Base::List => "list".to_string(),
        }
    }

    /// Checks an argument against a parameter's annotation, by base type, where the type of the
    /// argument is already known.
    pub(crate) fn check(self, value: &Object<'_>, span: Span) -> Res<()> {
        let fits = match (self.base, value) {
            (_, Object::None | Object::Poison) => true,
            (Base::Frame, other) => matches!(other, Object::Frame(_)),
            (Base::List, other) => matches!(other, Object::List(_) | Object::Tuple(_)),
            (Base::Data(wanted), Object::Expr(sym)) => match &sym.kind {
                SymKind::Literal(value) => value.data_type() == wanted,
                SymKind::Now(now) => {
                    wanted == if now.time { DataType::Time64Ns } else { DataType::Int64 }
                }
                // Columns and calls are typed later.
                _ => true,
            },
            (Base::Data(_), _) => false,
        };
        if fits {
            return Ok(());
        }
        let received = value.type_name();
        fail(
            Code::ArgumentType,
            span,
            format!("Expected '{}', received '{received}'", self.describe()),
        )
    }

    /// `px.Bytes(x)`: the same expression with the tag set.
    pub(crate) fn cast<'a>(self, args: CallArgs<'a>) -> Res<Object<'a>> {
        let span = args.span;
        let [value] = args.bind(self.name, &["expr"], 1)?.try_into().unwrap_or([const { None }]);
        let Some(arg) = value else { return Ok(Object::Poison) };
        let Base::Data(data_type) = self.base else {
            let message = format!("'{}' is a type for annotations; it cannot be called", self.name);
            return fail(Code::Cast, span, message);
        };
        if BUILTIN_TYPES.contains(&self) {
            let (from, to) = (arg.value.type_name(), self.name);
            return fail(
                Code::Cast,
                span,
                format!(
                    "Cannot cast from '{from}' to '{to}'. Only semantic type casts are allowed."
                ),
            );
        }
        let Object::Expr(sym) = &arg.value else {
            let (from, to) = (arg.value.type_name(), self.name);
            return fail(
                Code::Cast,
                arg.span,
                format!(
                    "Cannot cast from '{from}' to '{to}'. Only semantic type casts are allowed."
                ),
            );
        };
        let to = CastTo { name: self.name, data_type, semantic: self.semantic, span };
        sym.cast.set(Some(to));
        Ok(arg.value)
    }
}

pub(super) fn annotation_type(value: &Object<'_>, span: Span) -> Res<TypeObject> {
    match value {
        Object::Type(found) => Ok(*found),
        Object::Px(function) if *function == super::px::PxFunction::DataFrame => Ok(FRAME_TYPE),
        Object::Poison => Err(Stop::Poisoned),
        other => {
            let kind = other.type_name();
            fail(Code::ArgumentType, span, format!("Expected 'Type', received '{kind}'"))
        }
    }
}

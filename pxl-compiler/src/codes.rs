//! The stable codes of diagnostics. Each has a golden in `tests/goldens/diagnostics`.

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// What kind of finding it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $variant),* }

        impl Code {
            /// All of them, in declared order.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The name that the outside sees.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name),* }
            }
        }
    };
}

impl Code {
    /// What a limit of the compiler makes, in place of work that nobody can pay for.
    pub const LIMITS: &'static [Code] = &[
        Code::ScriptTooLarge,
        Code::TooDeep,
        Code::TooComplex,
        Code::CompileTime,
        Code::ValueTooLarge,
        Code::NameTooLong,
        Code::CopiesMax,
        Code::PatternsMax,
        Code::RecursionLimit,
        Code::ColumnsMax,
        Code::OutputsMax,
    ];
}

codes! {
    /// Not valid Python-like syntax.
    SyntaxError => "syntax_error",
    EmptyQuery => "empty_query",
    ScriptTooLarge => "script_too_large",
    TooDeep => "too_deep",
    TooComplex => "too_complex",
    /// Compiling takes too long on this machine, now.
    CompileTime => "compile_time",
    /// Whoever asked does not wait any more.
    Cancelled => "cancelled",
    /// A constant text, or all of them, have too many bytes.
    ValueTooLarge => "value_too_large",
    NameTooLong => "name_too_long",
    /// Frames were appended to themselves too often.
    CopiesMax => "copies_max",
    /// Too many patterns, or too much text in them.
    PatternsMax => "patterns_max",
    /// Warning: there are more findings than are shown.
    MoreFindings => "more_findings",
    /// Recursion: a function calls itself, directly or not.
    RecursionLimit => "recursion_limit",
    /// A statement of Python that PxL does not have.
    StatementNotSupported => "statement_not_supported",
    /// An expression of Python that PxL does not have.
    ExpressionNotSupported => "expression_not_supported",
    OperatorNotHandled => "operator_not_handled",
    BooleanOperands => "boolean_operands",
    ChainedComparison => "chained_comparison",
    SliceNotSupported => "slice_not_supported",
    SingleTarget => "single_target",
    AssignmentTarget => "assignment_target",
    AssignAttribute => "assign_attribute",
    DefaultValue => "default_value",
    VariableArguments => "variable_arguments",
    FunctionForm => "function_form",
    ReturnOutsideFunction => "return_outside_function",
    DocstringPlace => "docstring_place",
    NumberRange => "number_range",
    NameNotDefined => "name_not_defined",
    ModuleNotFound => "module_not_found",
    ImportNotFound => "import_not_found",
    AttributeNotFound => "attribute_not_found",
    MethodNotFound => "method_not_found",
    NotCallable => "not_callable",
    ArgumentCount => "argument_count",
    ArgumentType => "argument_type",
    ArgumentValue => "argument_value",
    ArgumentUnknown => "argument_unknown",
    NotConstant => "not_constant",
    NowNotConstant => "now_not_constant",
    TimeFormat => "time_format",
    TableNotFound => "table_not_found",
    ColumnNotFound => "column_not_found",
    ColumnOfOtherFrame => "column_of_other_frame",
    ColumnTwice => "column_twice",
    ColumnsMax => "columns_max",
    NoOverload => "no_overload",
    NoAggregateOverload => "no_aggregate_overload",
    MetadataKey => "metadata_key",
    MetadataKeyColumn => "metadata_key_column",
    Placement => "placement",
    FilterType => "filter_type",
    IndexType => "index_type",
    IndexRange => "index_range",
    GroupbyUse => "groupby_use",
    AggregateForm => "aggregate_form",
    JoinKind => "join_kind",
    JoinKeys => "join_keys",
    JoinSuffixes => "join_suffixes",
    AppendSchema => "append_schema",
    Cast => "cast",
    ScriptReference => "script_reference",
    ExecFunction => "exec_function",
    ExecArgument => "exec_argument",
    ExecResult => "exec_result",
    /// A specification of an export that OpenTelemetry cannot take.
    Otel => "otel",
    /// The script asks for something that the request did not bring.
    NoRequestConfig => "no_request_config",
    /// A tracepoint that cannot be declared.
    Tracepoint => "tracepoint",
    /// Where `df.stream()` may not stand.
    StreamUse => "stream_use",
    NoOutput => "no_output",
    OutputsMax => "outputs_max",
    VisSyntax => "vis_syntax",
    VisInvalid => "vis_invalid",
    ArgumentMissing => "argument_missing",
    Pragma => "pragma",
    /// Known to PxL, not built yet.
    NotYet => "not_yet",
    /// Warning: the window begins in the future and is empty.
    StartInFuture => "start_in_future",
    /// Warning: an argument has no effect.
    NoEffect => "no_effect",
    /// Warning: a table that no source of this machine produces.
    NoSource => "no_source",
    /// Warning: an export is declared and checked; nothing sends it yet.
    NoExporter => "no_exporter",
    /// Warning: a widget names a column that its output does not have.
    VisColumn => "vis_column",
    /// Warning: a widget has a field that its kind does not know.
    VisField => "vis_field",
    /// A pass made a plan that does not hold together: a bug here, never the script's fault.
    Internal => "internal",
}

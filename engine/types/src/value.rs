//! PxL's values: six data types, each with a semantic type beside it. There is no NULL: a missing
//! value is the type's zero.
//!
//! `Value` is for edges, literals and tests; streams carry Arrow arrays (`batch`) and packed rows
//! (`row`).

use serde::{Deserialize, Serialize};

/// A PxL data type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DataType {
    Boolean,
    Int64,
    Float64,
    /// Bytes, not guaranteed to be UTF-8.
    String,
    /// Unix nanoseconds, signed 64 bit.
    Time64Ns,
    Uint128,
}

impl DataType {
    pub const ALL: [DataType; 6] = [
        DataType::Boolean,
        DataType::Int64,
        DataType::Float64,
        DataType::String,
        DataType::Time64Ns,
        DataType::Uint128,
    ];

    /// The name that the outside sees (contract: `BOOLEAN INT64 …`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DataType::Boolean => "BOOLEAN",
            DataType::Int64 => "INT64",
            DataType::Float64 => "FLOAT64",
            DataType::String => "STRING",
            DataType::Time64Ns => "TIME64NS",
            DataType::Uint128 => "UINT128",
        }
    }

    /// The type's zero, which stands for a missing value.
    #[must_use]
    pub fn zero(self) -> Value {
        match self {
            DataType::Boolean => Value::Boolean(false),
            DataType::Int64 => Value::Int64(0),
            DataType::Float64 => Value::Float64(0.0),
            DataType::String => Value::String(Vec::new()),
            DataType::Time64Ns => Value::Time64Ns(0),
            DataType::Uint128 => Value::Uint128(0),
        }
    }
}

impl std::fmt::Display for DataType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! semantic_types {
    ($($variant:ident = $number:literal, $name:literal;)*) => {
        /// What a value means: a display and inference tag carried next to the data type.
        /// The numbers are Pixie's API numbers.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum SemanticType { #[default] $($variant = $number),* }
        impl SemanticType {
            pub const ALL: &'static [SemanticType] = &[$(SemanticType::$variant),*];
            #[must_use]
            pub fn name(self) -> &'static str { match self { $(SemanticType::$variant => $name),* } }
            #[must_use]
            pub fn number(self) -> i32 { self as i32 }
        }
    };
}

semantic_types! {
    None = 1, "NONE";
    TimeNs = 2, "TIME_NS";
    AgentUid = 100, "AGENT_UID";
    Asid = 101, "ASID";
    Upid = 200, "UPID";
    ServiceName = 300, "SERVICE_NAME";
    PodName = 400, "POD_NAME";
    PodPhase = 401, "POD_PHASE";
    PodStatus = 402, "POD_STATUS";
    NodeName = 500, "NODE_NAME";
    ContainerName = 600, "CONTAINER_NAME";
    ContainerState = 601, "CONTAINER_STATE";
    ContainerStatus = 602, "CONTAINER_STATUS";
    NamespaceName = 700, "NAMESPACE_NAME";
    Bytes = 800, "BYTES";
    Percent = 900, "PERCENT";
    DurationNs = 901, "DURATION_NS";
    ThroughputPerNs = 902, "THROUGHPUT_PER_NS";
    ThroughputBytesPerNs = 903, "THROUGHPUT_BYTES_PER_NS";
    Quantiles = 1000, "QUANTILES";
    DurationNsQuantiles = 1001, "DURATION_NS_QUANTILES";
    IpAddress = 1100, "IP_ADDRESS";
    Port = 1200, "PORT";
    HttpReqMethod = 1300, "HTTP_REQ_METHOD";
    HttpRespStatus = 1400, "HTTP_RESP_STATUS";
    HttpRespMessage = 1500, "HTTP_RESP_MESSAGE";
    ScriptReference = 3000, "SCRIPT_REFERENCE";
}

impl std::fmt::Display for SemanticType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One PxL value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Value {
    Boolean(bool),
    Int64(i64),
    Float64(f64),
    String(Vec<u8>),
    Time64Ns(i64),
    Uint128(u128),
}

impl Value {
    #[must_use]
    pub fn data_type(&self) -> DataType {
        match self {
            Value::Boolean(_) => DataType::Boolean,
            Value::Int64(_) => DataType::Int64,
            Value::Float64(_) => DataType::Float64,
            Value::String(_) => DataType::String,
            Value::Time64Ns(_) => DataType::Time64Ns,
            Value::Uint128(_) => DataType::Uint128,
        }
    }

    #[must_use]
    pub fn str(text: &str) -> Value {
        Value::String(text.as_bytes().to_vec())
    }

    /// The order of packed rows: false < true, integers signed, floats by IEEE totalOrder, strings
    /// bytewise, UINT128 unsigned. Values of different types compare by type.
    #[must_use]
    pub fn total_cmp(&self, other: &Value) -> std::cmp::Ordering {
        match (self, other) {
            (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
            (Value::Int64(a), Value::Int64(b)) | (Value::Time64Ns(a), Value::Time64Ns(b)) => {
                a.cmp(b)
            }
            (Value::Float64(a), Value::Float64(b)) => a.total_cmp(b),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Uint128(a), Value::Uint128(b)) => a.cmp(b),
            (a, b) => a.data_type().cmp(&b.data_type()),
        }
    }
}

/// Equality is identity of the stored bits (a NaN equals itself): what groups, joins and multisets
/// need. PxL's own `==` is the function `equal`.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        self.total_cmp(other).is_eq()
    }
}
impl Eq for Value {}
impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Value) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Value {
    fn cmp(&self, other: &Value) -> std::cmp::Ordering {
        self.total_cmp(other)
    }
}
impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.data_type().hash(state);
        match self {
            Value::Boolean(v) => v.hash(state),
            Value::Int64(v) | Value::Time64Ns(v) => v.hash(state),
            Value::Float64(v) => v.to_bits().hash(state),
            Value::String(v) => v.hash(state),
            Value::Uint128(v) => v.hash(state),
        }
    }
}

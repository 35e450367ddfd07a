//! Functions that need models: known by name, so that scripts get a clear answer.

use arrow_array::ArrayRef;

use super::{ScalarDef, def, overloads};
use crate::operand::Call;
use crate::output;

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "_text_embedding",
        overloads![S => S, unbuilt_text],
        &["text"],
        "Embedding of the text as a JSON array of numbers",
        "df.embedding = px._text_embedding(df.resp_body)",
    )
    .not_built(),
    def(
        "_encode_sentence_piece",
        overloads![S => S, unbuilt_text],
        &["text"],
        "The text cut into sentence pieces, JSON",
        "df.pieces = px._encode_sentence_piece(df.resp_body)",
    )
    .not_built(),
    def(
        "_kmeans_inference",
        overloads![S S => I, unbuilt_number],
        &["embedding", "model"],
        "Number of the cluster nearest to the embedding",
        "df.cluster = px._kmeans_inference(df.embedding, df.model)",
    )
    .not_built(),
];

/// Compiling refuses them, so they never run.
fn unbuilt_text(call: &Call<'_>) -> ArrayRef {
    output::strings(call.rows, |_, _| {})
}
fn unbuilt_number(call: &Call<'_>) -> ArrayRef {
    output::ints(vec![0; call.rows])
}

//! Functions of machine learning. Those that need model files, which Weir does not ship, are known
//! by name and refused, so that scripts get a clear answer.

use arrow_array::ArrayRef;

use super::{ScalarDef, def, overloads};
use crate::kmeans;
use crate::operand::Call;
use crate::output;

const NO_MODEL: &str = "it needs the file of a language model, and Weir ships none";

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "_text_embedding",
        overloads![S => S, unbuilt_text],
        &["text"],
        "Embedding of the text as a JSON array of numbers",
        "df.embedding = px._text_embedding(df.resp_body)",
    )
    .refused(NO_MODEL),
    def(
        "_encode_sentence_piece",
        overloads![S => S, unbuilt_text],
        &["text"],
        "The text cut into sentence pieces, JSON",
        "df.pieces = px._encode_sentence_piece(df.resp_body)",
    )
    .refused(NO_MODEL),
    def(
        "_kmeans_inference",
        overloads![S S => I, kmeans_inference],
        &["embedding", "model"],
        "Number, from 0, of the centre of `_kmeans_fit` nearest to the embedding, a JSON array of \
         numbers; -1 if there is none",
        "df.cluster = px._kmeans_inference(df.embedding, df.model)",
    ),
];

/// Compiling refuses them, so they never run.
fn unbuilt_text(call: &Call<'_>) -> ArrayRef {
    output::strings(call.rows, |_, _| {})
}

fn kmeans_inference(call: &Call<'_>) -> ArrayRef {
    let (embedding, model) = (call.str(0), call.str(1));
    // The model comes from a cross join: the same text in every row.
    let mut known: Option<(&[u8], Vec<Vec<f64>>)> = None;
    let number = |row| {
        let text = model.get(row);
        if known.as_ref().is_none_or(|(of, _)| *of != text) {
            known = Some((text, kmeans::read_model(text).unwrap_or_default()));
        }
        let centers = known.as_ref().map_or(&[][..], |(_, centers)| centers);
        let point = kmeans::read_point(embedding.get(row));
        point.and_then(|point| kmeans::nearest(centers, &point)).map_or(-1, |idx| idx as i64)
    };
    output::ints((0..call.rows).map(number).collect())
}

//! Bodies of requests and responses as the columns have them.

use super::decode::{Decoder, Topics};
use super::parse::{behind_header, missing_bytes};
use super::schema::{Api, Field, api};
use super::types::{
    API_VERSIONS, Asked, BODY_BYTES_MAX, Header, LENGTH_BYTES, METADATA, PRODUCE,
    RESPONSE_HEAD_BYTES,
};
use crate::cursor::Cursor;
use crate::json_text::JsonText;
use crate::redact::Redactor;

/// Responses that tell topics' names beside their ids: Metadata, CreateTopics, DescribeTopicPartitions.
const TELL_TOPICS: [i16; 3] = [METADATA, 19, 75];
/// What a broker answers, in the oldest version, that does not know the version asked for.
const UNSUPPORTED_VERSION: i16 = 35;

/// How a body is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) fields: &'static [Field],
    pub(super) version: i16,
    pub(super) is_flexible: bool,
    /// Tagged fields stand in front of it.
    pub(super) has_tags: bool,
}

impl Layout {
    /// `None`: of a version that is not known.
    pub(super) fn of_request(api: &'static Api, header: &Header<'_>) -> Option<Layout> {
        let version = header.api_version;
        let is_flexible = version >= api.flexible_from;
        (version <= api.newest_version).then_some(Layout {
            fields: &api.request,
            version,
            is_flexible,
            has_tags: is_flexible,
        })
    }

    /// The same. The body says in which version a broker answers that does not know the one asked for.
    pub(super) fn of_response(api: &'static Api, asked: &Asked, body: &[u8]) -> Option<Layout> {
        let asks_versions = asked.api_key == API_VERSIONS;
        let is_refused = asks_versions && Cursor::new(body).i16_be() == Some(UNSUPPORTED_VERSION);
        let version = if is_refused { 0 } else { asked.api_version };
        let is_flexible = version >= api.flexible_from;
        (version <= api.newest_version).then_some(Layout {
            fields: &api.response,
            version,
            is_flexible,
            // Whoever asks for versions need not know any.
            has_tags: is_flexible && !asks_versions,
        })
    }
}

/// What a column is made with.
pub(super) struct Maker<'a> {
    pub(super) topics: &'a mut Topics,
    pub(super) redactor: &'a Redactor,
}

impl Maker<'_> {
    fn json() -> JsonText {
        JsonText::new(Vec::new(), BODY_BYTES_MAX).with_more_structure(BODY_BYTES_MAX)
    }

    fn finish(&self, mut json: JsonText) -> Vec<u8> {
        json.raw("}");
        let mut text = json.finish();
        self.redactor.redact_pii(&mut text, 0);
        text.shrink_to_fit();
        text
    }

    /// A request's body, and whether nothing will answer it.
    pub(super) fn request(&mut self, frame: &[u8], header: &Header<'_>) -> (Vec<u8>, bool) {
        let mut json = Maker::json();
        json.raw("{").key("correlation_id").int(header.correlation_id);
        json.key("api_version").int(header.api_version);
        let mut acks = None;
        if let Some(layout) = api(header.api_key).and_then(|api| Layout::of_request(api, header)) {
            let (body, missing) = (behind_header(frame, header), missing_bytes(frame));
            let mut decoder = Decoder::checking(body, missing, &layout, self.redactor);
            decoder.write(&mut json, self.topics, false).fit(&layout);
            acks = decoder.acks;
        }
        let is_one_way = header.api_key == PRODUCE && acks == Some(0);
        (self.finish(json), is_one_way)
    }

    /// A response's body, by what was asked.
    pub(super) fn response(&mut self, frame: &[u8], asked: &Asked) -> Vec<u8> {
        let mut json = Maker::json();
        json.raw("{");
        let body = frame.get(LENGTH_BYTES + RESPONSE_HEAD_BYTES..).unwrap_or_default();
        let layout = api(asked.api_key).and_then(|api| Layout::of_response(api, asked, body));
        if let Some(layout) = layout {
            let learns = TELL_TOPICS.contains(&asked.api_key);
            let mut decoder = Decoder::checking(body, missing_bytes(frame), &layout, self.redactor);
            decoder.write(&mut json, self.topics, learns).fit(&layout);
        }
        self.finish(json)
    }
}

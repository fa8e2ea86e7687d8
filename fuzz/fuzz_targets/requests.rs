//! Fuzzes the codec of requests: a frame with any header and any body.
//!
//! A body that decodes must encode again, and the result must decode to the same request.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use ottla_protocol::frame::RequestHead;
use ottla_protocol::messages::by_api;

fuzz_target!(|frame: &[u8]| {
    let mut body = Bytes::copy_from_slice(frame);
    let Ok(head) = RequestHead::read(&mut body) else {
        return;
    };
    // An ApiVersions request in an unknown version is answered without reading its body.
    if head.is_unknown_version() {
        return;
    }
    let Ok(request) = by_api::read_request(head.api, head.version, &mut body) else {
        return;
    };
    let mut encoded = BytesMut::new();
    request
        .write(&mut encoded, head.version)
        .expect("a decoded request can be encoded");
    let mut encoded = encoded.freeze();
    let again = by_api::read_request(head.api, head.version, &mut encoded)
        .expect("an encoded request can be decoded");
    assert!(encoded.is_empty(), "all of it is read");
    // Compared as text, because a request may contain a NaN.
    assert_eq!(format!("{request:?}"), format!("{again:?}"));
});

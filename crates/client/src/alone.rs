//! One request on a stream of its own, with the context of its trace in the metadata.
//!
//! The shared stream of `mux` has one set of metadata for all its requests, and a context belongs to one. So
//! a request of a sampled trace takes a second stream on the same connection: request and answer travel at
//! once, and it counts among the requests in flight like any other.

use quorate_proto::convert::error::error_from_status;
use quorate_proto::v1;
use quorate_proto::v1::kv_client::KvClient;
use quorate_types::{ClusterId, Code, Error, limits};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::connection::of_status;
use crate::mux::{Room, Settled};
use crate::retry::End;

/// The header of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";

/// Sends a request and waits for its answer. `room` is held as long.
pub(crate) async fn ask(
    channel: Channel,
    address: &str,
    cluster: Option<ClusterId>,
    item: v1::PipelineItem,
    traceparent: &str,
    _room: Room,
) -> Settled {
    let cluster_id = cluster.map(|cluster| cluster.to_string()).unwrap_or_default();
    let id = item.id;
    let frame = v1::PipelineRequest { cluster_id, items: vec![item] };
    let mut request = Request::new(futures::stream::iter([frame]));
    if let Ok(value) = traceparent.parse() {
        request.metadata_mut().insert(TRACEPARENT, value);
    }
    let mut client =
        KvClient::new(channel).max_decoding_message_size(limits::WIRE_DECODE_BYTES_MAX);
    let lost = |status: Status| end_of(address, &status);
    let mut answers = client.pipeline(request).await.map_err(lost)?.into_inner();
    while let Some(frame) = answers.message().await.map_err(lost)? {
        if let Some(reply) = frame.items.into_iter().find(|reply| reply.id == id) {
            return Ok(reply);
        }
    }
    let message = format!("{address} ended the stream of a request without an answer");
    Err(End::Lost(Error::new(Code::Unreachable, message)))
}

/// What the end of such a stream means for the request on it.
fn end_of(address: &str, status: &Status) -> End {
    match error_from_status(status) {
        // A node of another cluster looks at no request before it has said so.
        Some(error) if error.code == Code::ClusterMismatch => End::Refused(error),
        Some(error) => End::Lost(error),
        None => End::Lost(of_status(status, |said| {
            format!("the stream of a request to {address} broke: {said}")
        })),
    }
}

//! What links do to streams.

use std::sync::Arc;

use futures::StreamExt;
use quorate_proto::v1;
use quorate_topology::presets::{Options, three_cities_five_idcs};
use quorate_types::ClusterId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;

fn links(text: &str) -> Result<FarLinks, Error> {
    let topology = Topology::parse(&three_cities_five_idcs(&Options::demo(ClusterId(7))));
    let links = Link::parse_all(text).expect("links");
    FarLinks::new(Arc::new(topology.expect("a preset is valid")), links)
}

fn frame(number: u64) -> Result<v1::TransferLeaderResponse, Status> {
    Ok(v1::TransferLeaderResponse { to_node: u32::try_from(number).expect("small") })
}

fn number(frame: Option<Result<v1::TransferLeaderResponse, Status>>) -> u32 {
    frame.expect("a frame").expect("no error").to_node
}

#[test]
fn the_way_between_two_ends_is_that_of_all_links_between_their_places() {
    // Goal: a city, an IDC and a node mean what they say, in one direction, for nodes and for clients.
    let far = links("sh>hz=3ms,sh-a>hz-b=5ms,n5>sh=cut").expect("places of the file");
    let way = |from: &End, to: &End| far.way(from, to);
    let node = |id: u32| far.node(NodeId(id));
    let ms = |ms| Way { delay: Duration::from_millis(ms), is_cut: false };
    assert_eq!(way(&node(1), &node(3)), ms(3));
    assert_eq!(way(&node(1), &node(4)), ms(5), "the longest counts");
    assert_eq!(way(&node(3), &node(1)), ms(0), "one direction");
    assert!(way(&node(5), &node(2)).is_cut);
    assert!(!way(&node(2), &node(5)).is_cut);
    assert_eq!(way(&far.client(Some("sh")), &node(3)), ms(3));
    assert_eq!(way(&far.client(Some("sh-a")), &node(4)), ms(5));
    assert_eq!(way(&far.client(None), &node(3)), ms(0), "who says nothing is nowhere");
    let unknown = links("sh>mars=3ms").expect_err("no such place");
    assert_eq!((unknown.code, unknown.facts["place"].as_str()), (Code::InvalidRequest, "mars"));
}

#[tokio::test]
async fn frames_keep_their_order_when_a_link_gets_shorter() {
    // Goal: nothing overtakes, and what is on its way outlives its sender.
    let far = Arc::new(links("sh>hz=50ms").expect("places of the file"));
    let (send, receive) = mpsc::unbounded_channel();
    let (from, to) = (far.node(NodeId(1)), far.node(NodeId(3)));
    let mut stream = OnLink::new(UnboundedReceiverStream::new(receive), Arc::clone(&far), from, to);
    let began = Instant::now();
    send.send(frame(1)).expect("open");
    assert!(futures::poll!(stream.next()).is_pending());
    far.set(Link::parse_all("sh>hz=1ms").expect("links")).expect("places");
    send.send(frame(2)).expect("open");
    drop(send);
    assert_eq!(number(stream.next().await), 1);
    let waited = began.elapsed();
    assert!(Duration::from_millis(50) <= waited, "{waited:?}");
    assert_eq!(number(stream.next().await), 2);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_cut_link_loses_frames_and_keeps_the_connection() {
    // Goal: what is sent into a cut is lost, what is sent after it arrives.
    let far = Arc::new(links("sh>hz=cut").expect("places of the file"));
    let (send, receive) = mpsc::unbounded_channel();
    let (from, to) = (far.node(NodeId(1)), far.node(NodeId(3)));
    let mut stream = OnLink::new(UnboundedReceiverStream::new(receive), Arc::clone(&far), from, to);
    send.send(frame(1)).expect("open");
    assert!(futures::poll!(stream.next()).is_pending());
    far.set(Vec::new()).expect("none");
    send.send(frame(2)).expect("open");
    assert_eq!(number(stream.next().await), 2);
}

#[tokio::test]
async fn a_full_link_slows_the_sender_down() {
    // Goal: however long a link is, a stream on it holds a bounded number of bytes.
    let far = Arc::new(links("sh>hz=100ms").expect("places of the file"));
    let (from, to) = (far.node(NodeId(1)), far.node(NodeId(3)));
    let sent = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let endless = futures::stream::repeat_with(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(v1::GetTopologyResponse { toml: "x".repeat(1024 * 1024), ..Default::default() })
    });
    let mut stream = OnLink::new(endless, far, from, to);
    assert!(futures::poll!(stream.next()).is_pending());
    let taken = sent.load(std::sync::atomic::Ordering::Relaxed);
    assert!((8..=9).contains(&taken), "{taken} frames of 1 MiB were taken");
    assert!(stream.next().await.is_some());
}

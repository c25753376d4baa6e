//! Backups in a bucket: a stand-in for S3, as much of it as is asked for.
#![allow(missing_docs, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use quorate_backup::{
    BackupError, BackupId, Books, Cluster, GroupWriter, Manifest, Place, list, publish, verify,
};
use quorate_store::{Portable, encode_page};
use quorate_types::{GroupId, LogTime, Slot};

/// The objects of the only bucket, by key.
type Bucket = Arc<Mutex<BTreeMap<String, Bytes>>>;

const MODIFIED: &str = "Fri, 02 Jan 2026 03:04:05 GMT";

async fn read(State(bucket): State<Bucket>, Path((_, key)): Path<(String, String)>) -> Response {
    match bucket.lock().expect("no panic").get(&key) {
        Some(bytes) => {
            let headers = [(header::ETAG, "\"1\""), (header::LAST_MODIFIED, MODIFIED)];
            (headers, bytes.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn write(
    State(bucket): State<Bucket>,
    Path((_, key)): Path<(String, String)>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response {
    let signed = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !signed.is_some_and(|value| value.contains("Credential=key-id/")) {
        return StatusCode::FORBIDDEN.into_response();
    }
    bucket.lock().expect("no panic").insert(key, bytes);
    [(header::ETAG, "\"1\"")].into_response()
}

async fn remove(
    State(bucket): State<Bucket>,
    Path((_, key)): Path<(String, String)>,
) -> StatusCode {
    bucket.lock().expect("no panic").remove(&key);
    StatusCode::NO_CONTENT
}

async fn names(
    State(bucket): State<Bucket>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> String {
    let prefix = asked.get("prefix").map(String::as_str).unwrap_or_default();
    let (mut contents, mut folders) = (String::new(), BTreeSet::new());
    for (key, bytes) in bucket.lock().expect("no panic").iter() {
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        match rest.split_once('/') {
            Some((folder, _)) if asked.contains_key("delimiter") => {
                folders.insert(format!("{prefix}{folder}/"));
            }
            Some(_) | None => contents.push_str(&format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>\
                 <ETag>1</ETag><Size>{}</Size></Contents>",
                bytes.len()
            )),
        }
    }
    let folder = |name| format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>");
    let folders: String = folders.into_iter().map(folder).collect();
    format!(
        "<ListBucketResult><IsTruncated>false</IsTruncated>{contents}{folders}</ListBucketResult>"
    )
}

/// Serves an empty bucket; says where.
async fn serve() -> (Bucket, String) {
    let bucket = Bucket::default();
    let routes = Router::new()
        .route("/{bucket}", get(names))
        .route("/{bucket}/", get(names))
        .route("/{bucket}/{*key}", get(read).put(write).delete(remove))
        .with_state(Arc::clone(&bucket));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (bucket, format!("http://{address}"))
}

fn place(text: &str, endpoint: &str) -> Place {
    let variables = [
        ("AWS_ENDPOINT", endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "eu-1"),
        ("AWS_ACCESS_KEY_ID", "key-id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("HOME", "/nowhere"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Place::open_with(text, variables).expect("it is a place")
}

fn row(uid: u64) -> Portable {
    let mut key = vec![0x10, 0, 3, 0, 1];
    key.extend(uid.to_be_bytes());
    key.extend(b"key");
    Portable { key: key.into(), value: vec![0, 0, 0, 0, 0, 0, 0, 9, 1, 7].into() }
}

#[tokio::test]
async fn a_bucket_keeps_backups_as_a_folder_does() {
    // Goal: what is written to an object store is found, checked and removed there, below its prefix only.
    let (bucket, endpoint) = serve().await;
    let (ours, others) = (place("s3://b/pay/daily/", &endpoint), place("s3://b/pay", &endpoint));
    assert!(list(&ours).await.expect("it answers").is_empty());
    let id = BackupId::new(SystemTime::now(), 7);
    let mut writer = GroupWriter::new(&ours, &id, GroupId(1)).with_small_objects(60);
    writer.write(encode_page(&[row(1), row(2), row(3)])).await.expect("it is kept");
    assert!(matches!(
        list(&ours).await.expect("it answers")[0].manifest,
        Err(BackupError::Unfinished { .. })
    ));
    let (part, _) = writer.finish("RZ00", Slot(9), LogTime(7)).await.expect("it is kept");
    assert_eq!(part.objects.len(), 3);
    let cluster = Cluster { id: "c".to_owned(), name: "n".to_owned(), file: String::new() };
    let manifest = Manifest::new(&id, cluster, 5, vec![part], &Books::default());
    publish(&ours, &id, &manifest).await.expect("it is kept");

    let found = list(&ours).await.expect("it answers");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].manifest.as_ref().expect("it is whole"), &manifest);
    assert!(list(&others).await.expect("it answers").is_empty(), "daily is no id");
    let (verified, damages) = verify(&ours, &id, |_| {}).await.expect("it answers");
    assert_eq!((verified.records, damages.len()), (3, 0));

    let key = format!("pay/daily/{id}/g1/000002.records");
    bucket.lock().expect("no panic").insert(key, Bytes::from_static(b"x"));
    let (_, damages) = verify(&ours, &id, |_| {}).await.expect("it answers");
    assert!(damages[0].to_string().contains("g1/000002.records"), "{damages:?}");

    ours.remove(&id).await.expect("it answers");
    assert!(bucket.lock().expect("no panic").is_empty());
    assert!(ours.how_to_remove(&id).contains("s3://b/pay/daily/"));
}

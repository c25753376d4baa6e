//! Backups in a folder: what is written is read back, and nothing that was changed passes.
#![allow(missing_docs, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use quorate_backup::{
    BackupError, BackupId, Cluster, GroupReader, GroupWriter, Manifest, Place, list, open, publish,
    verify,
};
use quorate_store::{Portable, encode_page};
use quorate_types::{GroupId, LogTime, Slot};

/// A row of slice 3, table 1, with bytes for a value.
fn row(uid: u64, value: &[u8]) -> Portable {
    let mut key = vec![0x10, 0, 3, 0, 1];
    key.extend(uid.to_be_bytes());
    key.extend(b"key");
    let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 9, 1];
    bytes.extend(value);
    Portable { key: key.into(), value: bytes.into() }
}

/// An account of slice 3 in ledger 840.
fn account(uid: u64, balance: i64) -> Portable {
    let mut key = vec![0x30, 0, 3];
    key.extend(uid.to_be_bytes());
    key.extend(840_u32.to_be_bytes());
    key.extend(1_u16.to_be_bytes());
    let mut bytes = vec![1];
    for number in [9, balance.cast_unsigned(), 5, 77] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.push(8); // It has a floor.
    bytes.extend((-100_i64).to_be_bytes());
    Portable { key: key.into(), value: bytes.into() }
}

fn records() -> Vec<Portable> {
    let rows = (0..6).map(|uid| row(uid, format!("value {uid}").as_bytes()));
    rows.chain([account(1, 50), account(2, -50)]).collect()
}

async fn made(place: &Place) -> (BackupId, Manifest) {
    let id = BackupId::new(SystemTime::now(), 7);
    let mut parts = Vec::new();
    let mut ledgers = quorate_backup::Books::default();
    for group in [GroupId(1), GroupId(2)] {
        let mut writer = GroupWriter::new(place, &id, group).with_small_objects(120);
        for page in records().chunks(3) {
            writer.write(encode_page(page)).await.expect("they are records");
        }
        let (part, books) =
            writer.finish("RZ00", Slot(9), LogTime(77)).await.expect("there is room");
        assert!(2 < part.objects.len(), "{part:?}");
        ledgers.join(&books);
        parts.push(part);
    }
    let cluster = Cluster { id: "c".to_owned(), name: "n".to_owned(), file: String::new() };
    let manifest = Manifest::new(&id, cluster, 5, parts, &ledgers);
    publish(place, &id, &manifest).await.expect("there is room");
    (id, manifest)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[tokio::test]
async fn what_is_written_is_read_back() {
    // Goal: every record of every group comes back in order, however it was cut into pages and objects, and
    // two backups of the same records have the same digests.
    let dir = tempfile::tempdir().unwrap();
    let place = Place::open(dir.path().to_str().unwrap()).unwrap();
    let (id, manifest) = made(&place).await;
    assert_eq!(open(&place, &id).await.unwrap(), manifest);
    for part in &manifest.groups {
        let mut reader = GroupReader::new(&place, &id, part);
        let mut found = Vec::new();
        while let Some(records) = reader.next().await.unwrap() {
            found.extend(records);
        }
        assert_eq!(found, records());
    }
    let (verified, damages) = verify(&place, &id, |_| {}).await.unwrap();
    assert!(damages.is_empty(), "{damages:?}");
    assert_eq!((verified.records, verified.bytes), (16, manifest.bytes()));
    let ledger = &manifest.ledgers[0];
    assert!(ledger.balances(), "{ledger:?}");
    assert_eq!((ledger.accounts, ledger.sum_of_positive, ledger.reserved), (4, 100, 20));

    let again = tempfile::tempdir().unwrap();
    let (_, other) = made(&Place::open(again.path().to_str().unwrap()).unwrap()).await;
    assert_eq!(other.sha256, manifest.sha256);
}

#[tokio::test]
async fn no_changed_byte_of_any_object_passes() {
    // Goal: whatever byte of whatever file changes, a check says so and names the file.
    let dir = tempfile::tempdir().unwrap();
    let place = Place::open(dir.path().to_str().unwrap()).unwrap();
    let (id, _) = made(&place).await;
    for path in files(dir.path()) {
        let whole = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(&path, changed).unwrap();
            let (_, damages) = verify(&place, &id, |_| {}).await.unwrap();
            let text = damages.iter().map(ToString::to_string).collect::<String>();
            let named = if name.starts_with("manifest") { "manifest" } else { name };
            assert!(text.contains(named), "byte {at} of {name}: {text}");
        }
        for wrong in [&whole[..whole.len() - 1], &[whole.as_slice(), b"x"].concat()] {
            std::fs::write(&path, wrong).unwrap();
            assert!(!verify(&place, &id, |_| {}).await.unwrap().1.is_empty(), "{name}");
        }
        std::fs::remove_file(&path).unwrap();
        let gone = verify(&place, &id, |_| {}).await;
        assert!(gone.is_err() || !gone.unwrap().1.is_empty(), "{name} is gone");
        std::fs::write(&path, whole).unwrap();
    }
    assert!(verify(&place, &id, |_| {}).await.unwrap().1.is_empty(), "all is back");
}

#[tokio::test]
async fn objects_of_another_backup_do_not_pass() {
    // Goal: a file that is whole, but stands in the wrong place, is no part of a backup.
    let dir = tempfile::tempdir().unwrap();
    let place = Place::open(dir.path().to_str().unwrap()).unwrap();
    let (id, manifest) = made(&place).await;
    let [first, second] = [0, 1]
        .map(|index| dir.path().join(id.as_str()).join(&manifest.groups[0].objects[index].name));
    let whole = std::fs::read(&first).unwrap();
    std::fs::copy(&second, &first).unwrap();
    let (_, damages) = verify(&place, &id, |_| {}).await.unwrap();
    assert_eq!(damages.len(), 1, "{damages:?}");
    std::fs::write(&first, whole).unwrap();
    assert!(verify(&place, &id, |_| {}).await.unwrap().1.is_empty());
}

#[tokio::test]
async fn what_was_never_finished_is_no_backup() {
    // Goal: without a manifest there is no backup, but the list shows what lies there.
    let dir = tempfile::tempdir().unwrap();
    let place = Place::open(dir.path().to_str().unwrap()).unwrap();
    let (whole, _) = made(&place).await;
    let broken = BackupId::new(SystemTime::now(), 8);
    let mut writer = GroupWriter::new(&place, &broken, GroupId(1)).with_small_objects(120);
    writer.write(encode_page(&records())).await.unwrap();
    drop(writer);
    std::fs::create_dir(dir.path().join("else")).unwrap();

    let error = open(&place, &broken).await.unwrap_err();
    assert!(matches!(error, BackupError::Unfinished { .. }), "{error}");
    let found = list(&place).await.unwrap();
    let ids: Vec<&BackupId> = found.iter().map(|it| &it.id).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert!(ids.contains(&&whole) && ids.contains(&&broken));
    assert!(found.iter().all(|it| (it.id == whole) == it.manifest.is_ok() && 0 < it.bytes));

    place.remove(&broken).await.unwrap();
    let error = open(&place, &broken).await.unwrap_err();
    assert!(matches!(error, BackupError::Missing { .. }), "{error}");
    assert_eq!(list(&place).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_page_that_no_group_could_send_is_refused() {
    // Goal: a node that sends sessions, or records twice, makes no backup.
    let dir = tempfile::tempdir().unwrap();
    let place = Place::open(dir.path().to_str().unwrap()).unwrap();
    let id = BackupId::new(SystemTime::now(), 7);
    let session = Portable { key: vec![0x20, 0, 0, 0, 0, 0, 0, 0, 4].into(), value: "x".into() };
    let twice = [row(1, b"a"), row(1, b"b")];
    for page in [encode_page(&[session]), encode_page(&twice), "x".into()] {
        let error = GroupWriter::new(&place, &id, GroupId(1)).write(page).await.unwrap_err();
        assert!(matches!(error, BackupError::Foreign { .. }), "{error}");
    }
}

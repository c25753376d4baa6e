//! Where backups are kept: a folder, or a bucket of an object store. One backup is one folder below it,
//! named by its id.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ClientOptions, ObjectStore, PutPayload, RetryConfig};

use crate::error::BackupError;

const FILE_SCHEME: &str = "file://";
const S3_SCHEME: &str = "s3://";
/// An object goes to a bucket or comes from it within this: 32 MiB over a slow line.
const OBJECT_TIMEOUT: Duration = Duration::from_secs(300);
/// A bucket that does not answer, or says that it is busy, is asked again for this long.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// Hexadecimal digits behind the time in an id.
const RANDOM_DIGITS: usize = 8;
/// Characters of the time in an id.
const TIME_CHARS: usize = "20260102T030405Z".len();

/// The id of a backup: its time, to the second, and a random number. Later ones are greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackupId(String);

impl BackupId {
    /// For a backup that begins at `now`; `random` tells those of one second apart.
    #[must_use]
    pub fn new(now: SystemTime, random: u32) -> BackupId {
        let time: String = time_text(now).chars().filter(|c| !matches!(c, '-' | ':')).collect();
        BackupId(format!("{time}-{random:08x}"))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When it was begun, as in a manifest.
    #[must_use]
    pub fn created(&self) -> String {
        let at = &self.0;
        let date = format!("{}-{}-{}", &at[..4], &at[4..6], &at[6..8]);
        format!("{date}T{}:{}:{}Z", &at[9..11], &at[11..13], &at[13..15])
    }
}

/// A time to the second, UTC: `2026-01-02T03:04:05Z`.
#[must_use]
pub fn time_text(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

impl FromStr for BackupId {
    type Err = BackupError;

    fn from_str(text: &str) -> Result<BackupId, BackupError> {
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let is_hex = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        let is_time = |time: &str| {
            time.len() == TIME_CHARS
                && time.is_ascii()
                && is_digits(&time[..8])
                && &time[8..9] == "T"
                && is_digits(&time[9..15])
                && time.ends_with('Z')
        };
        match text.split_once('-') {
            Some((time, random))
                if is_time(time) && random.len() == RANDOM_DIGITS && is_hex(random) =>
            {
                Ok(BackupId(text.to_owned()))
            }
            Some(_) | None => Err(BackupError::NoId(text.to_owned())),
        }
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A folder or a bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    /// What stands before the id of a backup in the bucket; empty for a folder.
    prefix: String,
    /// The folder, if it is one.
    folder: Option<PathBuf>,
    text: String,
}

impl Place {
    /// As [`Place::open`], for who writes: a folder is made if it is not there.
    ///
    /// # Errors
    /// `NoPlace`, or `Place` if the folder cannot be made.
    pub fn make(text: &str) -> Result<Place, BackupError> {
        if let Some(path) = folder_of(text)? {
            std::fs::create_dir_all(path).map_err(|error| no_folder("make", path, &error))?;
        }
        Place::open(text)
    }

    /// A folder by its path or as `file://PATH`, or `s3://BUCKET/PREFIX`, with keys, region and endpoint from
    /// the usual variables `AWS_*`. Nothing is asked of a bucket yet.
    ///
    /// # Errors
    /// `NoPlace`, or `Place` if the folder is not there.
    pub fn open(text: &str) -> Result<Place, BackupError> {
        let variables = std::env::vars_os();
        let texts = variables.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Place::open_with(text, texts)
    }

    /// As [`Place::open`], with these variables in place of those of the process.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub fn open_with(
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Place, BackupError> {
        let Some(path) = folder_of(text)? else {
            return Place::bucket(text, variables);
        };
        let folder = Path::new(path).canonicalize();
        let folder = folder.map_err(|error| no_folder("open", path, &error))?;
        let store = LocalFileSystem::new_with_prefix(&folder);
        let store = store.map_err(|error| no_folder("open", path, &error))?;
        let text = folder.display().to_string();
        Ok(Place { store: Arc::new(store), prefix: String::new(), folder: Some(folder), text })
    }

    fn bucket(
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Place, BackupError> {
        let rest = text.strip_prefix(S3_SCHEME).unwrap_or(text);
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(no_place(text, "the bucket is missing; write s3://BUCKET/PREFIX"));
        }
        // Variables may say otherwise.
        let client = ClientOptions::new().with_timeout(OBJECT_TIMEOUT);
        let retry =
            RetryConfig { max_retries: 4, retry_timeout: RETRY_TIMEOUT, ..Default::default() };
        let mut builder = AmazonS3Builder::new().with_client_options(client).with_retry(retry);
        for (name, value) in variables.into_iter().filter(|(name, _)| name.starts_with("AWS_")) {
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        let built = builder.with_bucket_name(bucket).build();
        let store = built.map_err(|error| no_place(text, error))?;
        let (prefix, text) = (prefix.trim_matches('/').to_owned(), text.to_owned());
        Ok(Place { store: Arc::new(store), prefix, folder: None, text })
    }

    /// How a backup here is removed by hand.
    #[must_use]
    pub fn how_to_remove(&self, id: &BackupId) -> String {
        match &self.folder {
            Some(folder) => format!("remove the folder {}", folder.join(id.as_str()).display()),
            None => format!("remove all objects below {}/{id}/", self.text.trim_end_matches('/')),
        }
    }

    /// Writes an object of a backup. When this returns it is durable.
    ///
    /// # Errors
    /// `Place`.
    pub async fn put(&self, id: &BackupId, name: &str, bytes: Bytes) -> Result<(), BackupError> {
        let failed = |reason: String| self.failed("write", &format!("{id}/{name}"), reason);
        let put = self.store.put(&self.path(id, name), PutPayload::from_bytes(bytes)).await;
        put.map_err(|error| failed(error.to_string()))?;
        let Some(folder) = &self.folder else { return Ok(()) };
        sync(folder, id, name).map_err(|error| failed(error.to_string()))
    }

    /// Reads an object of a backup; `None` if there is none.
    ///
    /// # Errors
    /// `Place`.
    pub async fn get(&self, id: &BackupId, name: &str) -> Result<Option<Bytes>, BackupError> {
        let failed = |reason: String| self.failed("read", &format!("{id}/{name}"), reason);
        match self.store.get(&self.path(id, name)).await {
            Ok(found) => found.bytes().await.map(Some).map_err(|error| failed(error.to_string())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// The backups here, the newest first, those that were never finished included. What else lies here is
    /// passed over.
    ///
    /// # Errors
    /// `Place`.
    pub async fn backups(&self) -> Result<Vec<BackupId>, BackupError> {
        let prefix = (!self.prefix.is_empty()).then(|| ObjectPath::from(self.prefix.as_str()));
        let listed = self.store.list_with_delimiter(prefix.as_ref()).await;
        let listed = listed.map_err(|error| self.failed("list", "backups", error.to_string()))?;
        let names = listed.common_prefixes.iter().filter_map(|path| path.filename());
        let mut ids: Vec<BackupId> = names.filter_map(|name| name.parse().ok()).collect();
        ids.sort_unstable_by(|one, other| other.cmp(one));
        Ok(ids)
    }

    /// Bytes of all objects of a backup.
    ///
    /// # Errors
    /// `Place`.
    pub async fn size(&self, id: &BackupId) -> Result<u64, BackupError> {
        let found = self.objects(id).await?;
        Ok(found.iter().map(|object| object.size).sum())
    }

    /// Removes all objects of a backup.
    ///
    /// # Errors
    /// `Place`; some may be removed then.
    pub async fn remove(&self, id: &BackupId) -> Result<(), BackupError> {
        for object in self.objects(id).await? {
            let name = object.location.to_string();
            let removed = self.store.delete(&object.location).await;
            removed.map_err(|error| self.failed("remove", &name, error.to_string()))?;
        }
        if let Some(folder) = &self.folder {
            // Empty folders are left over; nothing is lost if one stays.
            let _stays = std::fs::remove_dir_all(folder.join(id.as_str())).is_err();
        }
        Ok(())
    }

    async fn objects(&self, id: &BackupId) -> Result<Vec<object_store::ObjectMeta>, BackupError> {
        let prefix = self.path(id, "");
        let found = self.store.list(Some(&prefix)).try_collect().await;
        found.map_err(|error| self.failed("list", id.as_str(), error.to_string()))
    }

    fn path(&self, id: &BackupId, name: &str) -> ObjectPath {
        ObjectPath::from(format!("{}/{id}/{name}", self.prefix))
    }

    fn failed(&self, verb: &'static str, object: &str, reason: String) -> BackupError {
        BackupError::Place { verb, object: object.to_owned(), place: self.text.clone(), reason }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The path of a folder; `None` for a bucket.
fn folder_of(text: &str) -> Result<Option<&str>, BackupError> {
    if text.starts_with(S3_SCHEME) {
        return Ok(None);
    }
    match text.strip_prefix(FILE_SCHEME) {
        Some(path) if path.starts_with('/') => Ok(Some(path)),
        Some(_) => Err(no_place(text, "a path behind file:// begins with /")),
        None if text.contains("://") => {
            Err(no_place(text, "write a folder, file://PATH or s3://BUCKET/PREFIX"))
        }
        None if text.is_empty() => Err(no_place(text, "it is empty")),
        None => Ok(Some(text)),
    }
}

fn no_place(text: &str, reason: impl fmt::Display) -> BackupError {
    BackupError::NoPlace { place: text.to_owned(), reason: reason.to_string() }
}

fn no_folder(verb: &'static str, path: &str, error: &dyn fmt::Display) -> BackupError {
    let (object, place) = ("the folder".to_owned(), path.to_owned());
    BackupError::Place { verb, object, place, reason: error.to_string() }
}

/// Makes a file of a backup durable, and the names that lead to it.
fn sync(folder: &Path, id: &BackupId, name: &str) -> std::io::Result<()> {
    let backup = folder.join(id.as_str());
    let file = backup.join(name);
    File::open(&file)?.sync_all()?;
    for dir in file.ancestors().skip(1) {
        File::open(dir)?.sync_all()?;
        if dir == folder {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_lead_nowhere_else() {
        // Goal: an id is never a path, and the newest backup is the greatest id.
        let id = |seconds| BackupId::new(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), 7);
        assert_eq!(id(1_767_323_045).as_str(), "20260102T030405Z-00000007");
        assert_eq!(id(1_767_323_045).created(), "2026-01-02T03:04:05Z");
        assert!(id(1_767_323_045) < id(1_767_323_046));
        assert_eq!(id(5).as_str().parse::<BackupId>().unwrap(), id(5));
        for wrong in ["", "..", "20260102T030405Z", "20260102T030405Z-../../../x", "2026-00000007"]
        {
            assert!(wrong.parse::<BackupId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn places_are_folders_and_buckets() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        let url = format!("file://{}", below.display());
        let error = Place::open(&url).unwrap_err();
        assert!(matches!(error, BackupError::Place { .. }), "nobody makes what he reads: {error}");
        let place = Place::make(&url).unwrap();
        assert_eq!(place.to_string(), below.canonicalize().unwrap().display().to_string());
        for wrong in ["", "file://x", "ftp://h/x", "s3://", "s3:///x"] {
            let error = Place::open(wrong).unwrap_err();
            assert!(matches!(error, BackupError::NoPlace { .. }), "{wrong}: {error}");
        }
    }
}

//! Files that are read again while the server runs: certificates, callers, keys.
//!
//! Their content is compared every few seconds, as neither their times nor the kernel's notices are to be relied on: Kubernetes swaps
//! a link to a folder when a Secret changes. Half of a file may be good by itself, such as a list without its end, so what is new is used
//! when a second look finds the same. What can't be read or parsed changes nothing: the old value stays, and the log says why, once for
//! each reason. Nothing of the content is logged; what a parser says must not have any of it either.

use std::fmt::{self, Debug, Display};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often files are looked at.
pub const EVERY: Duration = Duration::from_secs(5);

/// How long after a look that found something new there is another one.
const SETTLED: Duration = Duration::from_secs(1);

/// The longest file that is read, in bytes.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// Makes a value of what the files hold, in their order.
type Parse<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync>;

/// A value that files hold, which follows them.
pub struct Reloader<T> {
    /// What it is, for the log, as in `the certificate of --tls-cert-file`.
    what: String,
    files: Vec<PathBuf>,
    parse: Parse<T>,
    /// What the value was made of.
    used: Vec<Vec<u8>>,
    /// What the last look found, where it was something new.
    seen: Option<Vec<Vec<u8>>>,
    /// Why it is no longer what the files hold.
    trouble: Option<String>,
    value: watch::Sender<Arc<T>>,
}

/// Why files are not used.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// One can't be read.
    #[error("{} can't be read: {error}", file.display())]
    Unreadable {
        /// Which one.
        file: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// One is too long.
    #[error("{} is longer than {MOST_BYTES} bytes", .0.display())]
    TooLong(PathBuf),
    /// What they hold is wrong.
    #[error("{0}")]
    Wrong(String),
}

/// What a look at the files found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// What is there is in use.
    Same,
    /// What is there is new, and is used if the next look finds it as well.
    New,
    /// There is a new value, which is in use now.
    Changed,
    /// What is there is of no use, for this reason; the old value stays.
    Kept(String),
}

/// What is there.
enum Found<T> {
    /// What is in use.
    Used,
    /// Something that the last look did not find.
    New,
    /// Something that the last look found, too.
    Value(T),
}

impl<T> Debug for Reloader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader")
            .field("what", &self.what)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T> Reloader<T> {
    /// Reads the files for the first time. What is wrong then is an error: there is nothing old to keep.
    pub async fn read<P, E>(what: impl Into<String>, files: Vec<PathBuf>, parse: P) -> Result<Self, ReloadError>
    where
        P: Fn(&[Vec<u8>]) -> Result<T, E> + Send + Sync + 'static,
        E: Display,
    {
        let parse: Parse<T> = Box::new(move |contents| parse(contents).map_err(|error| error.to_string()));
        let used = contents(&files).await?;
        let value = parse(&used).map_err(ReloadError::Wrong)?;
        Ok(Self {
            what: what.into(),
            files,
            parse,
            used,
            seen: None,
            trouble: None,
            value: watch::Sender::new(Arc::new(value)),
        })
    }

    /// The value of this moment: `borrow()` gives it, `changed()` waits for the next.
    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.value.subscribe()
    }

    /// Looks at the files once.
    pub async fn look(&mut self) -> Looked {
        match self.try_look().await {
            Ok(Found::New) => Looked::New,
            Ok(Found::Used) => {
                if let Some(why) = self.trouble.take() {
                    tracing::info!("{} is as its files have it again; it was not: {why}", self.what);
                }
                Looked::Same
            }
            Ok(Found::Value(value)) => {
                self.trouble = None;
                self.value.send_replace(Arc::new(value));
                tracing::info!("{} was read again, as its files have changed", self.what);
                Looked::Changed
            }
            Err(error) => {
                let why = error.to_string();
                if self.trouble.as_ref() != Some(&why) {
                    tracing::error!("{} stays as it was: {why}", self.what);
                    self.trouble = Some(why.clone());
                }
                Looked::Kept(why)
            }
        }
    }

    /// Looks every few seconds, for ever.
    pub async fn keep_looking(mut self) {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            while self.look().await == Looked::New {
                tokio::time::sleep(SETTLED).await;
            }
        }
    }

    async fn try_look(&mut self) -> Result<Found<T>, ReloadError> {
        let seen = self.seen.take();
        let found = contents(&self.files).await?;
        if found == self.used {
            return Ok(Found::Used);
        }
        if seen.as_ref() != Some(&found) {
            self.seen = Some(found);
            return Ok(Found::New);
        }
        // Where it is wrong, it is so as long as it stays.
        self.seen = seen;
        let value = (self.parse)(&found).map_err(ReloadError::Wrong)?;
        self.seen = None;
        self.used = found;
        Ok(Found::Value(value))
    }
}

async fn contents(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, ReloadError> {
    let mut contents = Vec::with_capacity(files.len());
    for file in files {
        contents.push(content(file).await?);
    }
    Ok(contents)
}

async fn content(file: &Path) -> Result<Vec<u8>, ReloadError> {
    let unreadable = |error| ReloadError::Unreadable {
        file: file.to_owned(),
        error,
    };
    let opened = File::open(file).await.map_err(unreadable)?;
    let mut content = Vec::new();
    let read = opened.take(MOST_BYTES + 1).read_to_end(&mut content).await;
    if read.map_err(unreadable)? as u64 > MOST_BYTES {
        return Err(ReloadError::TooLong(file.to_owned()));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn number(contents: &[Vec<u8>]) -> Result<i32, String> {
        let numbers = contents
            .iter()
            .map(|content| String::from_utf8_lossy(content).trim().parse::<i32>());
        numbers
            .sum::<Result<i32, _>>()
            .map_err(|_| "must be a number".to_owned())
    }

    #[tokio::test]
    async fn what_is_wrong_at_first_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("n");
        let read = || Reloader::read("the number", vec![file.clone()], number);
        let error = read().await.expect_err("no file").to_string();
        assert!(error.contains("can't be read") && error.contains("/n"), "{error}");
        fs::write(&file, "x").expect("written");
        assert_eq!(read().await.expect_err("no number").to_string(), "must be a number");
        fs::write(&file, vec![b'0'; 4 * 1024 * 1024 + 1]).expect("written");
        let error = read().await.expect_err("long").to_string();
        assert!(error.contains("is longer than 4194304 bytes"), "{error}");
    }

    #[tokio::test]
    async fn a_value_follows_its_files_and_stays_where_they_are_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = ["a", "b"].map(|name| folder.path().join(name));
        let write = |at: usize, text: &str| fs::write(&files[at], text).expect("written");
        write(0, "1");
        write(1, "2");
        let mut reloader = Reloader::read("the sum", files.to_vec(), number).await.expect("a sum");
        let value = reloader.subscribe();
        assert_eq!((reloader.look().await, **value.borrow()), (Looked::Same, 3));
        write(1, "5");
        assert_eq!((reloader.look().await, **value.borrow()), (Looked::New, 3));
        assert_eq!((reloader.look().await, **value.borrow()), (Looked::Changed, 6));
        assert_eq!((reloader.look().await, **value.borrow()), (Looked::Same, 6));
        let wrong = Looked::Kept("must be a number".to_owned());
        write(0, "x");
        assert_eq!((reloader.look().await, **value.borrow()), (Looked::New, 6));
        assert_eq!((reloader.look().await, **value.borrow()), (wrong.clone(), 6));
        assert_eq!((reloader.look().await, **value.borrow()), (wrong.clone(), 6));
        write(1, "7");
        assert_eq!((reloader.look().await, **value.borrow()), (Looked::New, 6));
        assert_eq!((reloader.look().await, **value.borrow()), (wrong, 6));
        // As it was, it is no news.
        write(0, "1");
        write(1, "5");
        assert_eq!((reloader.look().await, **value.borrow()), (Looked::Same, 6));
        fs::remove_file(&files[0]).expect("removed");
        assert!(matches!(reloader.look().await, Looked::Kept(why) if why.contains("can't be read")));
        write(0, "2");
        assert_eq!((reloader.look().await, **value.borrow()), (Looked::New, 6));
        assert_eq!((reloader.look().await, **value.borrow()), (Looked::Changed, 7));
    }

    /// What is written bit by bit is not used before it is there, although each bit is good by itself.
    #[tokio::test]
    async fn half_of_a_file_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("n");
        let write = |text: &str| fs::write(&file, text).expect("written");
        write("1");
        let mut reloader = Reloader::read("the number", vec![file.clone()], number)
            .await
            .expect("a number");
        let value = reloader.subscribe();
        for bit in ["2", "23", "234"] {
            write(bit);
            assert_eq!((reloader.look().await, **value.borrow()), (Looked::New, 1));
        }
        assert_eq!((reloader.look().await, **value.borrow()), (Looked::Changed, 234));
        // Nor is what was there for a moment, and came again.
        for text in ["5", "234", "5"] {
            write(text);
            reloader.look().await;
            assert_eq!(**value.borrow(), 234);
        }
    }

    /// A Secret is mounted so: the file is a link by way of `..data`, a link to a folder, which alone is replaced.
    #[tokio::test]
    async fn a_mounted_secret_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("v1", "1"), ("v2", "2")] {
            fs::create_dir(at(version)).expect("a folder");
            fs::write(at(version).join("n"), text).expect("written");
        }
        symlink("v1", at("..data")).expect("a link");
        symlink("..data/n", at("n")).expect("a link");
        let reloader = Reloader::read("the number", vec![at("n")], number)
            .await
            .expect("a number");
        let mut value = reloader.subscribe();
        symlink("v2", at("..next")).expect("a link");
        fs::rename(at("..next"), at("..data")).expect("replaced");
        let looking = tokio::spawn(reloader.keep_looking());
        value.changed().await.expect("a reloader");
        assert_eq!(**value.borrow(), 2);
        looking.abort();
    }
}

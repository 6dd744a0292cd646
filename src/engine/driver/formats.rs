//! Stores what is known of request formats as soon as it changes.
//!
//! The steps that follow a change wait until it is stored: after a crash between a refused format and the next one, the
//! refused one is not tried again.

use std::sync::Arc;

use tokio::sync::watch;

use crate::upstream::formats::{FormatStore, StoredFormats};

/// Stores what is known of request formats.
#[derive(Debug)]
pub(super) struct FormatWriter {
    /// What is known, with the number of the change.
    latest: watch::Sender<(u64, StoredFormats)>,
    /// The number of the change that is stored.
    saved: watch::Sender<u64>,
    store: Arc<dyn FormatStore>,
}

impl FormatWriter {
    pub(super) fn new(store: Arc<dyn FormatStore>) -> Self {
        Self { latest: watch::Sender::default(), saved: watch::Sender::default(), store }
    }

    /// Has a change stored. Does not wait.
    pub(super) fn save(&self, formats: StoredFormats) {
        self.latest.send_modify(|latest| *latest = (latest.0 + 1, formats));
    }

    /// Returns a future that completes once every change until now is stored, or could not be.
    pub(super) fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        let (number, mut saved) = (self.latest.borrow().0, self.saved.subscribe());
        async move {
            // The sender is gone only when the process ends.
            let _ = saved.wait_for(|&saved| saved >= number).await;
        }
    }

    /// Stores each change, and of several that come together the last. Runs forever.
    pub(super) async fn run(&self) {
        let mut latest = self.latest.subscribe();
        // A change that came before this waits too.
        latest.mark_changed();
        while latest.changed().await.is_ok() {
            let (number, formats) = latest.borrow_and_update().clone();
            if number == 0 {
                continue;
            }
            let store = Arc::clone(&self.store);
            let stored = tokio::task::spawn_blocking(move || store.save(&formats)).await;
            if let Ok(Err(error)) = stored {
                tracing::warn!(%error, "the known request formats are not stored; a restart learns them again");
            }
            self.saved.send_replace(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    #[derive(Debug, Default)]
    struct Counted(Mutex<u32>);

    impl FormatStore for Counted {
        fn save(&self, _: &StoredFormats) -> std::io::Result<()> {
            *self.0.lock().unwrap() += 1;
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_change_before_the_writer_runs_is_stored_and_nothing_else() {
        let store = Arc::new(Counted::default());
        let writer = FormatWriter::new(Arc::clone(&store) as Arc<_>);
        let settled = async |writer: &FormatWriter| {
            tokio::select! {
                () = writer.run() => {}
                settled = tokio::time::timeout(Duration::from_secs(5), async {
                    tokio::task::yield_now().await;
                    writer.settled().await;
                }) => settled.expect("steps wait for what is never stored"),
            }
        };
        settled(&writer).await;
        assert_eq!(*store.0.lock().unwrap(), 0, "nothing has changed");
        writer.save(StoredFormats::default());
        settled(&writer).await;
        assert_eq!(*store.0.lock().unwrap(), 1);
    }
}

//! How a task learns that the broker is stopping.

use tokio::sync::watch;

/// Completes when the stop has been asked for, or its owner is gone.
pub async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

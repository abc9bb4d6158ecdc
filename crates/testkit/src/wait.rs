//! Waiting for something to become true, with a limit.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// Asks again every 20 ms until `probe` is true.
///
/// # Errors
/// When it is not true within `limit`; the message names `what`.
pub async fn until(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    loop {
        if probe().await {
            return Ok(());
        }
        if Instant::now() >= end {
            bail!("waited {limit:?} in vain for: {what}");
        }
        sleep(Duration::from_millis(20)).await;
    }
}

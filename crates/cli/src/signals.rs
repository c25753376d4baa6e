//! Interrupts: the first SIGINT or SIGTERM asks a command to end in good order, the second ends the
//! process at once with exit code 130.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use quorate_types::Code;

use crate::exit::{Exit, Failure};

/// Hears interrupts from when it is made. Clones hear the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Interrupts {
    is_interrupted: watch::Receiver<bool>,
}

impl Interrupts {
    /// Starts to listen; from now on the signals do not end the process by themselves.
    ///
    /// # Errors
    /// If the system gives no signal handlers.
    pub(crate) fn listen() -> Result<Interrupts, Failure> {
        let refused = |error: std::io::Error| {
            Failure::new(Code::Internal, format!("cannot listen for signals: {error}"))
        };
        let interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
        let terminate = signal(SignalKind::terminate()).map_err(refused)?;
        let (sender, is_interrupted) = watch::channel(false);
        tokio::spawn(count(interrupt, terminate, sender));
        Ok(Interrupts { is_interrupted })
    }

    /// Whether the first signal has come.
    pub(crate) fn is_set(&self) -> bool {
        *self.is_interrupted.borrow()
    }

    /// Waits for the first signal.
    pub(crate) async fn first(&self) {
        let mut receiver = self.is_interrupted.clone();
        if receiver.wait_for(|is_set| *is_set).await.is_err() {
            // The listener is gone with its runtime; nothing will come any more.
            std::future::pending::<()>().await;
        }
    }
}

async fn count(mut interrupt: Signal, mut terminate: Signal, first: watch::Sender<bool>) {
    wait(&mut interrupt, &mut terminate).await;
    first.send_replace(true);
    wait(&mut interrupt, &mut terminate).await;
    std::process::exit(i32::from(Exit::Interrupted.number()));
}

async fn wait(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

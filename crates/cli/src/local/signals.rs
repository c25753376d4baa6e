//! Signals to the demo. The first SIGINT, SIGTERM or SIGHUP asks it to end in good order. The second
//! kills the nodes and ends it at once, because a process that exits drops nothing.

use quorate_types::Code;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::process::kill_all;
use crate::exit::{Exit, Failure};

/// Hears signals from when it is made.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    is_asked: watch::Receiver<bool>,
}

impl Stop {
    /// Starts to listen; from now on the signals do not end the process by themselves.
    ///
    /// # Errors
    /// If the system gives no signal handlers.
    pub(crate) fn listen() -> Result<Stop, Failure> {
        let listen = |kind: SignalKind| {
            signal(kind).map_err(|error| {
                Failure::new(Code::Internal, format!("cannot listen for signals: {error}"))
            })
        };
        let signals = [
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ];
        let (sender, is_asked) = watch::channel(false);
        tokio::spawn(hear(signals, sender));
        Ok(Stop { is_asked })
    }

    /// Waits for the first signal.
    pub(crate) async fn asked(&self) {
        let mut receiver = self.is_asked.clone();
        if receiver.wait_for(|is_asked| *is_asked).await.is_err() {
            // The listener is gone with its runtime; nothing will come any more.
            std::future::pending::<()>().await;
        }
    }
}

async fn hear(mut signals: [Signal; 3], first: watch::Sender<bool>) {
    any(&mut signals).await;
    first.send_replace(true);
    any(&mut signals).await;
    kill_all();
    std::process::exit(i32::from(Exit::Interrupted.number()));
}

async fn any([interrupt, terminate, hangup]: &mut [Signal; 3]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

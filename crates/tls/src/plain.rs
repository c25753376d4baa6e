//! A caller that speaks plain text to a port with TLS is told so, in the protocol it speaks. Otherwise
//! its error would be about a malformed frame.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The first byte of every TLS connection: a handshake record.
const HANDSHAKE: u8 = 0x16;
/// What we say to HTTP/2, and recognise. In letters that no escape changes.
const WORDS: &[u8] = b"QUORATE_TLS_MISMATCH this port speaks TLS";
/// What we say to anything else.
const HTTP_1: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-length: 22\r\nconnection: close\r\n\r\n\
    this port speaks TLS\r\n";
/// `PRI * HTTP/2.0` and what follows.
const PREFACE_BYTES: usize = 24;
/// The type of the frame that begins a request, how many frames are waited for it, and how long.
const HEADERS: u8 = 1;
const FRAMES_HEARD_MAX: usize = 16;
const HEARING: Duration = Duration::from_millis(500);
/// How long a caller may take to hear us out, and how much of its own words is heard meanwhile.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: u64 = 64 * 1024;

/// True if this text of an error, of whatever layer, says that the other side wants TLS.
#[must_use]
pub fn is_refusal_of_plain_text(text: &str) -> bool {
    text.contains("QUORATE_TLS_MISMATCH")
}

/// Looks at the first byte and turns away who speaks no TLS. True if that was so.
pub(crate) async fn refuse(connection: &mut TcpStream) -> bool {
    let mut first = [0];
    match connection.peek(&mut first).await {
        Ok(1) if first[0] != HANDSHAKE => {}
        // Nothing came, or TLS; the handshake has its own errors.
        Ok(_) | Err(_) => return false,
    }
    let words = match first[0] {
        b'P' => {
            // Said before there is a request, a client would drop our words with the connection.
            let heard = hear_request(connection);
            let _said_nothing_more = tokio::time::timeout(HEARING, heard).await.is_err();
            farewell()
        }
        _ => HTTP_1.to_vec(),
    };
    let saying = async {
        connection.write_all(&words).await?;
        connection.shutdown().await?;
        // What nobody reads would make the system reset the connection before our words arrive.
        let mut rest = connection.take(FAREWELL_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    let _caller_may_have_left = tokio::time::timeout(FAREWELL, saying).await;
    true
}

/// Reads until a request begins: the preface, then frames up to one of type HEADERS.
async fn hear_request(connection: &mut TcpStream) -> std::io::Result<()> {
    let mut preface = [0; PREFACE_BYTES];
    connection.read_exact(&mut preface).await?;
    for _ in 0..FRAMES_HEARD_MAX {
        let mut head = [0; 9];
        connection.read_exact(&mut head).await?;
        let length = u64::from(u32::from_be_bytes([0, head[0], head[1], head[2]]));
        let mut body = connection.take(length.min(FAREWELL_BYTES));
        tokio::io::copy(&mut body, &mut tokio::io::sink()).await?;
        if head[3] == HEADERS {
            break;
        }
    }
    Ok(())
}

/// Frames of HTTP/2: SETTINGS, which must come first, and GOAWAY with INADEQUATE_SECURITY.
fn farewell() -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    let length = u8::try_from(8 + WORDS.len()).expect("a short text");
    bytes.extend([0, 0, length, 7, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, 0, 0]); // No stream was opened.
    bytes.extend([0, 0, 0, 12]); // INADEQUATE_SECURITY
    bytes.extend(WORDS);
    bytes
}

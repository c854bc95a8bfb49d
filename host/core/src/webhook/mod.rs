//! Webhooks: what is told to people at once, wherever they are: in a chat, by a pager.
//!
//! An [`Event`] is read from an entry of the ledger and from nothing else, so that none is lost with a process, and whoever reads the same
//! ledger comes to the same events. Only [whose](Whose) an agent, a run or a budget is, whoever sends it looks up. It has names of the operator's configuration, ids, amounts and words of this host: no value of a
//! call, which entries have not either. A [`Format`] says how a message about it reads; [`Standard Webhooks`](STANDARD) say how one is
//! signed and known again. What is sent where is the runtime's.

mod event;
#[cfg(test)]
mod tests;
mod wait;

pub use event::{About, Event, EventType, Whose, may_tell};
pub use wait::{LONGEST_WAIT_MS, Wait, wait};

use data_encoding::{BASE32_NOPAD, BASE64};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::guard;
use crate::ledger::body::Message;
use crate::ledger::utc;

/// The specification by which messages are signed, and known again by their receivers.
pub const STANDARD: &str = "https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md";
/// What a signing secret begins with.
pub const SECRET_PREFIX: &str = "whsec_";
/// How long a signing key is, in bytes.
pub const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// What an id of a message begins with.
const ID_PREFIX: &str = "msg_";
/// The longest text for people, in characters: what a chat takes in one message.
const LONGEST_TEXT: usize = 3_000;

/// How a message reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `{ "type", "timestamp", "data" }`: for programs.
    #[default]
    Standard,
    /// `{ "text" }`: for incoming webhooks of Slack, and of others that take the same.
    Slack,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Standard, Self::Slack];

    /// The word that the configuration has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Slack => "slack",
        }
    }

    /// The body of a message about an event of this ledger, as JSON.
    #[must_use]
    pub fn body(self, ledger: &str, event: &Event) -> String {
        match self {
            Self::Standard => standard(event.kind.as_str(), &utc(event.time_ms), event.data(ledger)),
            Self::Slack => json!({ "text": escaped(&cut(&event.text())) }).to_string(),
        }
    }

    /// The body of a message that says nothing but that messages arrive.
    #[must_use]
    pub fn test_body(self, ledger: &str, time_ms: i64) -> String {
        match self {
            Self::Standard => standard(
                TEST,
                &utc(time_ms),
                Map::from_iter([("ledger".to_owned(), json!(ledger))]),
            ),
            Self::Slack => {
                json!({ "text": escaped(&format!("Ambit: a test of {ledger}'s webhook. Nothing happened.")) })
                    .to_string()
            }
        }
    }
}

/// The type of a message that only shows that messages arrive.
pub const TEST: &str = "test";

fn standard(kind: &str, timestamp: &str, data: Map<String, Value>) -> String {
    #[derive(Serialize)]
    struct Body<'b> {
        r#type: &'b str,
        timestamp: &'b str,
        data: Map<String, Value>,
    }
    let body = Body {
        r#type: kind,
        timestamp,
        data,
    };
    // Maps of strings and numbers: there is nothing in it that cannot be written.
    serde_json::to_string(&body).unwrap_or_default()
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

/// Slack reads what stands between `<` and `>` as a mention or a link: a name must be neither.
fn escaped(text: &str) -> String {
    let plain = !text.contains(['&', '<', '>']);
    if guard!("webhook.slack-text", plain) {
        return text.to_owned();
    }
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The message of a webhook about an event. Its id is the same whenever it is sent, also by another process, and another for each webhook:
/// its receiver knows a repeated one by it.
#[must_use]
pub fn message(ledger: &str, webhook: &str, event: &Event) -> Message {
    let index = event.index.to_be_bytes();
    let (kind, subject) = (event.kind.as_str(), event.subject.as_bytes());
    let parts = [ledger.as_bytes(), webhook.as_bytes(), &index, kind.as_bytes(), subject];
    let digest = Digest::domain("ambit/webhook/v1", &parts);
    let half = digest.as_bytes().first_chunk::<16>().copied().unwrap_or_default();
    Message {
        event: event.kind,
        id: format!("{ID_PREFIX}{}", BASE32_NOPAD.encode(&half).to_ascii_lowercase()),
        index: event.index,
        webhook: webhook.to_owned(),
    }
}

/// What is signed: the id, the moment in seconds since 1970, and the body, as they are sent.
#[must_use]
pub fn signed(id: &str, time_s: u64, body: &str) -> String {
    format!("{id}.{time_s}.{body}")
}

/// The bytes of a signing key from its text: [`SECRET_PREFIX`] and base64, of 24 to 64 bytes.
///
/// # Errors
/// One clause, without the text.
pub fn signing_key(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("is no signing secret: `{SECRET_PREFIX}` and base64");
    let encoded = text.strip_prefix(SECRET_PREFIX).ok_or_else(wrong)?;
    let key = BASE64.decode(encoded.as_bytes()).map_err(|_| wrong())?;
    if !guard!("webhook.key-length", KEY_BYTES.contains(&key.len())) {
        let (least, most) = (KEY_BYTES.start(), KEY_BYTES.end());
        return Err(format!(
            "has {} bytes, and a signing secret {least} to {most}",
            key.len()
        ));
    }
    Ok(key)
}

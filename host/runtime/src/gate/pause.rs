//! A service that says "later" is left alone until then.

use std::time::{Duration, Instant, SystemTime};

use ambit_core::error::{Code, Refusal};
use ambit_core::guard;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;

/// Longest time a service's word is taken for, so that one answer cannot close a connection for good.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Until when a connection rests.
#[derive(Debug, Default)]
pub(super) struct Pause(Mutex<Option<Instant>>);

impl Pause {
    /// # Errors
    /// [`Code::Rate`]: the service asked to be left alone, and for how much longer.
    pub(super) fn check(&self, connection: &str) -> Result<(), Refusal> {
        let until = *self.0.lock();
        let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        if guard!("gate.retry-after", left.is_zero()) {
            return Ok(());
        }
        let seconds = left.as_secs().saturating_add(1);
        Err(Refusal::new(
            Code::Rate,
            format!("connection `{connection}` asked not to be called for another {seconds} s"),
        )
        .advise("call again after that time; nothing was sent"))
    }

    /// Takes note of an answer, 429 or 503 with `Retry-After`, whatever its body is. How long the service asked for.
    pub(super) fn note(&self, status: StatusCode, later: Option<&HeaderValue>) -> Option<Duration> {
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return None;
        }
        let asked = duration(later?.to_str().ok()?, SystemTime::now())?.min(LONGEST_PAUSE);
        self.rest(asked);
        Some(asked)
    }

    /// Rests for so long from now on, or longer if it does already.
    pub(super) fn rest(&self, asked: Duration) {
        let until = Instant::now().checked_add(asked.min(LONGEST_PAUSE));
        let mut noted = self.0.lock();
        *noted = (*noted).max(until);
    }
}

/// `Retry-After` is a number of seconds or a date.
fn duration(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit is still "much later".
        return (!text.is_empty()).then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, retry_after: &str, expected: Option<&str>) {
        let pause = Pause::default();
        let later = retry_after.parse().unwrap();
        pause.note(StatusCode::from_u16(status).unwrap(), Some(&later));
        let refusal = pause.check("stripe").err().map(|refusal| refusal.message);
        let expected =
            expected.map(|seconds| format!("connection `stripe` asked not to be called for another {seconds} s"));
        assert_eq!(refusal, expected, "{status} {retry_after}");
    }

    #[test]
    fn a_service_is_left_alone_as_long_as_it_asks_and_no_longer_than_an_hour() {
        check(429, "30", Some("30"));
        check(503, "30", Some("30"));
        check(200, "30", None);
        check(429, "0", None);
        check(429, "soon", None);
        check(429, "", None);
        check(429, "999999999999999999999999", Some("3600"));
        check(429, "Fri, 31 Dec 9999 23:59:59 GMT", Some("3600"));
        check(429, "Sun, 06 Nov 1994 08:49:37 GMT", None);
    }

    #[test]
    fn a_later_answer_does_not_shorten_the_pause() {
        let pause = Pause::default();
        for seconds in ["100", "1"] {
            pause.note(StatusCode::TOO_MANY_REQUESTS, Some(&seconds.parse().unwrap()));
        }
        assert!(pause.check("stripe").unwrap_err().message.contains("100 s"));
    }
}

//! An issuer's keys: fetched when they are needed, kept for as long as they may be, and fetched again when it signs with a new one.
//!
//! A fetch is no request's. Whoever needs one waits for it and may stop waiting, and it goes on: who shows a token and closes its
//! connection must not be able to have the answer thrown away, as the next fetch is not before [`BETWEEN_MS`] later.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ambit_core::error::printable;
use ambit_core::guard;
use ambit_core::identity::claims::Issuer;
use ambit_core::identity::jwk::{KeySet, LARGEST_SET, PublicKey};
use ambit_core::identity::token::Algorithm;
use ambit_core::identity::why::{Denied, Why};
use ambit_core::json::{Json, Limits};
use ambit_runtime::config::{IssuerConfig, KeysAt};
use ambit_runtime::gate::{Bounds, Sent, split_url};
use ambit_runtime::host::Host;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Keys are kept this long at least, whatever their document says.
const SHORTEST_MS: u64 = 60_000;
/// And this long at most, until they are fetched again.
const LONGEST_MS: u64 = 24 * 3_600_000;
/// And this long where the document says nothing.
const USUAL_MS: u64 = 3_600_000;
/// Between two attempts to fetch, whatever tokens come: made-up names of keys must not make this host press its issuer.
pub(super) const BETWEEN_MS: u64 = 30_000;
/// For how long old keys are used while newer ones cannot be had.
const KEPT_MS: u64 = 12 * 3_600_000;
/// How long a fetch takes at most, each document.
const PATIENCE: Duration = Duration::from_secs(5);

/// A moment, by two clocks: one that is never set and stands still while the machine sleeps, and one that does not and is set.
#[derive(Clone, Copy, Debug)]
struct Moment {
    running: Instant,
    wall: SystemTime,
}

impl Moment {
    fn now() -> Moment {
        Moment {
            running: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// How long ago `earlier` was, in milliseconds, by the clock that says more: what was kept over a night is not fresh.
    fn since(self, earlier: Moment) -> u64 {
        let running = self.running.saturating_duration_since(earlier.running);
        // A clock that was set back says nothing.
        let wall = self.wall.duration_since(earlier.wall).unwrap_or_default();
        u64::try_from(running.max(wall).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Keys with their times.
#[derive(Clone, Debug)]
struct Cached {
    keys: Arc<KeySet>,
    /// [`BETWEEN_MS`], but in tests.
    between: u64,
    /// When they were fetched, and for how many milliseconds they are as good as that; none where they never were.
    fetched: Option<(Moment, u64)>,
    /// When it was last tried to fetch them.
    tried: Option<Moment>,
    /// Closed once the last fetch is over, however it ended.
    under_way: Option<watch::Receiver<()>>,
}

/// What to do for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// What is kept is good.
    Use,
    /// Fetch first, and then see.
    Fetch,
    /// Nothing can be said about the token now.
    Refuse,
}

impl Cached {
    /// What to do at `now` for a token whose key is among those that are kept, or is not.
    fn plan(&self, now: Moment, known: bool) -> Plan {
        let tried = self.tried.map(|tried| now.since(tried));
        let may_fetch = guard!("identity.fetch-rate", tried.is_none_or(|ago| ago >= self.between));
        let Some((at, good)) = self.fetched else {
            return if may_fetch { Plan::Fetch } else { Plan::Refuse };
        };
        if known && now.since(at) < good {
            return Plan::Use;
        }
        if may_fetch {
            return Plan::Fetch;
        }
        // A key that is not there is refused by whoever looks for it.
        if self.usable(now) { Plan::Use } else { Plan::Refuse }
    }

    /// Whether what is kept may be used, if nothing newer can be had.
    fn usable(&self, now: Moment) -> bool {
        let kept = |(at, good): (Moment, u64)| now.since(at) < good.saturating_add(KEPT_MS);
        guard!("identity.keys-kept", self.fetched.is_some_and(kept))
    }

    /// The fetch that is under way.
    fn under_way(&self) -> Option<watch::Receiver<()>> {
        self.under_way
            .as_ref()
            .filter(|under_way| under_way.has_changed().is_ok())
            .cloned()
    }
}

/// One issuer, with its keys. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Provider(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    host: Host,
    config: IssuerConfig,
    /// One with what is the same issuer in an earlier reading of the configuration.
    cached: Arc<Mutex<Cached>>,
}

impl Provider {
    /// One for each of these issuers. Of `before`, those of an earlier reading, keys are kept of issuers of which the configuration says
    /// the same. `between` is how long it waits between two attempts to fetch keys, in milliseconds: [`BETWEEN_MS`], but in tests.
    pub(super) fn all(before: &[Provider], host: &Host, issuers: &[IssuerConfig], between: u64) -> Vec<Provider> {
        let one = |config: &IssuerConfig| {
            let same = before.iter().find(|known| known.0.config == *config);
            let none = || {
                Arc::new(Mutex::new(Cached {
                    keys: Arc::default(),
                    between,
                    fetched: None,
                    tried: None,
                    under_way: None,
                }))
            };
            Provider(Arc::new(Inner {
                host: host.clone(),
                config: config.clone(),
                cached: same.map_or_else(none, |same| Arc::clone(&same.0.cached)),
            }))
        };
        issuers.iter().map(one).collect()
    }

    pub(super) fn rules(&self) -> &Issuer {
        &self.0.config.rules
    }

    /// The issuer's key that a token was signed with, as it says.
    ///
    /// # Errors
    /// [`Why::UnknownKey`], also of the newest keys that can be had; [`Why::Unavailable`] where there are none.
    pub(super) async fn key(&self, algorithm: Algorithm, kid: Option<&str>) -> Result<PublicKey, Denied> {
        if let Some(mut fetch) = self.needed_fetch(algorithm, kid) {
            // Nothing is ever sent: it closes.
            while fetch.changed().await.is_ok() {}
        }
        // What was tried just now is not tried again: it counts what there is.
        let cached = self.0.cached.lock().clone();
        if !cached.usable(Moment::now()) {
            return Err(Denied::new(
                Why::Unavailable,
                "the keys of the token's issuer cannot be had now",
            ));
        }
        cached.keys.find(algorithm, kid).cloned()
    }

    /// The fetch that there is to wait for: whoever comes first begins it, for all who come while it is under way.
    fn needed_fetch(&self, algorithm: Algorithm, kid: Option<&str>) -> Option<watch::Receiver<()>> {
        let mut cached = self.0.cached.lock();
        let known = cached.keys.find(algorithm, kid).is_ok();
        let plan = cached.plan(Moment::now(), known);
        if known && plan == Plan::Use {
            return None;
        }
        if let Some(under_way) = cached.under_way() {
            return Some(under_way);
        }
        if plan != Plan::Fetch {
            return None;
        }
        cached.tried = Some(Moment::now());
        let (ends, under_way) = watch::channel(());
        cached.under_way = Some(under_way.clone());
        drop(cached);
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let _ends = ends;
            inner.fetch().await;
        });
        Some(under_way)
    }
}

impl Inner {
    /// Fetches the keys and keeps them. Where that fails the old ones stay.
    async fn fetch(&self) {
        let issuer = &self.config.rules.name;
        match self.fetched().await {
            Ok((keys, good_ms)) => {
                let mut cached = self.cached.lock();
                if *cached.keys != keys {
                    tracing::info!(%issuer, keys = keys.len(), "other keys of an issuer");
                }
                cached.keys = Arc::new(keys);
                cached.fetched = Some((Moment::now(), good_ms));
            }
            Err(why) => tracing::warn!(%issuer, %why, "the keys of an issuer cannot be had"),
        }
    }

    async fn fetched(&self) -> Result<(KeySet, u64), String> {
        let url = match &self.config.keys {
            KeysAt::Url(url) => url.clone(),
            KeysAt::Discovery(urls) => self.discovered(urls).await?,
        };
        let sent = self.read(&url).await?;
        if sent.status != 200 {
            return Err(format!("their document was answered with {}", sent.status));
        }
        let keys = KeySet::parse(&sent.body).map_err(|why| format!("their document {why}"))?;
        // Nothing that verifies is no word of the issuer that nothing does any more.
        if !guard!("identity.keys-some", !keys.is_empty()) {
            return Err("their document has no key for signatures of tokens".to_owned());
        }
        Ok((keys, age_ms(&sent)))
    }

    /// Where the issuer says that its keys are.
    async fn discovered(&self, urls: &[String; 2]) -> Result<String, String> {
        let [openid, oauth] = urls;
        let mut sent = self.read(openid).await?;
        if sent.status == 404 {
            sent = self.read(oauth).await?;
        }
        if sent.status != 200 {
            return Err(format!(
                "what the issuer says of itself was answered with {}",
                sent.status
            ));
        }
        let limits = Limits {
            depth: 16,
            bytes: LARGEST_SET,
        };
        let text = std::str::from_utf8(&sent.body).map_err(|_| "what the issuer says of itself is not UTF-8")?;
        let document = Json::parse(text, limits)
            .map_err(|error| format!("what the issuer says of itself is not JSON: {error}"))?;
        let own = &self.config.rules.issuer;
        let said = document.get("issuer").and_then(Json::as_str);
        if !guard!("identity.discovered-issuer", said == Some(own)) {
            return Err("what was found there is of another issuer".to_owned());
        }
        let url = document.get("jwks_uri").and_then(Json::as_str);
        let url = url.ok_or("the issuer does not say where its keys are")?;
        // An issuer sends this host to itself, and to no other place: an operator can, with `jwks`.
        let same = split_url(url).is_ok_and(|(there, _)| split_url(own).is_ok_and(|(here, _)| here == there));
        if !guard!("identity.discovered-origin", same) {
            return Err(format!(
                "the issuer's keys are elsewhere, at {}: if that is right, set `jwks` to it",
                printable(url)
            ));
        }
        Ok(url.to_owned())
    }

    async fn read(&self, url: &str) -> Result<Sent, String> {
        let document = self.config.document(url)?;
        let bounds = Bounds {
            time: PATIENCE,
            answer_bytes: LARGEST_SET,
        };
        self.host.read_document(document, bounds).await
    }
}

/// For how long an answer may be kept, within what is sensible.
fn age_ms(sent: &Sent) -> u64 {
    let words = sent
        .headers
        .iter()
        .filter(|(name, _)| name == "cache-control")
        .flat_map(|(_, value)| value.split(','))
        .map(|word| word.trim().to_ascii_lowercase());
    let mut age = USUAL_MS;
    for word in words {
        if word == "no-store" || word == "no-cache" {
            return SHORTEST_MS;
        }
        if let Some(seconds) = word.strip_prefix("max-age=") {
            // What is no number is not kept for long.
            age = seconds.parse::<u64>().unwrap_or_default().saturating_mul(1_000);
        }
    }
    age.clamp(SHORTEST_MS, LONGEST_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    /// A clock of a test, in milliseconds.
    struct Clock(Moment);

    impl Clock {
        fn at(&self, ms: u64) -> Moment {
            let ms = Duration::from_millis(ms);
            Moment {
                running: self.0.running + ms,
                wall: self.0.wall + ms,
            }
        }

        fn cached(&self, fetched: Option<u64>, tried: Option<u64>) -> Cached {
            Cached {
                keys: Arc::default(),
                between: BETWEEN_MS,
                fetched: fetched.map(|at| (self.at(at), HOUR)),
                tried: tried.map(|at| self.at(at)),
                under_way: None,
            }
        }
    }

    #[test]
    fn keys_are_fetched_when_needed_and_not_more_often_than_that() {
        let clock = Clock(Moment::now());
        // Never fetched.
        assert_eq!(clock.cached(None, None).plan(clock.at(0), false), Plan::Fetch);
        assert_eq!(clock.cached(None, Some(0)).plan(clock.at(29_999), false), Plan::Refuse);
        assert_eq!(clock.cached(None, Some(0)).plan(clock.at(30_000), false), Plan::Fetch);
        // Fresh: a known key is used, an unknown one asked for, but not each time.
        let fresh = clock.cached(Some(0), Some(0));
        assert_eq!(fresh.plan(clock.at(HOUR - 1), true), Plan::Use);
        assert_eq!(fresh.plan(clock.at(29_999), false), Plan::Use);
        assert_eq!(fresh.plan(clock.at(30_000), false), Plan::Fetch);
    }

    #[test]
    fn old_keys_are_used_for_a_bounded_time() {
        let clock = Clock(Moment::now());
        let at = |now: u64| clock.cached(Some(0), Some(now - 1)).plan(clock.at(now), true);
        assert_eq!(clock.cached(Some(0), Some(0)).plan(clock.at(HOUR), true), Plan::Fetch);
        assert_eq!(at(HOUR), Plan::Use);
        assert_eq!(at(13 * HOUR - 1), Plan::Use);
        assert_eq!(at(13 * HOUR), Plan::Refuse);
    }

    #[test]
    fn time_goes_on_while_the_machine_sleeps_and_not_back_where_its_clock_is_set() {
        let clock = Clock(Moment::now());
        let slept = Moment {
            running: clock.0.running,
            ..clock.at(HOUR)
        };
        assert_eq!(clock.cached(Some(0), Some(0)).plan(slept, true), Plan::Fetch);
        let set_back = Moment {
            wall: clock.0.wall - Duration::from_secs(3_600),
            ..clock.at(HOUR)
        };
        assert_eq!(clock.cached(Some(0), Some(0)).plan(set_back, true), Plan::Fetch);
    }

    #[test]
    fn an_answer_is_kept_within_what_is_sensible() {
        let age = |value: &str| {
            age_ms(&Sent {
                status: 200,
                headers: vec![("cache-control".into(), value.into())],
                body: Vec::new().into(),
                later: None,
                traffic: Default::default(),
            })
        };
        for (value, expected) in [
            ("", USUAL_MS),
            ("public", USUAL_MS),
            ("public, max-age=600", 600_000),
            ("Max-Age=600", 600_000),
            ("max-age=1", SHORTEST_MS),
            ("max-age=0, must-revalidate", SHORTEST_MS),
            ("max-age=99999999999999999999", SHORTEST_MS),
            ("max-age=999999999", LONGEST_MS),
            ("max-age=600, no-store", SHORTEST_MS),
            ("max-age=x", SHORTEST_MS),
        ] {
            assert_eq!(age(value), expected, "{value}");
        }
    }
}

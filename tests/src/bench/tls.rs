//! The door over HTTPS: the same client and the same calls as over plain HTTP, on two homes that are the same, and what a connection costs
//! that is new.

use std::sync::Arc;

use data_encoding::BASE64;
use rcgen::KeyPair;
use rustls::ClientConfig;

use super::doors::{ambit, printed, serve, tool};
use super::report::{Amount, Figure};
use super::rounds::{Medians, Work, whole};
use super::setting::Setting;
use super::{Measured, Pace};
use crate::certificates::{Authority, CONFIGURATION};
use crate::load::{Http, Tls};

/// ring makes no keys of RSA: this one is of tests, and nobody's.
const RSA: &str = include_str!("../../../host/server/src/identity/test_rsa_key.txt");

/// Subjects, in the order of each round.
const PLAIN: usize = 0;
const WITH_KEY: usize = 1;
const WITH_CERTIFICATE: usize = 2;

pub(super) fn https_one(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let (rounds, times, connections) = pace.pick((7, 300, 60), (1, 10, 3));
    let (own, prod) = (Authority::new(), Authority::new());
    let home = setting.again("home-https", CONFIGURATION)?;
    prod.put(&home);
    own.server(KeyPair::generate()?).put(&home);
    let (plain, plain_key) = serve(&setting.home())?;
    let (https, key) = serve(&home)?;
    let doors = Doors {
        plain: (plain.address(), &plain_key),
        https: (https.address(), &key),
        silent: own.client(None),
        shows: own.client(Some(&prod.workload())),
    };
    let (mut kept, mut fresh, mut rsa) = (Medians::new(), Medians::new(), Medians::new());
    let mut clients = (doors.plain()?, doors.with_key()?, doors.with_certificate()?);
    for _ in pace.rounds(rounds) {
        let (plain, with_key, with_certificate) = &mut clients;
        kept.round(times, vec![over(plain), over(with_key), over(with_certificate)])?;
        let all = vec![
            new(|| doors.plain()),
            new(|| doors.with_key()),
            new(|| doors.with_certificate()),
        ];
        fresh.round(connections, all)?;
    }
    // Another key for the same server, which is asked for by no other row: its rounds come last.
    own.server(rsa_key()?).put(&home);
    printed(ambit(&home, &["reload"]))?;
    for _ in 0..rounds {
        rsa.round(connections, vec![new(|| doors.with_key())])?;
    }
    let adds = |made: f64, subject: usize| Amount::Micros(made - kept.of(subject));
    let figure = Figure::of(Amount::Micros(kept.of(WITH_KEY)))
        .against(
            "the same over plain HTTP",
            Amount::Micros(kept.of(PLAIN)),
            kept.ratio(WITH_KEY, PLAIN),
        )
        .note(format!(
            "by a workload's certificate, which is verified with each request: {}",
            Amount::Micros(kept.of(WITH_CERTIFICATE))
        ))
        .note(format!(
            "a new connection adds {} over plain HTTP; with a full handshake, the client's share included, {} where the server's key is of \
             P-256, {} where it is of RSA (2048), {} with a workload's certificate",
            adds(fresh.of(PLAIN), PLAIN),
            adds(fresh.of(WITH_KEY), WITH_KEY),
            adds(rsa.of(0), WITH_KEY),
            adds(fresh.of(WITH_CERTIFICATE), WITH_CERTIFICATE)
        ));
    Ok(figure)
}

/// Two servers, and how they are reached.
struct Doors<'d> {
    /// Address and key.
    plain: (&'d str, &'d str),
    https: (&'d str, &'d str),
    /// A client that shows no certificate, and one that shows a workload's.
    silent: Arc<ClientConfig>,
    shows: Arc<ClientConfig>,
}

impl Doors<'_> {
    fn plain(&self) -> Measured<Http> {
        Ok(Http::connect(self.plain.0, self.plain.1)?)
    }

    fn with_key(&self) -> Measured<Http<Tls>> {
        Ok(Http::connect_tls(self.https.0, self.https.1, &self.silent)?)
    }

    /// Without a key: whoever shows one is whom that is of.
    fn with_certificate(&self) -> Measured<Http<Tls>> {
        Ok(Http::connect_tls(self.https.0, "", &self.shows)?)
    }
}

/// One more call over a connection.
fn over<S: std::io::Read + std::io::Write>(client: &mut Http<S>) -> Work<'_> {
    Box::new(|| {
        let (tool, arguments) = tool();
        Ok(client.call(tool, &arguments)?)
    })
}

/// The first call over a connection, with the connection.
fn new<'w, S: std::io::Read + std::io::Write>(connect: impl Fn() -> Measured<Http<S>> + 'w) -> Work<'w> {
    whole(move || {
        let (tool, arguments) = tool();
        let mut client = connect()?;
        client.call(tool, &arguments)?;
        Ok(client)
    })
}

fn rsa_key() -> Measured<KeyPair> {
    let der = BASE64.decode(RSA.replace('\n', "").as_bytes())?;
    Ok(KeyPair::try_from(der)?)
}

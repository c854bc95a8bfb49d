//! What other people made, against Ambit as it is served: official clients and the agents in `examples`, the conformance suite of the
//! protocol and its inspector, an OpenID provider, schemathesis, a receiver of telemetry and a Prometheus. See `tests/peers`.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use ambit_runtime::store::{Reader, verifier};
use ambit_tests::home::{Home, Run};
use ambit_tests::peers::repository;
use ambit_tests::service::{Request, Service};

use super::traps::Test;

mod agents;
mod conformance;
mod description;
mod inspector;
mod official;
mod openid;
mod snippets;
mod telemetry;

macro_rules! tests {
    ($($part:ident::$name:ident),* $(,)?) => { &[$((concat!("peers_", stringify!($name)), $part::$name)),*] };
}

pub(crate) const TESTS: &[Test] = tests![
    openid::an_openid_provider_says_who_an_agent_is,
    openid::the_official_client_finds_its_issuer_and_steps_up,
    conformance::the_conformance_suite_passes,
    description::the_api_is_as_it_describes_itself,
    agents::a_python_agent_refunds_over_stdio,
    agents::a_python_agent_refunds_over_http,
    agents::a_typescript_agent_refunds_over_stdio,
    agents::a_typescript_agent_refunds_over_http,
    agents::the_typescript_agent_is_well_typed,
    inspector::the_inspector_lists_and_calls,
    official::the_official_python_client_takes_it,
    snippets::every_agents_configuration_starts_a_server,
    telemetry::a_receiver_of_otlp_takes_all_of_it,
    telemetry::a_prometheus_scrapes_it_and_reads_its_alerts,
];

/// Added to the policy that the shipped tool comes with: above 50.00 somebody of finance has a say.
const DUAL_CONTROL: &str = r#"
@id("dual-control")
forbid (principal, action == Action::"commit", resource == Route::"stripe/refunds.create")
when { context.spend.kind == "known" && context.spend.minor > 5000 }
unless { context.approvals.finance >= 1 };
"#;

/// A home with the shipped payment tool, connected as it says itself to a service on this machine, and a person of finance.
struct Scene {
    home: Home,
    service: Service,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::with("")
    }

    /// With more of a configuration.
    fn with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start(&folder.path().join("service")).unwrap();
        let home = Home::make(&folder.path().join("home")).unwrap();
        let scene = Self { home, service, folder };
        let secret = scene.path("stripe.key");
        fs::write(&secret, &scene.service.token).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let shipped = |file: &str| fs::read_to_string(repository("tools/stripe").join(file)).unwrap();
        let origin = "origin = \"https://api.stripe.com\"\n";
        let moved = format!(
            "{origin}connect_to = \"127.0.0.1:{}\"\nca = \"{}\"\nallow_private = true\n",
            scene.service.port,
            scene.service.ca.display()
        );
        // Agents start the server themselves, and have no secret to give it.
        let credential = format!("credential = {{ file = \"{}\", as = \"bearer\" }}", secret.display());
        let connection = shipped("connection.toml").replace(origin, &moved);
        let connection = connection.replace("credential = { env = \"STRIPE_KEY\", as = \"bearer\" }", &credential);
        assert!(connection.contains(&credential) && connection.contains(&moved));
        let configuration = format!(
            "[agent.assistant]\nteam = \"support\"\ntenant = \"acme\"\nusers = [\"ada\"]\n\
             [group.reviewer]\nmembers = []\n[group.finance]\nmembers = [\"rita\"]\n\
             [tool.stripe.bind]\nstripe = \"stripe\"\n{connection}\n{more}"
        );
        scene.home.configure(&configuration).unwrap();
        scene
            .home
            .permit(&format!("{}{DUAL_CONTROL}", shipped("policy.cedar")))
            .unwrap();
        scene.home.add("stripe", "stripe").unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder of this name, made.
    fn place(&self, name: &str) -> PathBuf {
        let place = self.path(name);
        fs::create_dir_all(&place).unwrap();
        place
    }

    fn ambit(&self, arguments: &[&str]) -> Run {
        self.home.done(arguments).unwrap()
    }

    /// A key for the agent, acting for Ada.
    fn key(&self) -> String {
        let made = self.ambit(&["keys", "create", "--as", "assistant", "--for", "ada"]);
        made.out.trim().to_owned()
    }

    /// A person of finance with a key of her own; says where it is.
    fn enrol_rita(&self) -> String {
        let key = self.path("rita.key").display().to_string();
        let made = self.ambit(&["person", "key", "rita", "--output", &key]);
        self.ambit(&["person", "enrol", made.out.trim()]);
        key
    }

    fn requests(&self) -> Vec<Request> {
        self.service.requests().unwrap()
    }

    /// How many refunds arrived.
    fn refunds(&self) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.method == "POST")
            .count()
    }

    /// That the ledger is whole.
    fn in_order(&self) {
        let folder = self.home.folder();
        let verifier = verifier(folder).unwrap();
        Reader::open(folder).unwrap().verify(&verifier, &[], |_| {}).unwrap();
    }
}

/// What a program printed, where it ended well.
#[track_caller]
fn out(output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out
}

/// A file of `tests/peers`.
fn peer(name: &str) -> PathBuf {
    repository("tests/peers").join(name)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

//! What is driven, and what must hold of it beside that nothing panics. Where there is another implementation to compare
//! with, it is compared with that.

mod certificate;
mod files;
mod http;
mod json;
mod ledger;
mod manifest;
mod people;
mod replay;
mod scope;
mod token;
mod values;

use super::Target;

/// Every target.
pub const ALL: &[Target] = &[
    Target {
        name: "json",
        about: "JSON: one value for a text, one text for a value, and serde_json reads the same",
        drive: json::drive,
        words: json::WORDS,
        longest: 4096,
        seeds: none,
    },
    Target {
        name: "http",
        about: "requests: the bytes that are sent say exactly what was asked, by other decoders",
        drive: http::request,
        words: http::WORDS,
        longest: 4096,
        seeds: none,
    },
    Target {
        name: "answer",
        about: "answers: a guest sees nothing that is not among the fields it may read",
        drive: http::answer,
        words: http::ANSWER_WORDS,
        longest: 4096,
        seeds: none,
    },
    Target {
        name: "scope",
        about: "scopes: parse and print, and what two cover is what both cover",
        drive: scope::drive,
        words: scope::WORDS,
        longest: 4096,
        seeds: none,
    },
    Target {
        name: "entry",
        about: "ledger entries: the bytes that are read are those that are written",
        drive: ledger::entry,
        words: ledger::WORDS,
        longest: 8192,
        seeds: none,
    },
    Target {
        name: "note",
        about: "checkpoints: only what the key signed verifies",
        drive: ledger::note,
        words: ledger::WORDS,
        longest: 2048,
        seeds: none,
    },
    Target {
        name: "receipt",
        about: "receipts: only what is in the ledger is proved",
        drive: ledger::receipt,
        words: ledger::WORDS,
        longest: 16 << 10,
        seeds: none,
    },
    Target {
        name: "bundle",
        about: "exported entries: a bundle is its entries and nothing else",
        drive: ledger::bundle,
        words: &[],
        longest: 4096,
        seeds: ledger::bundles,
    },
    Target {
        name: "replay",
        about: "bundles to replay: what verifies is the ledger's, and is printed again as the same bytes",
        drive: replay::drive,
        words: replay::WORDS,
        longest: 32 << 10,
        seeds: replay::seeds,
    },
    Target {
        name: "said",
        about: "votes, edits and delegations: what is read is what the person signed, as one of the three",
        drive: people::said,
        words: people::SAID_WORDS,
        longest: 8192,
        seeds: people::all_said,
    },
    Target {
        name: "changes",
        about: "changes of an edit: one spelling, what is set is there, and what was there puts it back",
        drive: people::changes,
        words: people::CHANGES_WORDS,
        longest: 4096,
        seeds: people::all_changes,
    },
    Target {
        name: "operators",
        about: "lines of the operators' socket: nothing that is accepted was passed over",
        drive: people::operators,
        words: people::OPERATOR_WORDS,
        longest: 4096,
        seeds: people::requests,
    },
    Target {
        name: "token",
        about: "tokens of runs: what is read of one is written as the same, and one that is taken is the home's with nothing but less in it",
        drive: token::drive,
        words: token::WORDS,
        longest: 8192,
        seeds: token::seeds,
    },
    Target {
        name: "certificate",
        about: "certificates of workloads: an id that is found stands there, in its one spelling",
        drive: certificate::drive,
        words: certificate::WORDS,
        longest: 2048,
        seeds: certificate::seeds,
    },
    Target {
        name: "config",
        about: "ambit.toml: a configuration, or problems that can be shown",
        drive: files::config,
        words: files::CONFIG_WORDS,
        longest: 8192,
        seeds: files::configs,
    },
    Target {
        name: "lock",
        about: "tools.lock: what is read is written again as the same",
        drive: files::lock,
        words: files::LOCK_WORDS,
        longest: 2048,
        seeds: none,
    },
    Target {
        name: "policy",
        about: "policies: what loads decides, a forbid of everything denies, what does not load can be shown",
        drive: files::policy,
        words: files::POLICY_WORDS,
        longest: 4096,
        seeds: files::policies,
    },
    Target {
        name: "manifest",
        about: "components: a declaration that can be shown and compared, or a refusal",
        drive: manifest::drive,
        words: manifest::WORDS,
        longest: 64 << 10,
        seeds: manifest::seeds,
    },
    Target {
        name: "values",
        about: "arguments of any type: what is accepted comes back equal, and is what the schema accepts",
        drive: values::drive,
        words: &[],
        longest: 512,
        seeds: values::seeds,
    },
];

/// No seeds but the files.
fn none() -> Vec<Vec<u8>> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    /// Seeds that are made are of what is accepted: else their target would only see refusals.
    #[test]
    fn what_is_made_to_be_accepted_is() {
        for name in ["replay", "said", "changes", "operators", "token"] {
            let target = crate::fuzz::target(name).unwrap();
            let seeds = (target.seeds)();
            assert!(seeds.len() > 1, "{name}");
            for seed in seeds {
                assert!(seed.len() <= target.longest, "{name}");
                assert_eq!(
                    (target.drive)(&seed),
                    Ok(()),
                    "{name}: {}",
                    String::from_utf8_lossy(&seed)
                );
            }
        }
    }
}

//! Spells the one object that policy forbids in every way that a service might read the same.
ambit_sdk::generate!({ world: "ambit-tests:hostile-segments/tool" });
ambit_sdk::connection!(Stripe => stripe);

use ambit_sdk::http::Connection;
use guests_shared::told;

guests_shared::cases! {
    "permitted" => get("ch_1"),
    "forbidden" => get("ch_paris"),
    // The same text, written otherwise: policy must see what is sent.
    "encoded-letter" => get("ch_par%69s"),
    "encoded-underscore" => get("ch%5Fparis"),
    "all-encoded" => get("%63%68%5F%70%61%72%69%73"),
    // Another text. What policy permits is sent as it was decided on, and the service knows no such charge.
    "upper-case" => get("CH_PARIS"),
    "full-width" => get("ch_par%EF%BD%89s"),
    "dotless-i" => get("ch_par%C4%B1s"),
    "combining" => get("ch_pari%CC%87s"),
    "cyrillic" => get("ch_p%D0%B0ris"),
    "trailing-space" => get("ch_paris%20"),
    "trailing-dot" => get("ch_paris."),
    "plus" => get("+ch_paris"),
    // Nothing that a path should hold.
    "unencoded-letter" => get("ch_parıs"),
    "trailing-nul" => get("ch_paris%00"),
    "zero-width" => get("ch_%E2%80%8Bparis"),
    "direction" => get("%E2%80%AEsirap_hc"),
    "byte-order-mark" => get("%EF%BB%BFch_paris"),
    "encoded-twice" => get("ch_par%2569s"),
    "overlong" => get("ch_par%C1%A9s"),
    "parameter" => get("ch_paris;v=1"),
    "encoded-parameter" => get("ch_paris%3Bv=1"),
    "more-segments" => get("ch_1/ch_paris"),
    "full-width-slash" => get("ch_1%EF%BC%8Fch_paris"),
}

fn get(id: &str) -> Result<String, String> {
    told(Stripe.get(&format!("/v1/charges/{id}")))
}

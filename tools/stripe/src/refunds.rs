use crate::ambit::stripe::types::Failure;
use crate::exports::ambit::stripe::refunds::{Guest, Reason, Refund};
use crate::{Tool, number, object, text};
use ambit_sdk::http::{Method, Request, segment};
use ambit_sdk::json::Value;

impl Guest for Tool {
    fn create(charge: String, amount: Option<u64>, reason: Option<Reason>) -> Result<Refund, Failure> {
        let mut form = vec![("charge", charge)];
        form.extend(amount.map(|amount| ("amount", amount.to_string())));
        form.extend(reason.map(|reason| ("reason", word(reason).to_owned())));
        refund(&object(&Request::new(Method::Post, "/v1/refunds").form(form))?)
    }

    fn get(id: String) -> Result<Refund, Failure> {
        refund(&object(&Request::new(
            Method::Get,
            format!("/v1/refunds/{}", segment(&id)),
        ))?)
    }

    fn cancel(id: String) -> Result<Refund, Failure> {
        refund(&object(&Request::new(
            Method::Post,
            format!("/v1/refunds/{}/cancel", segment(&id)),
        ))?)
    }
}

fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Duplicate => "duplicate",
        Reason::Fraudulent => "fraudulent",
        Reason::RequestedByCustomer => "requested_by_customer",
    }
}

fn refund(object: &Value) -> Result<Refund, Failure> {
    Ok(Refund {
        id: text(object, "id")?,
        charge: text(object, "charge")?,
        amount: number(object, "amount")?,
        currency: text(object, "currency")?,
        status: text(object, "status")?,
    })
}

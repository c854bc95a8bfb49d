use crate::ambit::stripe::types::Failure;
use crate::exports::ambit::stripe::charges::{Charge, Guest};
use crate::{Tool, flag, number, object, text};
use ambit_sdk::http::{Method, Request, segment};

impl Guest for Tool {
    fn get(id: String) -> Result<Charge, Failure> {
        let charge = object(&Request::new(Method::Get, format!("/v1/charges/{}", segment(&id))))?;
        Ok(Charge {
            id: text(&charge, "id")?,
            amount: number(&charge, "amount")?,
            amount_refunded: number(&charge, "amount_refunded")?,
            currency: text(&charge, "currency")?,
            status: text(&charge, "status")?,
            refunded: flag(&charge, "refunded")?,
        })
    }
}

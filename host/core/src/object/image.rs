//! What an object is at one time, as far as its read route reads it.

use crate::effect::GuestResponse;
use crate::error::{Code, Refusal};
use crate::guard;
use crate::json::{Json, Limits, Object};

/// The longest ETag that is sent back, in bytes.
const LONGEST_ETAG: usize = 256;

/// An object as it was read: the value `effect/N/before` of the effect that changes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The members that are read of it; none where the service said that there is no such object.
    pub object: Option<Json>,
    /// Its version, where the route sends that back with `If-Match`.
    pub etag: Option<String>,
}

impl Image {
    /// What the service's answer says of the object. `with_etag` says that its version is wanted too.
    ///
    /// # Errors
    /// [`Code::Object`] where it says neither what the object is nor that there is none.
    pub fn of(answer: &GuestResponse, with_etag: bool, limits: Limits) -> Result<Image, Refusal> {
        let unread = |why: String| Err(Refusal::new(Code::Object, why));
        if matches!(answer.status, 404 | 410) {
            return Ok(Image::default());
        }
        if !guard!("object.read-status", (200..300).contains(&answer.status)) {
            return unread(format!("the service answered with status {}", answer.status));
        }
        let object = answer.body.as_deref().and_then(|body| Json::parse(body, limits).ok());
        let object = object.filter(|object| object.as_object().is_some());
        if !guard!("object.read-json", object.is_some()) {
            return unread("the service's answer is no JSON object".to_owned());
        }
        let etag = if with_etag { strong_etag(answer) } else { None };
        if !guard!("object.read-etag", etag.is_some() || !with_etag) {
            return unread(format!(
                "the route sends `If-Match`, and the service gave no strong ETag of at most {LONGEST_ETAG} bytes"
            ));
        }
        Ok(Image { object, etag })
    }

    /// As it is kept.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut members = Object::from([("object", self.object.clone().unwrap_or_default())]);
        if let Some(etag) = &self.etag {
            members.insert("etag", etag.as_str());
        }
        members.into()
    }

    /// Reads what was kept; none where it is no such thing.
    #[must_use]
    pub fn from_json(kept: &Json) -> Option<Image> {
        let etag = match kept.get("etag") {
            None => None,
            Some(etag) => Some(etag.as_str()?.to_owned()),
        };
        let object = match kept.get("object")? {
            Json::Null => None,
            object @ Json::Object(_) => Some(object.clone()),
            _ => return None,
        };
        Some(Image { object, etag })
    }
}

/// The one ETag of an answer, where it names one exact version: a weak one stands for several.
fn strong_etag(answer: &GuestResponse) -> Option<String> {
    let mut tags = answer.headers.iter().filter(|(name, _)| name == "etag");
    let (Some((_, tag)), None) = (tags.next(), tags.next()) else {
        return None;
    };
    let inside = tag.strip_prefix('"')?.strip_suffix('"')?;
    let plain = inside.bytes().all(|b| b == b'!' || (b'#'..=b'~').contains(&b));
    (plain && tag.len() <= LONGEST_ETAG).then(|| tag.clone())
}

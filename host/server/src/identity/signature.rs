//! Whether a signature is that of a key, by ring.

use ambit_core::guard;
use ambit_core::identity::jwk::PublicKey;
use ambit_core::identity::token::{Algorithm, Token};
use ambit_core::identity::why::{Denied, Why};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};

/// Verifies a token's signature with a key of its issuer.
///
/// The key decides what it is verified as: an algorithm that is not one of its kind verifies nothing, whatever was looked at before.
///
/// # Errors
/// [`Why::Signature`]
pub(super) fn verify(token: &Token<'_>, key: &PublicKey) -> Result<(), Denied> {
    let (signed, signature) = (token.signed.as_bytes(), token.signature.as_slice());
    let plain = |algorithm, key: &[u8]| UnparsedPublicKey::new(algorithm, key).verify(signed, signature).is_ok();
    let good = match (key, token.algorithm) {
        (PublicKey::Rsa { n, e }, algorithm) => rsa(algorithm).is_some_and(|parameters| {
            RsaPublicKeyComponents { n, e }
                .verify(parameters, signed, signature)
                .is_ok()
        }),
        (PublicKey::P256(point), Algorithm::Es256) => plain(&ECDSA_P256_SHA256_FIXED, point),
        (PublicKey::P384(point), Algorithm::Es384) => plain(&ECDSA_P384_SHA384_FIXED, point),
        (PublicKey::Ed25519(key), Algorithm::EdDsa) => {
            let verifying = UnparsedPublicKey::new(&ED25519, key);
            verifying.verify(signed, signature).is_ok()
        }
        _ => false,
    };
    if !guard!("identity.signature", good) {
        return Err(Denied::new(Why::Signature, "the token's signature is not its issuer's"));
    }
    Ok(())
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
        Algorithm::EdDsa | Algorithm::Es256 | Algorithm::Es384 => return None,
    })
}

#[cfg(test)]
mod tests {
    use ambit_core::identity::jwk::KeySet;

    use super::*;

    /// The tokens of the RFCs, with their keys.
    const RSA: (&str, &str) = (
        r#"{"keys":[{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}]}"#,
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    );
    const P256: (&str, &str) = (
        r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#,
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    );

    fn keys(text: &str) -> KeySet {
        KeySet::parse(text.as_bytes()).unwrap()
    }

    fn check(keys: &KeySet, text: &str) -> Result<(), Why> {
        let token = Token::parse(text).unwrap();
        let key = keys.find(token.algorithm, None).map_err(|denied| denied.why)?;
        verify(&token, key).map_err(|denied| denied.why)
    }

    #[test]
    fn the_rfcs_tokens_are_verified() {
        // RFC 7515, appendices A.2 and A.3.
        assert_eq!(check(&keys(RSA.0), RSA.1), Ok(()));
        assert_eq!(check(&keys(P256.0), P256.1), Ok(()));
        // RFC 8037, appendix A.4: what is signed there is no token.
        let key = [
            0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1,
            0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
        ];
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let token = Token {
            signed: "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            signature: data_encoding::BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap(),
            algorithm: Algorithm::EdDsa,
            kid: None,
            claims: ambit_core::json::Json::Null,
        };
        assert_eq!(verify(&token, &PublicKey::Ed25519(key.to_vec())), Ok(()));
    }

    #[test]
    fn a_changed_token_is_not_verified() {
        for (set, text) in [RSA, P256] {
            let (signed, signature) = text.rsplit_once('.').unwrap();
            // Another expiry, under the same signature.
            let other = signed.replace("OjEzMDA4MTkzODAs", "OjEzMDA4MTkzOTAs");
            assert_ne!(other, signed);
            assert_eq!(check(&keys(set), &format!("{other}.{signature}")), Err(Why::Signature));
            assert_eq!(check(&keys(set), &format!("{signed}.")), Err(Why::Signature));
            assert_eq!(
                check(&keys(set), &format!("{signed}.{}", "A".repeat(86))),
                Err(Why::Signature)
            );
        }
    }

    #[test]
    fn a_key_is_never_taken_for_one_of_another_kind() {
        let token = Token::parse(P256.1).unwrap();
        let rsa = keys(RSA.0);
        let rsa = rsa.find(Algorithm::Rs256, None).unwrap();
        assert!(verify(&token, rsa).is_err());
        let confused = Token {
            algorithm: Algorithm::Rs256,
            ..token.clone()
        };
        let point = keys(P256.0);
        let point = point.find(Algorithm::Es256, None).unwrap();
        assert!(verify(&confused, point).is_err());
        let PublicKey::P256(bytes) = point else {
            panic!("a point")
        };
        for other in [PublicKey::P384(bytes.clone()), PublicKey::Ed25519(bytes.clone())] {
            assert!(verify(&token, &other).is_err());
        }
    }
}

//! The documents by which clients find us: RFC 8414, its OpenID Connect form, RFC 9728.

use serde_json::json;

/// Algorithms that are accepted for `private_key_jwt`.
pub const ASSERTION_ALGORITHMS: [&str; 4] = ["EdDSA", "ES256", "RS256", "PS256"];

/// What the documents say.
#[derive(Clone, Debug)]
pub struct Server<'a> {
    /// The public URL, without a final slash.
    pub issuer: &'a str,
    /// Whether clients may register themselves.
    pub registration: bool,
    /// Whether clients may be named by their document.
    pub client_documents: bool,
    /// Grants that need no browser.
    pub machines: Machines,
    /// Scopes a client may ask for.
    pub scopes: &'a [&'a str],
}

/// Grants that need no browser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machines {
    /// Identity assertions of a company's provider (ID-JAG).
    pub id_jag: bool,
    /// RFC 6749 section 4.4.
    pub client_credentials: bool,
    /// RFC 8693.
    pub token_exchange: bool,
}

impl Machines {
    fn grant_types(self) -> Vec<&'static str> {
        let mut all = vec!["authorization_code", "refresh_token"];
        let more = [
            (self.id_jag, "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            (self.client_credentials, "client_credentials"),
            (self.token_exchange, "urn:ietf:params:oauth:grant-type:token-exchange"),
        ];
        all.extend(more.into_iter().filter_map(|(offered, name)| offered.then_some(name)));
        all
    }
}

impl Server<'_> {
    fn value(&self) -> serde_json::Value {
        let at = |path: &str| format!("{}{path}", self.issuer);
        let mut document = json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "revocation_endpoint": at("/revoke"),
            "scopes_supported": self.scopes,
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": self.machines.grant_types(),
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
            "revocation_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
            "revocation_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
            "code_challenge_methods_supported": [crate::pkce::METHOD],
            "authorization_response_iss_parameter_supported": true,
            "client_id_metadata_document_supported": self.client_documents,
        });
        if let (true, Some(map)) = (self.machines.id_jag, document.as_object_mut()) {
            let profiles = json!(["urn:ietf:params:oauth:grant-profile:id-jag"]);
            map.insert("authorization_grant_profiles_supported".to_owned(), profiles);
        }
        if let (true, Some(map)) = (self.registration, document.as_object_mut()) {
            map.insert("registration_endpoint".to_owned(), at("/register").into());
        }
        document
    }

    /// `/.well-known/oauth-authorization-server` (RFC 8414).
    pub fn oauth(&self) -> Vec<u8> {
        self.value().to_string().into_bytes()
    }

    /// `/.well-known/openid-configuration`: the same, with the members that OpenID Connect
    /// Discovery 1.0 section 3 requires and clients check, although no ID token is issued.
    pub fn openid(&self) -> Vec<u8> {
        let mut document = self.value();
        if let Some(map) = document.as_object_mut() {
            map.insert("jwks_uri".to_owned(), format!("{}/.well-known/jwks.json", self.issuer).into());
            map.insert("subject_types_supported".to_owned(), json!(["public"]));
            map.insert("id_token_signing_alg_values_supported".to_owned(), json!(["ES256"]));
        }
        document.to_string().into_bytes()
    }
}

/// `/.well-known/oauth-protected-resource` of one endpoint (RFC 9728 section 2).
pub fn protected_resource(resource: &str, issuer: &str, scopes: &[&str], name: Option<&str>) -> Vec<u8> {
    let mut document = json!({
        "resource": resource,
        "authorization_servers": [issuer],
        "scopes_supported": scopes,
        "bearer_methods_supported": ["header"],
    });
    if let (Some(name), Some(map)) = (name, document.as_object_mut()) {
        map.insert("resource_name".to_owned(), name.into());
    }
    document.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_documents_are_built_from_the_issuer_alone() {
        let server = Server {
            issuer: "https://h.example/gw",
            registration: true,
            client_documents: true,
            machines: Machines::default(),
            scopes: &["mcp:read"],
        };
        let read = |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
        let (oauth, openid) = (read(server.oauth()), read(server.openid()));
        for document in [&oauth, &openid] {
            assert_eq!(document["issuer"], "https://h.example/gw");
            assert_eq!(document["authorization_endpoint"], "https://h.example/gw/authorize");
            assert_eq!(document["registration_endpoint"], "https://h.example/gw/register");
            assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
            assert_eq!(document["authorization_response_iss_parameter_supported"], true);
            assert_eq!(document["client_id_metadata_document_supported"], true);
            assert_eq!(document["response_types_supported"], json!(["code"]));
        }
        assert!(openid["jwks_uri"].is_string() && openid["subject_types_supported"].is_array());
        assert_eq!(oauth["grant_types_supported"], json!(["authorization_code", "refresh_token"]));
        assert!(oauth.get("authorization_grant_profiles_supported").is_none());
        let machines = Machines { id_jag: true, client_credentials: true, token_exchange: true };
        let open = read(Server { machines, ..server.clone() }.oauth());
        assert_eq!(open["grant_types_supported"].as_array().unwrap().len(), 5);
        assert_eq!(
            open["authorization_grant_profiles_supported"],
            json!(["urn:ietf:params:oauth:grant-profile:id-jag"])
        );
        let closed = Server { registration: false, client_documents: false, ..server };
        let closed = read(closed.oauth());
        assert!(closed.get("registration_endpoint").is_none());
        assert_eq!(closed["client_id_metadata_document_supported"], false);
        let resource =
            read(protected_resource("https://h.example/gw/mcp", "https://h.example/gw", &["mcp:read"], Some("Tools")));
        assert_eq!(resource["resource"], "https://h.example/gw/mcp");
        assert_eq!(resource["authorization_servers"], json!(["https://h.example/gw"]));
        assert!(!resource["scopes_supported"].as_array().unwrap().contains(&json!("offline_access")));
    }
}

//! `urn:ietf:params:oauth:grant-type:jwt-bearer` with an identity assertion of the company's
//! provider: ID-JAG, draft-ietf-oauth-identity-assertion-authz-grant (A15).

use bartizan_config::resources::IdentityProvider;
use bartizan_oauth::jwt::{Claims, Typ};
use bartizan_oauth::params::Params;
use bartizan_oauth::scope::ScopeSet;
use bartizan_oauth::{OAuthCode, OAuthError, resource};
use bartizan_store::StoreError;
use bartizan_store::repo::person::{self, Person, SignIn};
use serde_json::Value;

use super::super::client::Client;
use super::super::client_auth::{Presented, invalid_client};
use super::super::secrets::{self, Pair};
use super::super::token::{From, check_target};
use super::super::{Inner, no_randomness, scope, unavailable};
use super::foreign::{Foreign, MAX, claimed_issuer};
use super::{Terms, Told};
use crate::facts::{KeptFacts, mfa_at};
use crate::login::claims;

/// `typ` of the assertion.
const TYP: &str = "oauth-id-jag+jwt";
/// Longest life of an assertion, seconds.
const LONGEST_S: i64 = 300;

impl Inner {
    pub(in super::super) async fn jwt_bearer(
        &self,
        params: &Params,
        client: &Presented,
        from: &mut From,
    ) -> Result<Pair, OAuthError> {
        let providers = self.trust()?.providers();
        if !providers.iter().any(|provider| provider.id_jag) {
            return Err(OAuthError::new(
                OAuthCode::UnsupportedGrantType,
                "no identity provider vouches for people here",
            ));
        }
        // A document is only fetched for who brings a good assertion.
        let mut known = None;
        if !self.is_documented(client.id()) {
            known = Some(self.confidential(client, from).await?);
        }
        let token = params
            .get("assertion")
            .ok_or_else(|| OAuthError::new(OAuthCode::InvalidRequest, "assertion is missing"))?;
        let issuer = Some(token).filter(|token| token.len() <= MAX).and_then(claimed_issuer);
        let issuer = issuer.ok_or_else(|| from.refuse("malformed"))?;
        let vouches = |provider: &&IdentityProvider| provider.id_jag && provider.issuer == issuer;
        let provider = providers.iter().find(vouches).ok_or_else(|| from.refuse("issuer"))?;
        from.provider = Some(provider.id.clone());
        let foreign = Foreign {
            token,
            issuer: &provider.issuer,
            jwks_uri: None,
            audience: &self.deps.issuer,
            typ: Typ::Exactly(TYP),
            longest_s: LONGEST_S,
        };
        let said = self.believe(&foreign, from).await?;
        if said.text("client_id") != Some(client.id()) {
            return Err(from.refuse("client_id"));
        }
        if said.text("jti").is_none() {
            return Err(from.refuse("jti"));
        }
        let known = match known {
            Some(known) => known,
            None => self.confidential(client, from).await?,
        };
        let resource = self.resource_of(&said, from)?;
        check_target(params, &resource)?;
        let scopes = self.scopes_of(&said, params, from)?;
        let person = self.person_of(provider, &said, providers.len() > 1, from).await?;
        self.use_up(&foreign, &said, from).await?;
        let told = self.vouched(provider, &person, &said);
        let terms = Terms {
            client_name: known.name.clone(),
            client_kind: known.kind.as_str().to_owned(),
            resource,
            scopes,
            provider: provider.id.clone(),
            agent: None,
        };
        let pair = self.issue_alone(&person, &known.id, terms, &told, None).await?;
        self.note_issued(&person.id, &known.id, from.peer, "id-jag").await;
        Ok(pair)
    }

    /// A client that proves itself; a public one must not get anything by an assertion that
    /// it may have found.
    async fn confidential(&self, client: &Presented, from: &From) -> Result<Client, OAuthError> {
        if client.proves_nothing() {
            return Err(invalid_client());
        }
        let known = self.authenticate_client(client, from.peer).await?;
        if known.is_public() { Err(invalid_client()) } else { Ok(known) }
    }

    /// The one resource of the assertion, which must be ours. An assertion without one is for
    /// servers that have only one.
    fn resource_of(&self, said: &Claims, from: &mut From) -> Result<String, OAuthError> {
        let text = match said.get("resource") {
            Some(Value::String(one)) => Some(one.as_str()),
            Some(Value::Array(list)) => match list.as_slice() {
                [Value::String(one)] => Some(one.as_str()),
                _ => None,
            },
            _ => None,
        };
        let canonical = text.and_then(resource::canonical).filter(|url| (self.deps.resources)(url));
        canonical.ok_or_else(|| from.refuse("resource"))
    }

    /// What the client asks for, as far as the provider granted it and it exists.
    fn scopes_of(&self, said: &Claims, params: &Params, from: &mut From) -> Result<String, OAuthError> {
        let granted = match said.get("scope") {
            // The provider leaves it to us.
            None => self.scopes.clone(),
            Some(Value::String(text)) => {
                scope::known(&ScopeSet::parse(text).map_err(|_| from.refuse("scope"))?, &self.scopes)
            }
            Some(_) => return Err(from.refuse("scope")),
        };
        let scopes = scope::within(&self.wanted(params.get("scope"))?, &granted);
        if scopes.is_empty() { Err(from.refuse("scope")) } else { Ok(scopes.to_string()) }
    }

    /// The person, by issuer and subject as at a sign-in. Who is not known yet, and whose
    /// groups may be others now, is taken over when the assertion tells address and groups:
    /// without its groups a person could do what a rule forbids to a group.
    async fn person_of(
        &self,
        provider: &IdentityProvider,
        said: &Claims,
        several: bool,
        from: &mut From,
    ) -> Result<Person, OAuthError> {
        let store = &self.deps.store;
        let subject = said.text("sub").ok_or_else(|| from.refuse("sub"))?;
        let known = person::by_subject(store, &provider.issuer, subject).await.map_err(|error| unavailable(&error))?;
        if known.as_ref().is_some_and(|person| person.deactivated_ms.is_some()) {
            return Err(from.refuse("deactivated"));
        }
        let tells = |name: &str| said.get(name).is_some_and(|value| !value.is_null());
        if !(tells(&provider.claims.email) && tells(&provider.claims.groups)) {
            return known.ok_or_else(|| from.refuse("this person has to sign in once"));
        }
        let who = claims::person(provider, said, None, several).map_err(|problem| from.refuse(problem.code))?;
        // An assertion that was made before the person was last heard of tells older groups.
        let made_ms = said.seconds("iat").unwrap_or_default().saturating_mul(1000);
        if let Some(known) = known.filter(|known| made_ms <= known.signed_in_ms) {
            return Ok(known);
        }
        let groups = serde_json::to_string(&who.groups).map_err(|_| from.refuse("groups"))?;
        let new = SignIn {
            new_id: &secrets::id().ok_or_else(no_randomness)?,
            issuer: &provider.issuer,
            subject,
            provider: &provider.id,
            email: &who.email,
            name: &who.name,
            groups_json: &groups,
        };
        match person::sign_in(store, &new).await {
            Ok(Some(person)) => Ok(person),
            Ok(None) => Err(from.refuse("deactivated")),
            Err(StoreError::Conflict) => Err(from.refuse("address_taken")),
            Err(error) => Err(unavailable(&error)),
        }
    }

    fn vouched(&self, provider: &IdentityProvider, person: &Person, said: &Claims) -> Told {
        let auth_time_ms = said.seconds("auth_time").map_or(0, |seconds| seconds.saturating_mul(1000));
        let (amr, acr) = (claims::amr(said), claims::acr(said));
        let mfa_at_ms = mfa_at(provider, auth_time_ms, &amr, acr.as_deref(), self.now());
        Told {
            auth_time_ms,
            amr,
            acr,
            groups: serde_json::from_str(&person.groups_json).unwrap_or_default(),
            kept: KeptFacts { mfa_at_ms, ..KeptFacts::default() },
        }
    }
}

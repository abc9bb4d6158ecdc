//! What a person does with a link of [`StepUps`](crate::StepUps) (A16, A17): see what is
//! asked, go to the provider that the grant was made with, come back as the same person.

use std::net::IpAddr;

use http::StatusCode;

use super::{Ask, DEMO, Inner, Login, problem};
use crate::event::{Action, IdentityEvent};
use crate::login::BrowserSession;
use crate::problem::PageProblem;
use crate::server::step_up::{Opened, StepUpError, Want};

/// The most that a provider is asked as `max_age`, seconds: 366 days, also where any age does,
/// because only with `max_age` must it say when the sign-in was (OpenID Connect Core §2).
const LONGEST_S: u32 = 366 * 86_400;

/// What the page shows. Texts are plain: the page escapes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUpView {
    /// The tool, server or portal that wants it.
    pub about: String,
    /// What the client of the grant calls itself.
    pub client_name: String,
    /// Name of the provider that will be asked.
    pub provider_name: String,
    /// What is asked.
    pub want: Want,
}

/// What comes after the person's word.
#[derive(Debug)]
pub enum StepUpNext {
    /// It is done; back to the client.
    Done(StepUpView),
    /// To the provider, with this, and back with [`ReturnTo::StepUp`](super::ReturnTo::StepUp).
    Provider(Ask),
    /// It does not go on.
    Problem(PageProblem),
}

impl Login {
    /// What a link asks for. Nothing happens yet.
    ///
    /// # Errors
    /// A problem to show.
    pub async fn step_up(&self, handle: &str, session: &BrowserSession) -> Result<StepUpView, PageProblem> {
        let opened = self.inner.opened(handle, session, self.peer).await?;
        self.inner.view(&opened)
    }

    /// The person goes on; the caller has checked that the form came from a page of this
    /// session. `purpose` is the text they wrote, if one was asked for.
    pub async fn step_up_go(&self, handle: &str, session: &BrowserSession, purpose: Option<&str>) -> StepUpNext {
        let gone = async {
            let opened = self.inner.opened(handle, session, self.peer).await?;
            let view = self.inner.view(&opened)?;
            self.inner.go(&opened, view, session, purpose, self.peer).await
        };
        gone.await.unwrap_or_else(StepUpNext::Problem)
    }

    /// Back from the provider with a new session.
    ///
    /// # Errors
    /// A problem to show; the grant is as it was.
    pub async fn step_up_return(&self, handle: &str, session: &BrowserSession) -> Result<StepUpView, PageProblem> {
        let opened = self.inner.opened(handle, session, self.peer).await?;
        let view = self.inner.view(&opened)?;
        self.inner.proved(&opened, session, self.peer).await.map(|()| view)
    }
}

impl Inner {
    async fn opened(
        &self,
        handle: &str,
        session: &BrowserSession,
        peer: Option<IpAddr>,
    ) -> Result<Opened, PageProblem> {
        self.limits.check(peer, self.now())?;
        let opened = self.step_ups.open(handle, session).await;
        opened.map_err(|error| {
            let problem = refusal(error);
            if problem.code == "other_person" {
                self.limits.failed(peer, &session.person.email, self.now());
                self.note_step_up(None, session, peer, false, problem.code.to_owned());
            }
            problem
        })
    }

    fn view(&self, opened: &Opened) -> Result<StepUpView, PageProblem> {
        let providers = (self.deps.providers)();
        let provider = providers.iter().find(|provider| provider.id == opened.provider);
        let provider_name = match provider {
            Some(provider) => provider.name.clone().unwrap_or_else(|| provider.id.clone()),
            None if opened.provider == DEMO => DEMO.to_owned(),
            None => return Err(problem::no_provider()),
        };
        Ok(StepUpView {
            about: opened.step_up.about.clone(),
            client_name: opened.client_name.clone(),
            provider_name,
            want: opened.step_up.want.clone(),
        })
    }

    async fn go(
        &self,
        opened: &Opened,
        view: StepUpView,
        session: &BrowserSession,
        purpose: Option<&str>,
        peer: Option<IpAddr>,
    ) -> Result<StepUpNext, PageProblem> {
        let Want::Mfa { max_age_s, acr } = &opened.step_up.want else {
            let text = purpose.unwrap_or_default();
            let kept = self.step_ups.state_purpose(opened, session, text).await.map_err(|error| match error {
                StepUpError::NotEnough => bad_purpose(),
                other => refusal(other),
            })?;
            self.note_step_up(Some(opened), session, peer, true, format!("purpose: {kept}"));
            return Ok(StepUpNext::Done(view));
        };
        // The sign-in that led here may have been all that is asked for.
        if self.step_ups.is_met(opened, session) {
            self.proved(opened, session, peer).await?;
            return Ok(StepUpNext::Done(view));
        }
        if opened.provider == DEMO {
            return Err(not_enough());
        }
        // With the factor on it, only its age counts, and `max_age` says that. Without, a
        // provider that remembers the person would answer the same again.
        let facts = session.facts();
        let has_class = acr.as_deref().is_none_or(|acr| facts.acr.as_deref() == Some(acr));
        let renew = facts.mfa_at_ms.is_none() || !has_class;
        Ok(StepUpNext::Provider(Ask {
            provider: Some(opened.provider.clone()),
            max_age_s: Some((*max_age_s).min(LONGEST_S).into()),
            acr_values: acr.iter().cloned().collect(),
            prompt: renew.then(|| "login".to_owned()),
            same_person: Some((session.person.issuer.clone(), session.person.subject.clone())),
        }))
    }

    async fn proved(&self, opened: &Opened, session: &BrowserSession, peer: Option<IpAddr>) -> Result<(), PageProblem> {
        let proved = self.step_ups.prove(opened, session).await.map_err(refusal);
        let note = match &proved {
            Ok(()) => "second factor proved".to_owned(),
            Err(problem) => problem.code.to_owned(),
        };
        self.note_step_up(Some(opened), session, peer, proved.is_ok(), note);
        proved
    }

    fn note_step_up(
        &self,
        opened: Option<&Opened>,
        session: &BrowserSession,
        peer: Option<IpAddr>,
        ok: bool,
        note: String,
    ) {
        let mut event = IdentityEvent::new(self.now(), Action::StepUp, ok);
        event.person = Some(session.person.email.clone());
        event.groups.clone_from(&session.person.groups);
        event.provider = Some(session.provider.clone());
        event.client = opened.map(|opened| opened.client_id.clone());
        event.ip = peer;
        event.note = Some(match opened.map(|opened| opened.step_up.about.as_str()).filter(|about| !about.is_empty()) {
            Some(about) => format!("{note}; for {about}"),
            None => note,
        });
        (self.deps.record)(event);
    }
}

fn page(status: StatusCode, code: &'static str, title: &str, text: &str) -> PageProblem {
    PageProblem::new(status, code, title, text)
}

fn refusal(error: StepUpError) -> PageProblem {
    match error {
        StepUpError::Store(error) => problem::store(&error),
        StepUpError::NotEnough => not_enough(),
        // Whose it is stays unsaid.
        StepUpError::OtherPerson => page(
            StatusCode::FORBIDDEN,
            "other_person",
            "This link is for somebody else",
            "It was made for another person than the one who is signed in here. Nothing was done.",
        )
        .hint("If it was sent to you by somebody, tell your administrator."),
        StepUpError::Gone => page(
            StatusCode::BAD_REQUEST,
            "link_expired",
            "This link is no longer good",
            "It was used already, is older than ten minutes, or the access it was for has ended.",
        )
        .hint("Go back to your application and try again there."),
    }
}

fn not_enough() -> PageProblem {
    page(
        StatusCode::FORBIDDEN,
        "not_enough",
        "That was not enough",
        "The identity provider confirmed who you are, but not with the second factor that is asked for.",
    )
    .hint("Open the link again and use your second factor. If you have none, ask your administrator.")
}

fn bad_purpose() -> PageProblem {
    page(
        StatusCode::BAD_REQUEST,
        "bad_purpose",
        "Please say what for",
        "The text must have 1 to 500 characters. Nothing was done.",
    )
    .hint("Go back and write it again.")
}

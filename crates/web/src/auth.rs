//! Who calls and what they may do. The tenant comes from the token and from nowhere else (PRODUCT, law 4).

use crate::problem::Problem;
use crate::routes::App;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use model::TenantId;

/// Whoever a verified token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant, from the token only.
    pub tenant: TenantId,
    /// What they may do.
    pub role: Role,
    /// Who they are: written to the audit.
    pub sub: String,
}

/// The roles of CONTRACT. All but [`Role::Admin`] may do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything of its tenant; alone: config, its test, discarding a dead letter, links of patients.
    Admin,
    /// Patients, observations, sync, pull, runs, deliveries, replay, status.
    Oncologist,
    /// See [`Role::Oncologist`].
    Doctor,
    /// See [`Role::Oncologist`].
    NurseChief,
    /// See [`Role::Oncologist`].
    Nurse,
    /// See [`Role::Oncologist`].
    Coordinator,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Admin, Self::Oncologist, Self::Doctor, Self::NurseChief, Self::Nurse, Self::Coordinator];

    /// The word in the token.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Admin => "ADMIN",
            Self::Oncologist => "ONCOLOGIST",
            Self::Doctor => "DOCTOR",
            Self::NurseChief => "NURSE_CHIEF",
            Self::Nurse => "NURSE",
            Self::Coordinator => "COORDINATOR",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    /// All words, for a sentence.
    pub(crate) fn words() -> String {
        Self::ALL.map(Self::word).join(", ")
    }
}

impl Principal {
    /// Whether they may do what only an administrator may.
    ///
    /// # Errors
    /// 403 that names the role.
    pub(crate) fn must_be_admin(&self) -> Result<(), Problem> {
        if self.role == Role::Admin {
            return Ok(());
        }
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", format!("This takes the role ADMIN; the token has {}.", self.role.word())))
    }
}

/// The door of `/api/v1`: nothing behind it is reached without a verified token, nor faster than its tenant may.
pub(crate) async fn door(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let token = match bearer(request.headers()) {
        Ok(token) => token,
        Err(problem) => return problem.into_response(),
    };
    let verified = app.api.verifier.verify(token).await;
    match verified.and_then(|who| app.rate.take(&who.tenant).map(|()| who)) {
        Ok(who) => {
            tracing::Span::current().record("tenant_id", who.tenant.as_str());
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// The one bearer token of the request (RFC 6750 §2.1); the scheme's case does not matter.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let Some(first) = given.next() else {
        return Err(Problem::unauthorized(false, "This needs a bearer token in the Authorization header."));
    };
    let wrong = || Problem::unauthorized(true, "The Authorization header must hold one bearer token: `Bearer <token>`.");
    if given.next().is_some() {
        return Err(wrong());
    }
    let (scheme, token) = first.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(wrong)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() { Ok(token) } else { Err(wrong()) }
}

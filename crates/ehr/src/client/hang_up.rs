//! A create whose line we cut on purpose: what the write probe learns from is what the EHR does then.

use super::{Call, Draft, Ehr, IF_NONE_EXIST};
use crate::reply::{Interaction, Outcome, classify};
use crate::transport::LastCheck;
use fhir::search::if_none_exist;
use http::{HeaderValue, Method};
use model::{Class, EhrId};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// From the moment at which the body is taken until the line is cut: enough for the bytes to leave the machine.
const UNTIL_THE_CUT: Duration = Duration::from_millis(3);

/// Where a create goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way<'a> {
    /// `PUT` of our own id.
    OwnId(&'a EhrId),
    /// `POST`, conditional by `(system, value)` if given.
    Post(Option<(&'a str, &'a str)>),
}

impl Ehr {
    /// Sends a create and cuts the line as soon as its bytes have left. `None`: cut without an answer; else the answer was
    /// quicker, or nothing left.
    pub(crate) async fn create_and_hang_up(&self, resource_type: &str, body: String, way: Way<'_>, call: &Call) -> Option<Outcome> {
        let (mut draft, interaction) = match way {
            Way::OwnId(id) => {
                (Draft::write(Method::PUT, self.url(&[resource_type, id.as_str()]), body), self.own_id_create(resource_type, id))
            }
            Way::Post(condition) => (
                Draft::write(Method::POST, self.url(&[resource_type]), body),
                match condition {
                    Some(_) => self.conditional_create(resource_type),
                    None => Interaction::PlainCreate { resource_type: resource_type.to_owned() },
                },
            ),
        };
        if let Way::Post(Some((system, value))) = way {
            let Ok(header) = HeaderValue::from_str(&if_none_exist(system, value)) else {
                return Some(Outcome::ours(Class::Mapping, "Our identifier cannot stand in an HTTP header."));
            };
            draft.headers.insert(IF_NONE_EXIST, header);
        }
        let token = match &self.token_settings {
            Some(settings) => match self.tokens.current(settings).await {
                Ok(token) => Some(token),
                Err(error) => return Some(*super::no_token(&error)),
            },
            None => None,
        };
        let (left, gone) = oneshot::channel();
        let left = Mutex::new(Some(left));
        let leaves: LastCheck = Arc::new(move || {
            if let Some(left) = left.lock().unwrap_or_else(PoisonError::into_inner).take() {
                let _ = left.send(());
            }
            true
        });
        let call = Call { only_if: Some(leaves), ..call.clone() };
        let mut request = match self.request(&draft, true, &call, token.as_deref()).await {
            Ok(request) => request,
            Err(outcome) => return Some(*outcome),
        };
        // Sent like a read, so that the socket goes when we do.
        request.effect = false;
        let cut = async {
            match gone.await {
                Ok(()) => tokio::time::sleep(UNTIL_THE_CUT).await,
                // Nothing leaves any more: the exchange ends by itself.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            sent = self.transport.send(request) => Some(classify(&interaction, &sent, self.clock.now())),
            () = cut => None,
        }
    }
}

//! `TokenService`.

use std::time::{Duration, SystemTime};

use bty_api::registry::v1::{
    CreateTokenRequest, CreateTokenResponse, ListTokensRequest, ListTokensResponse,
    RevokeTokenRequest, RevokeTokenResponse, Role, token_service_server::TokenService,
};
use tonic::{Request, Response, Status};

use super::{Shared, machines::machine_name};
use crate::{
    access::Tokens,
    problem::Problem,
    record::{NewEvent, Token},
    view,
};

/// Tokens that may exist.
const MOST: usize = 1000;

/// The service.
#[derive(Debug)]
pub(crate) struct TokenKeeper(pub(crate) Shared);

#[tonic::async_trait]
impl TokenService for TokenKeeper {
    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let actor = self.0.actor(&request)?;
        let request = request.into_inner();
        let role = request.role();
        if role == Role::Unspecified {
            return Err(Problem::Missing("role").into());
        }
        if request.name.is_empty() {
            return Err(Problem::Missing("name").into());
        }
        let name = machine_name(&request.name)?;
        let now = SystemTime::now();
        let expires_at = request.lifetime.map(|lifetime| end(now, lifetime)).transpose()?;
        let (secret, hash) = Tokens::make_secret().map_err(|problem| {
            Status::internal(format!("the kernel gives no random bytes: {problem}"))
        })?;
        let token = Token { name, role, hash, created_at: now, expires_at, last_used_at: None };
        let recorded = token.clone();
        let recording = self.0.store.write(move |transaction| {
            if transaction.tokens()?.len() >= MOST {
                return Err(Problem::Full(format!("there are {MOST} tokens already: revoke some")));
            }
            if !transaction.insert_token(&recorded)? {
                return Err(Problem::TokenExists(recorded.name));
            }
            let message = format!("made the token {:?} for {}", recorded.name, called(role));
            Ok(transaction.event(NewEvent {
                kind: "token.created",
                actor,
                message,
                ..NewEvent::default()
            })?)
        });
        recording.await?;
        self.0.tokens.add(token.clone());
        Ok(Response::new(CreateTokenResponse { token: Some(view::token(&token)), secret }))
    }

    async fn list_tokens(
        &self,
        _: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        let tokens = self.0.store.read(|snapshot| Ok::<_, Problem>(snapshot.tokens()?)).await?;
        Ok(Response::new(ListTokensResponse { tokens: tokens.iter().map(view::token).collect() }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let actor = self.0.actor(&request)?;
        let name = request.into_inner().name;
        let revoked = name.clone();
        let recording = self.0.store.write(move |transaction| {
            if !transaction.delete_token(&revoked)? {
                return Err(Problem::NoToken(revoked));
            }
            let message = format!("revoked the token {revoked:?}");
            Ok(transaction.event(NewEvent {
                kind: "token.revoked",
                actor,
                message,
                ..NewEvent::default()
            })?)
        });
        recording.await?;
        self.0.tokens.remove(&name);
        Ok(Response::new(RevokeTokenResponse {}))
    }
}

fn called(role: Role) -> &'static str {
    match role {
        Role::Admin => "an admin",
        Role::Operator => "an operator",
        Role::Viewer | Role::Unspecified => "a viewer",
    }
}

fn end(now: SystemTime, lifetime: prost_types::Duration) -> Result<SystemTime, Problem> {
    Duration::try_from(lifetime)
        .ok()
        .filter(|lifetime| !lifetime.is_zero())
        .and_then(|lifetime| now.checked_add(lifetime))
        .ok_or_else(|| {
            Problem::value("lifetime", "it is not above zero, or ends after time itself")
        })
}

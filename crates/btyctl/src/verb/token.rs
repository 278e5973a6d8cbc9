//! `btyctl token`.

use bty_api::registry::v1::{
    CreateTokenRequest, ListTokensRequest, ListTokensResponse, RevokeTokenRequest,
    Role as WireRole, token_service_client::TokenServiceClient,
};
use prost_types::Duration;

use crate::{
    arguments::{Role, Token},
    connection::Connection,
    failure::Failure,
    output::{Output, table, time, word},
};

const DAY_SECONDS: i64 = 86_400;

pub(crate) async fn run(
    verb: Token,
    connection: &Connection,
    output: Output,
) -> Result<(), Failure> {
    let mut client = TokenServiceClient::new(connection.registry());
    match verb {
        Token::Create { name, role, days } => {
            let role = match role {
                Role::Admin => WireRole::Admin,
                Role::Operator => WireRole::Operator,
                Role::Viewer => WireRole::Viewer,
            };
            let lifetime =
                days.map(|days| Duration { seconds: i64::from(days) * DAY_SECONDS, nanos: 0 });
            let request = CreateTokenRequest { name, role: role.into(), lifetime };
            let created = client.create_token(request).await?.into_inner();
            if !output.is_json() {
                eprintln!(
                    "The token is shown this once. Use it with BTY_TOKEN, or as 'authorization: Bearer TOKEN'."
                );
            }
            output.show(&created, |created| created.secret.clone())
        }
        Token::List => {
            let tokens = client.list_tokens(ListTokensRequest {}).await?.into_inner();
            output.show(&tokens, list)
        }
        Token::Revoke { name } => {
            let revoked =
                client.revoke_token(RevokeTokenRequest { name: name.clone() }).await?.into_inner();
            output.show(&revoked, |_| format!("the token {name} is revoked"))
        }
    }
}

fn list(tokens: &ListTokensResponse) -> String {
    if tokens.tokens.is_empty() {
        return "no tokens; make one: btyctl token create NAME".to_owned();
    }
    let rows = tokens.tokens.iter().map(|token| {
        [
            token.name.clone(),
            word(token.role().as_str_name(), "ROLE_"),
            time(token.created_at.as_ref()),
            time(token.expires_at.as_ref()),
            time(token.last_used_at.as_ref()),
        ]
    });
    table(["NAME", "ROLE", "MADE", "ENDS", "LAST USED"], rows)
}

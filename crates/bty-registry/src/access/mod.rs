//! Who may call what.
//!
//! At the unix door the kernel says who calls: the daemons by their system users, operators by their group. At the TCP door a
//! token says it. What each [`Role`] may do is one table ([`roles`]), judged against every method of the contract by a test.

mod roles;
mod tokens;
mod users;

use std::sync::Arc;

use bty_service::door::{Caller, Gatekeeper};
use tonic::Status;

pub(crate) use roles::{Role, authorize};
pub(crate) use tokens::Tokens;
pub use users::UserNames;
pub(crate) use users::Users;

/// Stands at both doors.
#[derive(Debug)]
pub(crate) struct Access {
    users: Users,
    tokens: Arc<Tokens>,
}

impl Access {
    /// With these users and tokens.
    pub(crate) fn new(users: Users, tokens: Arc<Tokens>) -> Self {
        Self { users, tokens }
    }

    /// What this caller is.
    fn role(&self, caller: &Caller) -> Option<Role> {
        match caller {
            Caller::Local { uid, gid } => self.users.role(*uid, *gid),
            Caller::Bearer { role, .. } => Role::of_bearer(role),
        }
    }

    /// How events call this caller.
    pub(crate) fn actor(&self, caller: &Caller) -> String {
        match caller {
            Caller::Local { uid, gid } => match self.users.role(*uid, *gid).and_then(Role::program)
            {
                Some(program) => program.to_owned(),
                None => format!("operator {}", users::name(*uid)),
            },
            Caller::Bearer { name, .. } => format!("operator {name}"),
        }
    }
}

impl Gatekeeper for Access {
    fn admit(&self, caller: &Caller, method: &str) -> Result<(), Status> {
        let Some(role) = self.role(caller) else {
            return Err(Status::permission_denied(
                "this user is no operator of bty: add it to the group that operators_group names, or use sudo",
            ));
        };
        if authorize(role, method) {
            return Ok(());
        }
        Err(Status::permission_denied(format!("{method} is not for {}", role.called())))
    }

    fn bearer(&self, token: &str) -> Result<Caller, Status> {
        self.tokens.bearer(token).ok_or_else(|| {
            Status::unauthenticated("the token is not known, was revoked or has expired")
        })
    }
}

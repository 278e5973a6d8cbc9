//! Who the users of this machine are to bty.

use std::{
    collections::HashMap,
    ffi::CString,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use serde::{Deserialize, Serialize};

use super::Role;

/// For so long a user counts as an operator or not without asking the system again.
const REMEMBERED: Duration = Duration::from_mins(1);
/// Users that are remembered.
const MOST: usize = 256;

/// The system users of the daemons: `[registry.users]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserNames {
    /// bty-dhcp's.
    pub dhcp: String,
    /// bty-tftp's.
    pub tftp: String,
    /// bty-httpd's.
    pub httpd: String,
    /// bty-flasher's.
    pub flasher: String,
}

impl Default for UserNames {
    fn default() -> Self {
        Self {
            dhcp: "bty-dhcp".into(),
            tftp: "bty-tftp".into(),
            httpd: "bty-httpd".into(),
            flasher: "bty-flasher".into(),
        }
    }
}

/// Users by number, and the group of operators.
#[derive(Debug)]
pub(crate) struct Users {
    own: u32,
    daemons: HashMap<u32, Role>,
    operators: Option<Gid>,
    remembered: Mutex<HashMap<u32, (bool, Instant)>>,
}

impl Users {
    /// Looks the names up. A user or group that does not exist is nobody.
    pub(crate) fn resolve(names: &UserNames, operators_group: &str) -> Self {
        let roles = [
            (&names.dhcp, Role::Dhcp),
            (&names.tftp, Role::Tftp),
            (&names.httpd, Role::Httpd),
            (&names.flasher, Role::Flasher),
        ];
        let daemons = roles
            .into_iter()
            .filter_map(|(name, role)| Some((User::from_name(name).ok()??.uid.as_raw(), role)))
            .collect();
        Self {
            own: Uid::effective().as_raw(),
            daemons,
            operators: Group::from_name(operators_group).ok().flatten().map(|group| group.gid),
            remembered: Mutex::default(),
        }
    }

    /// What a user is. The daemons are members of the operators' group too, for the sake of the sockets: that makes none of
    /// them an operator.
    pub(crate) fn role(&self, uid: u32, gid: u32) -> Option<Role> {
        if uid == 0 || uid == self.own {
            return Some(Role::Root);
        }
        if let Some(&role) = self.daemons.get(&uid) {
            return Some(role);
        }
        self.is_operator(uid, gid).then_some(Role::Operator)
    }

    fn is_operator(&self, uid: u32, gid: u32) -> bool {
        let Some(operators) = self.operators else { return false };
        if gid == operators.as_raw() {
            return true;
        }
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((is_operator, at)) = remembered.get(&uid)
            && at.elapsed() < REMEMBERED
        {
            return *is_operator;
        }
        if remembered.len() >= MOST {
            remembered.clear();
        }
        let is_operator = groups(uid).contains(&operators);
        remembered.insert(uid, (is_operator, Instant::now()));
        is_operator
    }
}

/// The groups of a user; none where there is no such user.
fn groups(uid: u32) -> Vec<Gid> {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return Vec::new() };
    let Ok(name) = CString::new(user.name) else { return Vec::new() };
    getgrouplist(&name, user.gid).unwrap_or_default()
}

/// A user's name, or its number where it has none.
pub(super) fn name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_are_known_by_their_users_and_strangers_are_nobody() {
        // Users that every Debian has stand for the daemons'.
        let names = UserNames {
            dhcp: "daemon".into(),
            httpd: "no-such-user".into(),
            ..UserNames::default()
        };
        let users = Users::resolve(&names, "no-such-group");
        let daemon = User::from_name("daemon").unwrap().unwrap().uid.as_raw();
        assert_eq!(users.role(0, 0), Some(Role::Root));
        assert_eq!(users.role(Uid::effective().as_raw(), 4711), Some(Role::Root));
        assert_eq!(users.role(daemon, 0), Some(Role::Dhcp));
        assert_eq!(users.role(65_000, 65_000), None);
    }

    #[test]
    fn members_of_the_group_are_operators_but_daemons_stay_daemons() {
        let names = UserNames { tftp: "daemon".into(), ..UserNames::default() };
        let users = Users::resolve(&names, "daemon");
        let group = Group::from_name("daemon").unwrap().unwrap().gid.as_raw();
        let daemon = User::from_name("daemon").unwrap().unwrap().uid.as_raw();
        assert_eq!(users.role(65_000, group), Some(Role::Operator));
        assert_eq!(users.role(daemon, group), Some(Role::Tftp));
        assert_eq!(users.role(65_000, 65_000), None);
    }
}

//! One module a noun: what each verb asks, and how people see the answer.

pub(crate) mod dhcp;
pub(crate) mod event;
pub(crate) mod image;
pub(crate) mod machine;
pub(crate) mod receipt;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod token;

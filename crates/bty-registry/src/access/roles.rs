//! What each role may do.

/// What a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// root, and the registry's own user: everything.
    Root,
    /// The bearer of a token for everything that a person does.
    Admin,
    /// A person who runs the lab: everything but tokens.
    Operator,
    /// The bearer of a token for reading.
    Viewer,
    /// bty-dhcp.
    Dhcp,
    /// bty-tftp.
    Tftp,
    /// bty-httpd.
    Httpd,
    /// bty-flasher on the appliance.
    Flasher,
}

/// Sorts of methods that are allowed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Reads machines, runs, receipts or events.
    Read,
    /// Reads images.
    ReadImages,
    /// Says how the daemon itself is.
    Status,
    /// Changes machines, images or the daemon.
    Change,
    /// Makes and ends tokens.
    Tokens,
    /// Is for the boot path.
    Boot,
    /// Speaks for a machine.
    Agent,
    /// Is another daemon's.
    Elsewhere,
}

impl Role {
    /// The role in a token, as [`super::Tokens`] writes it.
    pub(super) fn of_bearer(role: &str) -> Option<Self> {
        match role {
            "admin" => Some(Self::Admin),
            "operator" => Some(Self::Operator),
            "viewer" => Some(Self::Viewer),
            _ => None,
        }
    }

    /// The program that has this role by itself.
    pub(super) const fn program(self) -> Option<&'static str> {
        match self {
            Self::Dhcp => Some("bty-dhcp"),
            Self::Tftp => Some("bty-tftp"),
            Self::Httpd => Some("bty-httpd"),
            Self::Flasher => Some("bty-flasher"),
            Self::Root | Self::Admin | Self::Operator | Self::Viewer => None,
        }
    }

    /// What a refusal calls it.
    pub(super) const fn called(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Admin => "an admin's token",
            Self::Operator => "an operator",
            Self::Viewer => "a viewer's token",
            Self::Dhcp => "bty-dhcp",
            Self::Tftp => "bty-tftp",
            Self::Httpd => "bty-httpd",
            Self::Flasher => "bty-flasher",
        }
    }
}

/// Whether this role may call this method (`/bty.registry.v1.MachineService/ListMachines`). What is not known, nobody may.
pub(crate) fn authorize(role: Role, method: &str) -> bool {
    let Some(sort) = sort(method) else { return false };
    match role {
        Role::Root => true,
        Role::Admin => !matches!(sort, Sort::Agent | Sort::Elsewhere),
        Role::Operator => {
            matches!(sort, Sort::Read | Sort::ReadImages | Sort::Status | Sort::Change)
        }
        Role::Viewer => matches!(sort, Sort::Read | Sort::ReadImages | Sort::Status),
        Role::Dhcp | Role::Tftp => sort == Sort::Boot,
        Role::Httpd => {
            matches!(sort, Sort::Boot | Sort::Agent | Sort::Read | Sort::ReadImages | Sort::Status)
        }
        Role::Flasher => sort == Sort::ReadImages,
    }
}

fn sort(method: &str) -> Option<Sort> {
    let (service, name) = method.strip_prefix("/bty.")?.split_once('/')?;
    match (service, name) {
        (
            "registry.v1.MachineService",
            "ListMachines" | "GetMachine" | "ExplainMachine" | "WatchMachines",
        )
        | ("registry.v1.RunService", "ListRuns" | "GetRun" | "WatchRuns")
        | ("registry.v1.ReceiptService", "GetReceipt" | "GetReceiptKey")
        | ("registry.v1.EventService", "ListEvents" | "WatchEvents") => Some(Sort::Read),
        (
            "registry.v1.ImageService",
            "ListImages" | "GetImage" | "DiffImages" | "DownloadImage" | "GetUsage",
        ) => Some(Sort::ReadImages),
        ("admin.v1.AdminService", "GetStatus" | "GetConfig" | "GetMetrics") => Some(Sort::Status),
        ("registry.v1.MachineService", "UpdateMachine" | "DeleteMachine")
        | (
            "registry.v1.ImageService",
            "ImportImage" | "UploadImage" | "CaptureImage" | "TagImage" | "DeleteImage"
            | "VerifyImage" | "PruneImages",
        )
        | ("admin.v1.AdminService", "SetLogFilter") => Some(Sort::Change),
        ("registry.v1.TokenService", "CreateToken" | "ListTokens" | "RevokeToken") => {
            Some(Sort::Tokens)
        }
        ("registry.v1.BootService", "WatchBoot" | "ReportContacts") => Some(Sort::Boot),
        ("agent.v1.AgentService", "CheckIn" | "ReportProgress" | "Finish") => Some(Sort::Agent),
        (
            "dhcp.v1.DhcpService"
            | "tftp.v1.TftpService"
            | "httpd.v1.HttpdService"
            | "flasher.v1.FlasherService",
            _,
        ) => Some(Sort::Elsewhere),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// Every method of the contract, with its service's area.
    fn methods() -> Vec<String> {
        let contract = prost_types::FileDescriptorSet::decode(bty_api::DESCRIPTORS).unwrap();
        let mut methods = Vec::new();
        for file in &contract.file {
            for service in &file.service {
                for method in &service.method {
                    methods.push(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        assert!(methods.len() > 20, "the descriptors are read: {methods:?}");
        methods
    }

    #[test]
    fn every_method_of_the_contract_is_sorted() {
        for method in methods() {
            assert!(sort(&method).is_some(), "say in access/roles.rs who may call {method}");
        }
    }

    #[test]
    fn each_role_may_call_exactly_these() {
        let allowed = |role| -> Vec<String> {
            let methods = methods().into_iter().filter(|method| authorize(role, method));
            methods.map(|method| method.rsplit('/').next().unwrap().to_owned()).collect()
        };
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        let want = |names: &[&str]| sorted(names.iter().map(|&name| name.to_owned()).collect());
        let boot = ["WatchBoot", "ReportContacts"];
        let images = ["ListImages", "GetImage", "DiffImages", "DownloadImage", "GetUsage"];
        let read = [
            "ListMachines",
            "GetMachine",
            "ExplainMachine",
            "WatchMachines",
            "ListRuns",
            "GetRun",
            "WatchRuns",
            "GetReceipt",
            "GetReceiptKey",
            "ListEvents",
            "WatchEvents",
        ];
        let status = ["GetStatus", "GetConfig", "GetMetrics"];
        let change = [
            "UpdateMachine",
            "DeleteMachine",
            "ImportImage",
            "UploadImage",
            "CaptureImage",
            "TagImage",
            "DeleteImage",
            "VerifyImage",
            "PruneImages",
            "SetLogFilter",
        ];
        let tokens = ["CreateToken", "ListTokens", "RevokeToken"];
        let agent = ["CheckIn", "ReportProgress", "Finish"];
        assert_eq!(sorted(allowed(Role::Dhcp)), want(&boot));
        assert_eq!(sorted(allowed(Role::Tftp)), want(&boot));
        assert_eq!(sorted(allowed(Role::Flasher)), want(&images));
        let httpd = [&boot[..], &agent, &read, &images, &status].concat();
        assert_eq!(sorted(allowed(Role::Httpd)), want(&httpd));
        let viewer = [&read[..], &images, &status].concat();
        assert_eq!(sorted(allowed(Role::Viewer)), want(&viewer));
        let operator = [&viewer[..], &change].concat();
        assert_eq!(sorted(allowed(Role::Operator)), want(&operator));
        let admin = [&operator[..], &tokens, &boot].concat();
        assert_eq!(sorted(allowed(Role::Admin)), want(&admin));
        assert_eq!(
            allowed(Role::Root),
            methods().iter().map(|method| method.rsplit('/').next().unwrap()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_is_not_known_nobody_may() {
        for method in [
            "",
            "/",
            "/bty.registry.v1.MachineService/",
            "/bty.registry.v1.MachineService/Reboot",
            "/x.Y/Z",
        ] {
            assert!(!authorize(Role::Root, method), "{method}");
        }
    }
}

//! On a LAN of two network namespaces, where clients have MAC addresses and cables have an MTU.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    process::Command,
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Duration,
};

use bty_api::{
    registry::v1::{
        Contact, ReportContactsRequest, ReportContactsResponse, WatchBootRequest,
        WatchBootResponse,
        boot_service_server::{BootService, BootServiceServer},
    },
    types::v1::{BootPath, Stage},
};
use nix::sched::{CloneFlags, setns};
use tokio::net::UnixListener;
use tokio_stream::{Pending, wrappers::UnixListenerStream};
use tonic::{Request, Response, Status};

use crate::{
    client::{Client, Packet, rrq},
    server::{DEADLINE, Server},
};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 69, 1);
const CLIENT_MAC: &str = "52:54:00:77:69:02";

/// Two namespaces with a cable between them; gone when it is dropped.
struct Lan(String);

impl Lan {
    fn new() -> Self {
        let lan = Self(format!("bty-tftp-{}", std::process::id()));
        let (server, client) = (lan.server(), lan.client());
        for namespace in [&server, &client] {
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        ip(&format!(
            "-n {server} link add lan mtu 1400 type veth peer name lan mtu 1400 netns {client}"
        ));
        ip(&format!("-n {client} link set lan address {CLIENT_MAC}"));
        for (namespace, address) in [(&server, "10.77.69.1"), (&client, "10.77.69.2")] {
            ip(&format!("-n {namespace} address add {address}/24 brd + dev lan"));
            ip(&format!("-n {namespace} link set lan up"));
        }
        lan
    }

    fn server(&self) -> String {
        format!("{}-server", self.0)
    }

    fn client(&self) -> String {
        format!("{}-client", self.0)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for namespace in [self.server(), self.client()] {
            let _ = Command::new("ip").args(["netns", "del", &namespace]).status();
        }
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(
        output.status.success(),
        "ip {arguments}: {output:?}; this test needs root and iproute2"
    );
}

/// Runs on a thread of its own, in a namespace.
fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A registry that only listens.
struct Registry(Sender<Contact>);

#[tonic::async_trait]
impl BootService for Registry {
    type WatchBootStream = Pending<Result<WatchBootResponse, Status>>;

    async fn watch_boot(
        &self,
        _: Request<WatchBootRequest>,
    ) -> Result<Response<Self::WatchBootStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }

    async fn report_contacts(
        &self,
        request: Request<ReportContactsRequest>,
    ) -> Result<Response<ReportContactsResponse>, Status> {
        for contact in request.into_inner().contacts {
            self.0.send(contact).unwrap();
        }
        Ok(Response::new(ReportContactsResponse {}))
    }
}

/// Listens as the registry on a thread that ends with the test.
fn registry(server: &Server) -> Receiver<Contact> {
    let folder = server.run_dir().join("registry");
    fs::create_dir_all(&folder).unwrap();
    let (contacts, reported) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = UnixListener::bind(folder.join("api.sock")).unwrap();
            let service = BootServiceServer::new(Registry(contacts));
            let listening = tonic::transport::Server::builder().add_service(service);
            listening.serve_with_incoming(UnixListenerStream::new(socket)).await.unwrap();
        });
    });
    reported
}

#[test]
fn on_a_lan_blocks_fit_the_cable_and_the_registry_hears_of_boot_programs() {
    let lan = Lan::new();
    let server = inside(&lan.server(), || Server::with(&["tftp.listen=\"0.0.0.0:0\""]));
    let reported = registry(&server);
    let address = SocketAddrV4::new(SERVER, server.address.port());
    let want = server.write_bytes("x64/snponly.efi", 170_000);
    server.write_bytes("autoexec.ipxe", 10);

    inside(&lan.client(), || {
        let client = Client::at(address, Ipv4Addr::UNSPECIFIED);
        // MTU 1400 leaves 1368 bytes beside the headers of IPv4, UDP and TFTP.
        let oack = client.ask("x64/snponly.efi", &[("blksize", "1468")]);
        assert_eq!(oack, Packet::Oack("blksize\x001368\0".into()));

        let client = Client::at(address, Ipv4Addr::UNSPECIFIED);
        let options = [("blksize", "1468"), ("windowsize", "16")];
        assert!(client.fetch("autoexec.ipxe", &options, || false).is_ok());
        assert!(client.fetch("x64/snponly.efi", &options, || false).is_ok_and(|got| got == want));

        // RFC 1123 §4.2.3.4: a request to a broadcast address is ignored.
        let everybody = SocketAddrV4::new(Ipv4Addr::new(10, 77, 69, 255), address.port());
        let shouting = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        shouting.set_broadcast(true).unwrap();
        shouting.send_to(&rrq("x64/snponly.efi", &[]), everybody).unwrap();
        shouting.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(shouting.recv(&mut [0; 2000]).is_err(), "a broadcast was answered");
    });

    let contact = reported.recv_timeout(DEADLINE).expect("the registry was told nothing");
    let wanted = Contact {
        mac: CLIENT_MAC.into(),
        sequence: 1,
        at: contact.at,
        stage: Stage::BootProgram.into(),
        address: "10.77.69.2".into(),
        path: BootPath::Pxe.into(),
        detail: "fetched x64/snponly.efi by TFTP".into(),
        ..Contact::default()
    };
    assert_eq!(contact, wanted);
}
